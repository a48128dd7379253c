//! A join one of whose sides has no row makes none: what its other side would have read is not made.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::HashJoinExec;
use volley_proto::{StageId, StageInput, StageShape};

use super::super::slices;
use super::broadcast::dropped;
use super::inputs::{Numbered, exchange_below, numbered, reads};
use super::limits::Limits;
use super::progress::Progress;
use crate::codec::TaskBindings;
use crate::graph::{Stage, StageGraph};
use crate::leaf::LeafExec;

/// The stage without joins of which no row comes, in one task, and the stages that nobody reads any more; `None` where all of these have
/// started, or the stage has other work to do.
pub(super) fn emptied(graph: &StageGraph, stage: &Stage, progress: &Progress, limits: &Limits) -> Result<Option<Vec<Stage>>> {
    let [plan] = stage.plan.children()[..] else { return Ok(None) };
    let mut without_rows = None;
    let emptied = Arc::clone(plan).transform_down(|node| {
        let Some(empty) = node.downcast_ref::<HashJoinExec>().and_then(|join| empty_side(join, progress)) else {
            return Ok(Transformed::no(node));
        };
        without_rows = Some(empty);
        let nothing = EmptyExec::new(node.schema()).with_partitions(node.output_partitioning().partition_count());
        Ok(Transformed::new(Arc::new(LeafExec::new(0, Arc::new(nothing))), true, TreeNodeRecursion::Jump))
    })?;
    let Some(empty) = without_rows else { return Ok(None) };
    let Numbered { plan, inputs, leaves } = numbered(emptied.data, &reads([stage]))?;
    let unread = unread(graph, stage, &inputs, progress);
    if unread.is_empty() || !reads_little(graph, &inputs, progress, limits) {
        return Ok(None);
    }
    let partitions = plan.output_partitioning().partition_count();
    let tasks = vec![TaskBindings::new(0, partitions, slices::all_contents(&plan, leaves)?)];
    let shape = StageShape { inputs, tasks: 1, slots_per_task: 1, ..stage.shape.clone() };
    let plan = replace_children_if_necessary(Arc::clone(&stage.plan), vec![plan])?;
    let adapted = Some(format!("a join makes no rows: {empty} has none"));
    let mut stages: Vec<_> =
        unread.iter().map(|id| dropped(&graph.stages[id.0 as usize], format!("{empty} has no row to join with"))).collect();
    stages.push(Stage { shape, plan, tasks, adapted, ..stage.clone() });
    Ok(Some(stages))
}

/// The input without which the join makes no row, if that has none.
fn empty_side(join: &HashJoinExec, progress: &Progress) -> Option<StageId> {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let needs_left = matches!(join.join_type(), Inner | Left | LeftSemi | LeftAnti | LeftMark | RightSemi);
    let needs_right = matches!(join.join_type(), Inner | Right | RightSemi | RightAnti | RightMark | LeftSemi);
    [(join.left(), needs_left), (join.right(), needs_right)].into_iter().find_map(|(side, is_needed)| {
        let reader = exchange_below(side).filter(|_| is_needed)?;
        let partitions = reader.partitions().iter().flatten().collect::<BTreeSet<_>>().len();
        progress.is_empty(reader.producer(), partitions).then(|| reader.producer())
    })
}

/// The stages that have not started and that nobody reads when `stage` reads `inputs` alone.
fn unread(graph: &StageGraph, stage: &Stage, inputs: &[StageInput], progress: &Progress) -> BTreeSet<StageId> {
    let mut unread = BTreeSet::new();
    // Consumers come after what they read.
    for other in graph.stages.iter().rev().filter(|other| other.shape.id < stage.shape.id && !other.tasks.is_empty()) {
        let id = other.shape.id;
        let is_read = graph.stages.iter().any(|reader| {
            let reads = if reader.shape.id == stage.shape.id { inputs } else { &reader.shape.inputs };
            !unread.contains(&reader.shape.id) && reads.iter().any(|input| input.producer == id)
        });
        if !is_read && !progress.is_started(id) {
            unread.insert(id);
        }
    }
    unread
}

/// Whether one task reads what is left in a moment.
fn reads_little(graph: &StageGraph, inputs: &[StageInput], progress: &Progress, limits: &Limits) -> bool {
    let came = |input: &StageInput| {
        let partitions = graph.stages.get(input.producer.0 as usize)?.shape.output_partitions as usize;
        Some(progress.came(input.producer, partitions)?.bytes)
    };
    let bytes: Option<u64> = inputs.iter().map(came).sum();
    bytes.is_some_and(|bytes| bytes <= limits.tiny_bytes)
}
