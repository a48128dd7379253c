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
    let recursive = plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))?;
    Ok(recursive
        || match options.fit {
            Fit::Always => true,
            Fit::Never => false,
            Fit::Auto => cluster.largest_slots >= cluster.slots,
        })
}

/// Whether the plan's work is so little that starting it in several places would take longer than doing it.
pub(super) fn by_work(options: &VolleyOptions, plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    Ok(options.fit == Fit::Auto && size::scanned_bytes(plan)? <= options.fit_bytes)
}
