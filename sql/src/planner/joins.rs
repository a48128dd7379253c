//! Pass 7: only join forms that are right when many tasks probe one build side.
//!
//! A join that collects its left side and emits left rows (unmatched, or matched once) decides which probe is the last one
//! by a counter in its own process. Split over tasks, each task would emit them. Such joins are partitioned by their keys,
//! or, where there is no key or the whole probe side matters (NOT IN with nulls), run in one task.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::{OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

/// Rewrites joins that would be wrong when split, then puts back orders that the rewriting lost.
pub(super) fn make_safe(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let safe = safe_join(&node)?;
        Ok(safe.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    if plan.transformed { Ok(plan.data.transform_up(restore_order)?.data) } else { Ok(plan.data) }
}

/// Whether many tasks may each probe a copy of the whole left side.
pub(crate) fn is_broadcast_safe(join_type: JoinType) -> bool {
    matches!(join_type, JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark)
}

fn safe_join(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let split = *join.partition_mode() != PartitionMode::Partitioned && join.right().output_partitioning().partition_count() > 1;
        if !split || (is_broadcast_safe(*join.join_type()) && !join.null_aware) {
            return Ok(None);
        }
        return if join.null_aware { gather_probe_side(node).map(Some) } else { partition_both_sides(join).map(Some) };
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let split = join.right().output_partitioning().partition_count() > 1;
        if split && !is_broadcast_safe(*join.join_type()) {
            return gather_probe_side(node).map(Some);
        }
    }
    Ok(None)
}

fn gather_probe_side(node: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<_> = node.children().into_iter().cloned().collect();
    if let Some(probe) = children.last_mut() {
        *probe = Arc::new(CoalescePartitionsExec::new(Arc::clone(probe)));
    }
    replace_children_if_necessary(Arc::clone(node), children)
}

fn partition_both_sides(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = join.right().output_partitioning().partition_count();
    let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
    let left = ungathered(join.left());
    let children = vec![by_hash(left, left_keys, partitions)?, by_hash(Arc::clone(join.right()), right_keys, partitions)?];
    join.builder().with_partition_mode(PartitionMode::Partitioned).with_new_children(children)?.recompute_properties().build_exec()
}

/// What is below a gather that only the collected form needed.
fn ungathered(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match plan.downcast_ref::<CoalescePartitionsExec>() {
        Some(gather) if plan.fetch().is_none() => Arc::clone(gather.input()),
        _ => Arc::clone(plan),
    }
}

fn by_hash(plan: Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>, partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(keys, partitions))?))
}

/// Sorts again where a rewritten join no longer hands on its probe side's order.
fn restore_order(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut children: Vec<Arc<dyn ExecutionPlan>> = node.children().into_iter().cloned().collect();
    let mut changed = false;
    for (child, required) in children.iter_mut().zip(node.required_input_ordering()) {
        let Some(required) = required.map(OrderingRequirements::into_single) else { continue };
        if child.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
            continue;
        }
        let split = child.output_partitioning().partition_count() > 1;
        *child = Arc::new(SortExec::new(required.into(), Arc::clone(child)).with_preserve_partitioning(split));
        changed = true;
    }
    if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>()
        && !changed
        && !children.iter().all(|child| child.equivalence_properties().ordering_satisfy(merge.expr().clone()).unwrap_or(false))
    {
        let sort = |child| Arc::new(SortExec::new(merge.expr().clone(), child).with_preserve_partitioning(true)) as _;
        children = children.into_iter().map(sort).collect();
        changed = true;
    }
    if changed { Ok(Transformed::yes(replace_children_if_necessary(node, children)?)) } else { Ok(Transformed::no(node)) }
}
