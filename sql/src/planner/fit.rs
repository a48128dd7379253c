//! Pass 1: leave the plan whole when a cut has nothing to gain.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use super::size;
use crate::graph::ClusterShape;
use crate::options::{Fit, VolleyOptions};

/// Whether the plan is left whole whatever its work is: by option, because one executor has all the slots, or because it
/// holds a query that refers to itself, whose iterations share memory.
pub(super) fn by_cluster(options: &VolleyOptions, plan: &LogicalPlan, cluster: ClusterShape) -> Result<bool> {
    Ok(is_recursive(plan)?
        || match options.fit {
            Fit::Always => true,
            Fit::Never => false,
            Fit::Auto => cluster.largest_slots >= cluster.slots,
        })
}

/// Whether a query refers to itself.
pub(super) fn is_recursive(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))
}

/// How much larger than its file a scan's rows are in memory, roughly: columns are compressed and packed on disk.
const EXPANSION: u64 = 3;

/// Whether all that a whole plan may have to hold at once, at most the rows of its scans, fits into one executor's memory. Where
/// it does not, cutting the plan bounds what is held: exchanges spill and their partitions run in waves, while a join's build
/// side inside one process can't spill.
pub(super) fn by_memory(options: &VolleyOptions, plan: &Arc<dyn ExecutionPlan>, cluster: ClusterShape) -> Result<bool> {
    Ok(options.fit == Fit::Always || size::scanned_bytes(plan)?.saturating_mul(EXPANSION) <= cluster.memory_bytes)
}

/// Whether the plan's work is so little that starting it in several places would take longer than doing it.
pub(super) fn by_work(options: &VolleyOptions, plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    Ok(options.fit == Fit::Auto && size::scanned_bytes(plan)? <= options.fit_bytes)
}
