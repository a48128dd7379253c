//! Pass 6: shape the plan for distribution; it stays a valid plan for one process.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

/// Drops round robins (they only spread work, which tasks do), turns a repartition that merges sorted streams into a plain
/// one and a sort, and puts a limit below each gather that has one, so that no producer sends more than is read.
pub(super) fn prepare(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan.transform_up(prepare_node)?.data)
}

fn prepare_node(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
        return prepare_repartition(Arc::clone(&node), repartition);
    }
    if let Some(gather) = node.downcast_ref::<CoalescePartitionsExec>()
        && let Some(fetch) = node.fetch()
    {
        let limited = CoalescePartitionsExec::new(limit_below(gather.input(), fetch));
        return Ok(Transformed::yes(Arc::new(GlobalLimitExec::new(Arc::new(limited), 0, Some(fetch)))));
    }
    if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>()
        && let Some(fetch) = merge.fetch()
        && merge.input().fetch().is_none_or(|below| below > fetch)
    {
        let merge = SortPreservingMergeExec::new(merge.expr().clone(), limit_below(merge.input(), fetch)).with_fetch(Some(fetch));
        return Ok(Transformed::yes(Arc::new(merge)));
    }
    Ok(Transformed::no(node))
}

fn prepare_repartition(node: Arc<dyn ExecutionPlan>, repartition: &RepartitionExec) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    match repartition.partitioning() {
        Partitioning::RoundRobinBatch(_) => Ok(Transformed::yes(Arc::clone(repartition.input()))),
        Partitioning::Hash(..) if repartition.preserve_order() => {
            let plain: Arc<dyn ExecutionPlan> =
                Arc::new(RepartitionExec::try_new(Arc::clone(repartition.input()), repartition.partitioning().clone())?);
            let Some(ordering) = repartition.input().output_ordering().cloned() else {
                return Ok(Transformed::yes(plain));
            };
            Ok(Transformed::yes(Arc::new(SortExec::new(ordering, plain).with_preserve_partitioning(true))))
        }
        _ => Ok(Transformed::no(node)),
    }
}

fn limit_below(input: &Arc<dyn ExecutionPlan>, fetch: usize) -> Arc<dyn ExecutionPlan> {
    let limited = input.fetch().is_some_and(|below| below <= fetch);
    if limited { Arc::clone(input) } else { Arc::new(LocalLimitExec::new(Arc::clone(input), fetch)) }
}
