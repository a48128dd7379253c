//! Pass 11: a dynamic filter is kept only where its producer runs in the same task.
//!
//! A filter that a join or a top-k of another stage would have filled stays at its first value for ever; some readers wait for
//! such filters to complete. It is replaced by `true`.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, lit};
use datafusion::physical_plan::ExecutionPlan;

use crate::leaf::{LeafExec, file_scan};

/// Ids of the dynamic filters that operators of `plan` fill.
pub(crate) fn produced(plan: &Arc<dyn ExecutionPlan>) -> Result<HashSet<u64>> {
    let mut ids = HashSet::new();
    plan.apply(|node| {
        ids.extend(node.dynamic_expressions_produced().iter().filter_map(|expr| expr.expression_id()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(ids)
}

/// Whether `expr` holds a dynamic filter that is not among `produced`.
pub(crate) fn has_foreign(expr: &Arc<dyn PhysicalExpr>, produced: &HashSet<u64>) -> Result<bool> {
    expr.exists(|part| Ok(is_foreign(part, produced)))
}

fn is_foreign(expr: &Arc<dyn PhysicalExpr>, produced: &HashSet<u64>) -> bool {
    expr.is::<DynamicFilterPhysicalExpr>() && expr.expression_id().is_none_or(|id| !produced.contains(&id))
}

/// Replaces by `true` the dynamic filters in the leaves of a stage's plan that nothing in the stage fills.
pub(super) fn detach_foreign(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let produced = produced(&plan)?;
    let detached = plan.transform_up(|node| {
        let Some(leaf) = node.downcast_ref::<LeafExec>() else { return Ok(Transformed::no(node)) };
        match detach_leaf(leaf, &produced)? {
            Some(detached) => Ok(Transformed::yes(Arc::new(detached) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(detached.data)
}

fn detach_leaf(leaf: &LeafExec, produced: &HashSet<u64>) -> Result<Option<LeafExec>> {
    let Some(scan) = file_scan(leaf.leaf()) else { return Ok(None) };
    let Some(source) = scan.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let Some(predicate) = scan.file_source().filter() else { return Ok(None) };
    if !has_foreign(&predicate, produced)? {
        return Ok(None);
    }
    let predicate =
        predicate.transform_up(|part| Ok(if is_foreign(&part, produced) { Transformed::yes(lit(true)) } else { Transformed::no(part) }))?;
    let source = Arc::new(source.with_predicate(predicate.data));
    let scan = FileScanConfigBuilder::from(scan.clone()).with_source(source).build();
    Ok(Some(LeafExec::new(leaf.index(), DataSourceExec::from_data_source(scan))))
}
