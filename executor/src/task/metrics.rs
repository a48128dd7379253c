//! What the operators of a plan measured, as a report carries it.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use volley_proto::OperatorMetrics;

/// The metrics of every operator that has any, summed over its partitions; operators are numbered in pre-order.
pub fn operator_metrics(plan: &Arc<dyn ExecutionPlan>) -> Vec<OperatorMetrics> {
    let mut operators = Vec::new();
    collect(plan, &mut 0, &mut operators);
    operators
}

fn collect(plan: &Arc<dyn ExecutionPlan>, next: &mut u32, operators: &mut Vec<OperatorMetrics>) {
    let index = *next;
    *next += 1;
    let values = plan.metrics().map(|metrics| sums(&metrics)).unwrap_or_default();
    if !values.is_empty() {
        operators.push(OperatorMetrics { index, values });
    }
    for child in plan.children() {
        collect(child, next, operators);
    }
}

fn sums(metrics: &MetricsSet) -> Vec<(String, u64)> {
    let mut sums = BTreeMap::new();
    for metric in metrics.iter() {
        add(metric.value(), &mut sums);
    }
    // A zero says nothing that a missing value does not, except of rows: "none came" differs from "not counted".
    sums.retain(|name, value| *value > 0 || name == "output_rows");
    sums.into_iter().collect()
}

fn add(value: &MetricValue, sums: &mut BTreeMap<String, u64>) {
    let mut put = |name: String, value: usize| *sums.entry(name).or_default() += value as u64;
    match value {
        // A moment is no amount.
        MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) => {}
        MetricValue::PruningMetrics { name, pruning_metrics } => {
            put(format!("{name}_pruned"), pruning_metrics.pruned());
            put(format!("{name}_matched"), pruning_metrics.matched());
        }
        MetricValue::Ratio { name, ratio_metrics } => {
            put(format!("{name}_part"), ratio_metrics.part());
            put(format!("{name}_total"), ratio_metrics.total());
        }
        other => put(other.name().to_owned(), other.as_usize()),
    }
}
