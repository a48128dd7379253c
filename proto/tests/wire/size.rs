//! Messages stay small at scale: what repeats is named once.

use prost::Message;
use volley_proto::wire::control::v1 as control;
use volley_proto::{AttemptLocation, ExecutorId, Incarnation, InputLocations, OperatorMetrics, StageId, TaskMetrics, TaskSpec};

use crate::values;

#[test]
fn an_input_costs_some_bytes_for_each_producer_and_names_each_executor_once() {
    let location = |task: u32| AttemptLocation {
        task,
        attempt: 0,
        executor: ExecutorId::new(format!("executor-{}.cluster.local", task % 100)),
        incarnation: Incarnation(u64::MAX),
        address: format!("executor-{}.cluster.local:50061", task % 100).into(),
    };
    let input = InputLocations { producer: StageId(0), attempts: (0..10_000).map(location).collect() };
    let spec = TaskSpec { inputs: vec![input], ..values::task_spec() };
    let len = control::TaskSpec::from(spec).encoded_len();
    assert!(len < 10_000 * 2 + 100 * 90, "{len} bytes");
}

#[test]
fn metrics_name_each_metric_once() {
    let names = ["output_rows", "elapsed_compute", "spilled_bytes", "spill_count", "output_bytes"];
    let operator = |index| OperatorMetrics { index, values: names.iter().map(|name| ((*name).to_owned(), 1_000)).collect() };
    let metrics = TaskMetrics { operators: (0..100).map(operator).collect(), ..TaskMetrics::default() };
    let len = control::TaskMetrics::from(metrics).encoded_len();
    assert!(len < 100 * 5 * 5, "{len} bytes");
}
