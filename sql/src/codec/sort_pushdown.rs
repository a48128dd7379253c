//! What the engine's encoding of a scan loses of a sort above it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, SortOrderPushdownResult};

/// Tells scans again which order a sort above them is after, so that they read the row groups that a top-k will keep first.
///
/// The engine's rule is not run again: it would build new sorts, whose filters are not those that the scans hold. That a scan's
/// order makes a sort needless was decided when the plan was made.
pub(super) fn redo(plan: Arc<dyn ExecutionPlan>, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    if !context.session_config().options().optimizer.enable_sort_pushdown {
        return Ok(plan);
    }
    let told = plan.transform_up(|node| {
        let pushed = node.downcast_ref::<SortExec>().map(|sort| sort.input().try_pushdown_sort(sort.expr())).transpose()?;
        match pushed {
            Some(SortOrderPushdownResult::Inexact { inner }) => Ok(Transformed::yes(replace_children_if_necessary(node, vec![inner])?)),
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(told.data)
}
