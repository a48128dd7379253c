//! Pass 9: which nodes are where data must move. Pure decisions; the cut acts on them.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use super::size;
use crate::exchange::Exchange;
use crate::leaf::{LeafExec, file_scan};

/// Bytes up to which the scan of a build side is done again in every task rather than once and sent: a stage of its own
/// costs more.
const REPLICATED_BYTES: u64 = 1 << 20;

/// Where data must move below a node.
pub(super) enum Boundary {
    /// The node is the exchange: its input is cut off, and a reader takes the node's place.
    Replace {
        /// How the producer spreads its rows.
        exchange: Exchange,
    },
    /// The node merges sorted streams: its input is cut off, and the node reads one stream for each producer partition.
    Merge,
    /// The node collects its left input: that is cut off, and every task reads all of it.
    BroadcastLeft,
}

/// The boundary at `node`, if there is one.
pub(super) fn boundary(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Boundary>> {
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        return Ok(match repartition.partitioning() {
            Partitioning::Hash(keys, partitions) => {
                Some(Boundary::Replace { exchange: Exchange::Hash { keys: keys.clone(), partitions: *partitions } })
            }
            Partitioning::RoundRobinBatch(partitions) => {
                Some(Boundary::Replace { exchange: Exchange::RoundRobin { partitions: *partitions } })
            }
            Partitioning::Range(by) => Some(Boundary::Replace { exchange: Exchange::Range { by: by.clone() } }),
            Partitioning::UnknownPartitioning(_) => None,
        });
    }
    let is_split = |child: &Arc<dyn ExecutionPlan>| child.output_partitioning().partition_count() > 1;
    if let Some(gather) = node.downcast_ref::<CoalescePartitionsExec>() {
        return Ok(is_split(gather.input()).then_some(Boundary::Replace { exchange: Exchange::Gather }));
    }
    if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
        return Ok(is_split(merge.input()).then_some(Boundary::Merge));
    }
    match collected_left(node) {
        Some((left, right)) if is_split(right) && !is_replicated(left)? => Ok(Some(Boundary::BroadcastLeft)),
        _ => Ok(None),
    }
}

/// The left and the right input of a join.
type Sides<'a> = (&'a Arc<dyn ExecutionPlan>, &'a Arc<dyn ExecutionPlan>);

/// Left and right of a join that collects its left input in every task.
pub(crate) fn collected_left(node: &Arc<dyn ExecutionPlan>) -> Option<Sides<'_>> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        return (*join.partition_mode() != PartitionMode::Partitioned).then(|| (join.left(), join.right()));
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return Some((join.left(), join.right()));
    }
    node.downcast_ref::<CrossJoinExec>().map(|join| (join.left(), join.right()))
}

/// Whether a build side is so cheap to make that every task makes it: one small scan, filtered and projected.
fn is_replicated(left: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut node = left;
    loop {
        match node.children().as_slice() {
            [] => break,
            [child] => {
                if node.is::<AggregateExec>() || node.is::<RepartitionExec>() || !is_deterministic_node(node)? {
                    return Ok(false);
                }
                node = child;
            }
            _ => return Ok(false),
        }
    }
    Ok(size::scanned_bytes(left)? <= REPLICATED_BYTES)
}

/// Whether a second attempt of a task that runs `plan` writes the same rows to the same partitions: no limit (which rows
/// come first is chance), no window (ties), no volatile function, no aggregate that depends on arrival.
pub(super) fn is_deterministic(plan: &Arc<dyn ExecutionPlan>, output: &Exchange) -> Result<bool> {
    let mut deterministic = !matches!(output, Exchange::RoundRobin { .. });
    plan.apply(|node| {
        deterministic &= is_deterministic_node(node)?;
        Ok(if deterministic { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(deterministic)
}

/// Whether partitions of a task take files from one another: which rows come out of which of them is chance then, although
/// the task as a whole always gives the same.
pub(super) fn shares_files(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let scan = node.downcast_ref::<LeafExec>().and_then(|leaf| file_scan(leaf.leaf()));
        Ok(scan.is_some_and(|scan| scan.file_groups.len() > 1))
    })
}

fn is_deterministic_node(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    if node.fetch().is_some() || node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return Ok(false);
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let ordered = |name: &str| matches!(name, "array_agg" | "first_value" | "last_value" | "nth_value" | "string_agg");
        if aggregate.aggr_expr().iter().any(|function| ordered(function.fun().name())) {
            return Ok(false);
        }
    }
    let mut stable = true;
    node.apply_expressions(&mut |expr: &Arc<dyn PhysicalExpr>| {
        stable &= !is_volatile(expr);
        Ok(if stable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(stable)
}
