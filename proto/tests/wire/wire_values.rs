//! Messages that are used as they are on the wire: reports, and Arrow Flight's own.

use std::collections::BTreeMap;

use bytes::Bytes;
use volley_proto::wire::client::v1::*;
use volley_proto::wire::flight::*;

use crate::sample::{Sample, plain};

fn job_report() -> JobReport {
    let operator = OperatorReport {
        index: 1,
        depth: 1,
        name: "AggregateExec".into(),
        detail: "AggregateExec: mode=Partial".into(),
        metrics: vec![MetricReport { name: "output_rows".into(), value: 10 }],
    };
    let stage = StageReport {
        stage: 1,
        inputs: vec![StageInputReport { producer: 0, streaming: true, broadcast: false }],
        output: "Hash(l_orderkey) 8".into(),
        partitions: 8,
        tasks: 4,
        tasks_running: 1,
        tasks_done: 3,
        attempts: 6,
        attempts_failed: 1,
        reruns: 1,
        raced: 2,
        longest_poll_ns: 19,
        adapted: "1 partition in 1 task".into(),
        rows: 1000,
        bytes: 80_000,
        cpu_ns: 11,
        wait_ns: 12,
        spilled_bytes: 13,
        exchange_local_bytes: 14,
        exchange_flight_bytes: 15,
        elapsed_ns: 16,
        operators: vec![operator],
    };
    JobReport {
        job: 7,
        state: JobState::Failed.into(),
        error: "divide by zero".into(),
        statement: "SELECT 1/0".into(),
        session: "s-1".into(),
        principal: "ada".into(),
        queue: "default".into(),
        submitted_ms: 1_700_000_000_000,
        queued_ns: 1,
        planning_ns: 2,
        elapsed_ns: 3,
        result_rows: 4,
        stages: vec![stage],
    }
}

fn executor_report() -> ExecutorReport {
    ExecutorReport {
        executor: "e1".into(),
        incarnation: 11,
        address: "10.0.0.1:50061".into(),
        build_id: "0.1.0".into(),
        state: ExecutorState::Suspect.into(),
        slots: 8,
        busy_slots: 3,
        memory_bytes: 4 << 30,
        memory_used_bytes: 1 << 30,
        store_bytes: 1 << 20,
        spilled_bytes: 7,
        cpu_ns: 2_500_000_000,
        peak_resident_bytes: 5 << 30,
    }
}

/// Session options of every type.
pub(crate) fn session_options() -> BTreeMap<String, SessionOptionValue> {
    use session_option_value::{OptionValue, StringListValue};
    let list = OptionValue::StringListValue(StringListValue { values: vec!["a".into(), "b".into()] });
    let options = [
        ("bool", Some(OptionValue::BoolValue(true))),
        ("catalog", Some(OptionValue::StringValue("tpch".into()))),
        ("double", Some(OptionValue::DoubleValue(0.5))),
        ("int", Some(OptionValue::Int64Value(-2))),
        ("list", Some(list)),
        ("unset", None),
    ];
    options.into_iter().map(|(name, option_value)| (name.to_owned(), SessionOptionValue { option_value })).collect()
}

/// A sample of every message that has no domain type.
pub(crate) fn samples() -> Vec<Sample> {
    let error = set_session_options_result::Error { value: set_session_options_result::ErrorValue::InvalidName.into() };
    let prepared = sql::ActionCreatePreparedStatementResult {
        prepared_statement_handle: Bytes::from_static(b"handle"),
        dataset_schema: Bytes::new(),
        parameter_schema: Bytes::from_static(b"schema"),
        is_update: Some(false),
    };
    let stage = job_report().stages.remove(0);
    vec![
        plain("client/JobReport", job_report()),
        plain("client/StageReport", stage),
        plain("client/JobList", JobList { jobs: vec![JobReport { stages: Vec::new(), ..job_report() }] }),
        plain("client/JobRequest", JobRequest { job: 7 }),
        plain("client/JobsRequest", JobsRequest { limit: 20 }),
        plain("client/ExecutorsRequest", ExecutorsRequest {}),
        plain("client/ExecutorList", ExecutorList { executors: vec![executor_report()] }),
        plain("client/CancelResult", CancelResult { state: JobState::Cancelled.into() }),
        plain("flight/SetSessionOptionsRequest", SetSessionOptionsRequest { session_options: session_options() }),
        plain("flight/SetSessionOptionsResult", SetSessionOptionsResult { errors: BTreeMap::from([("nope".to_owned(), error)]) }),
        plain("flight/GetSessionOptionsRequest", GetSessionOptionsRequest {}),
        plain("flight/GetSessionOptionsResult", GetSessionOptionsResult { session_options: session_options() }),
        plain("flight/CloseSessionRequest", CloseSessionRequest {}),
        plain("flight/CloseSessionResult", CloseSessionResult { status: close_session_result::Status::Closed.into() }),
        plain("flight_sql/ActionCreatePreparedStatementResult", prepared),
    ]
}
