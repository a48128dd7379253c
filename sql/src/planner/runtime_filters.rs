//! Pass 12: rows that a join further up has no use for are dropped where they are read.
//!
//! A join's dynamic filter reaches the Parquet scans below its probe side, which leave out row groups by it. Where something lies between that
//! costs more for each row than looking at it does, a [`RuntimeFilterExec`] is put above the scan, and above what filters it already.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr::{PhysicalExpr, PhysicalExprRef};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use crate::build_keys::BuildKeysExec;
use crate::leaf::{LeafExec, file_scan};
use crate::options::VolleyOptions;
use crate::runtime_filter::{RuntimeFilter, RuntimeFilterExec, Step};

/// Puts runtime filters above the scans of a stage whose dynamic filters are all filled within it.
pub(super) fn look_at_rows(plan: Arc<dyn ExecutionPlan>, options: &VolleyOptions) -> Result<Arc<dyn ExecutionPlan>> {
    // Each round of a recursive query fills other filters than those that its scans know.
    if !options.runtime_filters || plan.exists(|node| Ok(node.is::<RecursiveQueryExec>()))? {
        return Ok(plan);
    }
    below(plan, &mut vec![])
}

/// An operator on the way from the root to a scan.
struct Above {
    /// The dynamic filters that it fills.
    fills: Vec<u64>,
    /// Whether the join that knows of matches is in another stage.
    is_elsewhere: bool,
    /// What a row that crosses it costs, in nanoseconds.
    costs: u32,
}

fn below(plan: Arc<dyn ExecutionPlan>, path: &mut Vec<Above>) -> Result<Arc<dyn ExecutionPlan>> {
    let filters = filters_above(&plan, path)?;
    if !filters.is_empty() {
        return Ok(Arc::new(RuntimeFilterExec::new(plan, filters)));
    }
    let joins = (plan.is::<HashJoinExec>() || plan.is::<BuildKeysExec>()).then(|| plan.dynamic_expressions_produced());
    let fills = joins.into_iter().flatten().filter_map(|filter| filter.expression_id()).collect();
    path.push(Above { fills, is_elsewhere: plan.is::<BuildKeysExec>(), costs: costs(&plan) });
    let children = plan.children().into_iter().map(|child| below(Arc::clone(child), path)).collect::<Result<Vec<_>>>();
    path.pop();
    replace_children_if_necessary(plan, children?)
}

/// What a row costs that crosses an operator, in nanoseconds, at least: so that filters are looked at where they pay in TPC-H, and not where they don't
/// (`benchmarks/JOURNAL.md`). What is not here costs next to nothing.
fn costs(plan: &Arc<dyn ExecutionPlan>) -> u32 {
    if plan.is::<AggregateExec>() || plan.is::<SortExec>() || plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>() {
        100
    } else if plan.is::<HashJoinExec>() || plan.is::<SortMergeJoinExec>() || plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>() {
        15
    } else if plan.is::<BuildKeysExec>() {
        // The exchange, and the join behind it.
        60
    } else if plan.is::<RepartitionExec>() {
        10
    } else {
        0
    }
}

/// What rows of a scan, or of a filter right above one, should be looked at for.
fn filters_above(plan: &Arc<dyn ExecutionPlan>, path: &[Above]) -> Result<Vec<RuntimeFilter>> {
    let filter = plan.downcast_ref::<FilterExec>();
    let scanned = filter.map_or(plan, FilterExec::input);
    let Some(scan) = scanned.downcast_ref::<LeafExec>().and_then(|leaf| file_scan(leaf.leaf())) else { return Ok(vec![]) };
    let Some(predicate) = scan.file_source().filter() else { return Ok(vec![]) };
    let mut columns: Vec<usize> = match scan.file_source().projection() {
        // What is computed while a file is read is no column of the file.
        Some(projection) => projection.iter().map(|it| it.expr.downcast_ref::<Column>().map_or(usize::MAX, Column::index)).collect(),
        None => (0..scanned.schema().fields().len()).collect(),
    };
    if let Some(kept) = filter.and_then(|filter| filter.projection().as_ref()) {
        columns = kept.iter().map(|index| columns[*index]).collect();
    }
    let mut known = vec![];
    for part in split_conjunction(&predicate) {
        let id = part.downcast_ref::<DynamicFilterPhysicalExpr>().and_then(PhysicalExpr::expression_id);
        let join = id.and_then(|id| path.iter().rposition(|above| above.fills.contains(&id)));
        if let (Some(join), Some(predicate)) = (join, renumbered(part, &columns)?) {
            known.push((join, predicate));
        }
    }
    let joins: Vec<usize> = known.iter().map(|(join, _)| *join).collect();
    let filters = known.into_iter().map(|(join, predicate)| RuntimeFilter { predicate, way: way(join, path, &joins) });
    let filters: Vec<_> = filters.collect();
    Ok(if filters.iter().all(|filter| filter.way.is_empty()) { vec![] } else { filters })
}

/// What rows cross up to the join that fills a filter, if something dear lies between the scan and that join: a join right above its scan looks
/// rows up as quickly itself. `joins` are those that fill the scan's filters.
fn way(join: usize, path: &[Above], joins: &[usize]) -> Vec<Step> {
    if !path[join].is_elsewhere && path[join + 1..].iter().all(|above| above.costs == 0) {
        return vec![];
    }
    let step = |place: usize| Step { costs: path[place].costs, filter: joins.iter().position(|fills| *fills == place) };
    (join..path.len()).rev().map(step).filter(|step| step.costs > 0 || step.filter.is_some()).collect()
}

/// `part` with the columns of an operator that gives the `columns` of a table; `None` if it does not give all of them.
fn renumbered(part: &Arc<dyn PhysicalExpr>, columns: &[usize]) -> Result<Option<PhysicalExprRef>> {
    let mut misses = false;
    let renumbered = Arc::clone(part).transform_up(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        match columns.iter().position(|index| *index == column.index()) {
            Some(place) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as _)),
            None => {
                misses = true;
                Ok(Transformed::no(expr))
            }
        }
    })?;
    Ok((!misses).then_some(renumbered.data))
}
