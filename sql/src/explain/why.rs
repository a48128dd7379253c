//! Why a stage's rows move: what the operator that reads them needs.

use std::sync::Arc;

use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use volley_proto::StageId;

use crate::build_keys::BuildKeysExec;
use crate::exchange::{Exchange, ExchangeReadExec};
use crate::graph::{Stage, StageGraph};
use crate::leaf::LeafExec;

/// Who reads a stage's rows, and what for; one line for each reader.
pub(super) fn why(graph: &StageGraph, producer: &Stage) -> Vec<String> {
    let id = producer.shape.id;
    if id == graph.root() {
        return vec!["to the client".into()];
    }
    let mut reasons = vec![];
    for stage in graph.stages.iter().filter(|stage| stage.shape.inputs.iter().any(|input| input.producer == id)) {
        let mut search = Search { producer: id, output: &producer.output, reasons: vec![] };
        search.below(&stage.plan, &mut vec![]);
        reasons.extend(search.reasons.into_iter().map(|reason| format!("to {}: {reason}", stage.shape.id)));
    }
    reasons
}

struct Search<'a> {
    producer: StageId,
    output: &'a Exchange,
    reasons: Vec<&'static str>,
}

impl Search<'_> {
    /// `path` are the operators above `node` and which input of each leads to it, the root first.
    fn below(&mut self, node: &Arc<dyn ExecutionPlan>, path: &mut Vec<(Arc<dyn ExecutionPlan>, usize)>) {
        let reader = node.downcast_ref::<LeafExec>().and_then(|leaf| leaf.leaf().downcast_ref::<ExchangeReadExec>());
        if reader.is_some_and(|reader| reader.producer() == self.producer) {
            let reason = path.iter().rev().find_map(|(above, place)| needs(above, *place, self.output));
            self.reasons.push(reason.unwrap_or_else(|| otherwise(self.output)));
        }
        for (place, child) in node.children().into_iter().enumerate() {
            path.push((Arc::clone(node), place));
            self.below(child, path);
            path.pop();
        }
    }
}

/// What an operator wants with the rows of its input number `place`; `None` where it takes them as they come.
fn needs(node: &Arc<dyn ExecutionPlan>, place: usize, output: &Exchange) -> Option<&'static str> {
    let whole = matches!(output, Exchange::Broadcast);
    let one = node.output_partitioning().partition_count() == 1 && matches!(output, Exchange::Gather);
    if node.is::<BuildKeysExec>() {
        // Its first input is what it hands on.
        return (place > 0).then_some("its scans leave out what has no match among these keys");
    }
    if node.is::<HashJoinExec>() {
        return Some(match (whole, place) {
            (true, _) => "every task joins with all of it, which is small",
            (false, 0) => "rows of equal keys meet in a join, as its build side",
            (false, _) => "rows of equal keys meet in a join, as its probe side",
        });
    }
    if node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>() {
        return Some("every task joins with all of it");
    }
    if node.is::<AggregateExec>() {
        return Some(if one { "one task puts the groups of all together" } else { "rows of a group meet" });
    }
    if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return Some(if one { "a window looks at all rows" } else { "rows of a window's partition meet" });
    }
    if node.is::<SortPreservingMergeExec>() {
        return Some("one task merges what is sorted");
    }
    if node.is::<SortExec>() && matches!(output, Exchange::Range { .. }) {
        return Some("each range is sorted by itself");
    }
    if node.is::<GlobalLimitExec>() {
        return Some("one task counts the rows of all");
    }
    node.is::<UnionExec>().then_some("an input of a union that is split in another way than the others")
}

fn otherwise(output: &Exchange) -> &'static str {
    match output {
        Exchange::Hash { .. } => "rows of equal keys meet",
        Exchange::Range { .. } => "rows of a range meet",
        Exchange::RoundRobin { .. } => "rows are spread evenly",
        Exchange::Gather => "one task needs all rows",
        Exchange::Broadcast => "every task needs all rows",
    }
}
