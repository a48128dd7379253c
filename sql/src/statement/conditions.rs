//! What a condition of a statement that changes rows may have, and the form in which it can be asked of rows that stay, too.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, lit, not_exists, scalar_subquery};

/// The column of a subquery that a value is sought in.
const SOUGHT: &str = "__volley_sought";
/// The number of a subquery's rows.
const COUNTED: &str = "__volley_counted";

/// Whether files may be left out by what a condition says: it says all by itself.
pub(super) fn can_prune(condition: &Expr) -> bool {
    let needs_more =
        condition.exists(|expr| Ok(is_subquery(expr) || matches!(expr, Expr::Placeholder(_) | Expr::OuterReferenceColumn(..))));
    !needs_more.unwrap_or(true)
}

pub(super) fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_))
}

/// Whether a condition has a subquery that the engine plans in filters alone.
pub(super) fn has_filter_subquery(condition: &Expr) -> bool {
    condition.exists(|expr| Ok(is_subquery(expr) && !matches!(expr, Expr::ScalarSubquery(_)))).unwrap_or(true)
}

/// Whether such subqueries are only asked whether they are true. In a filter the engine makes joins of them, which know no NULL: what is
/// not IN could be what is not known to be.
pub(super) fn asks_for_truth(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
            asks_for_truth(&binary.left) && asks_for_truth(&binary.right)
        }
        Expr::Alias(alias) => asks_for_truth(&alias.expr),
        Expr::Exists(_) => true,
        // What an aggregate or a LIMIT gives for each row of the table is not what EXISTS makes of it.
        Expr::InSubquery(subquery) if subquery.negated && !subquery.subquery.outer_ref_columns.is_empty() => {
            let gives_its_own =
                |node: &LogicalPlan| matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_));
            !has_filter_subquery(&subquery.expr) && !subquery.subquery.subquery.exists(|node| Ok(gives_its_own(node))).unwrap_or(true)
        }
        Expr::InSubquery(subquery) => !has_filter_subquery(&subquery.expr),
        other => !has_filter_subquery(other),
    }
}

/// Whether the subqueries of a condition could give other rows when they are run again: those of a LIMIT or of a window are chance where values
/// repeat.
pub(super) fn is_chance(condition: &Expr) -> Result<bool> {
    let mut is_chance = condition.is_volatile();
    condition.apply(|expr| {
        if let Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::Exists(Exists { subquery, .. })
        | Expr::ScalarSubquery(subquery)
        | Expr::SetComparison(SetComparison { subquery, .. }) = expr
        {
            subquery.subquery.apply_with_subqueries(|node| {
                is_chance |= matches!(node, LogicalPlan::Limit(_) | LogicalPlan::Window(_));
                node.apply_expressions(|expr| {
                    is_chance |= expr.is_volatile();
                    Ok(TreeNodeRecursion::Continue)
                })
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_chance)
}

/// The condition in a form that is true for the same rows of `table`, and that the engine can make joins of: the column of each IN (SELECT ..)
/// has a name of its own, and NOT IN is said with EXISTS, which knows no NULL.
pub(super) fn as_truth(condition: Expr, table: &DFSchema) -> Result<Expr> {
    let told = condition.transform(|expr| match expr {
        Expr::InSubquery(mut subquery) => {
            let plan = subquery.subquery.subquery.as_ref().clone();
            let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
            let rows = LogicalPlanBuilder::from(plan).project([column.alias(SOUGHT)])?.build()?;
            if subquery.negated {
                return Ok(Transformed::yes(is_in_none(&subquery.expr, rows, table)?));
            }
            subquery.subquery = subquery.subquery.with_plan(Arc::new(rows));
            Ok(Transformed::yes(Expr::InSubquery(subquery)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(told.data)
}

/// `value NOT IN (rows)`: there are no rows, or neither the value nor one of the rows is NULL, and none of them is the value.
fn is_in_none(value: &Expr, rows: LogicalPlan, table: &DFSchema) -> Result<Expr> {
    let with =
        |condition: Expr| -> Result<Arc<LogicalPlan>> { Ok(Arc::new(LogicalPlanBuilder::from(rows.clone()).filter(condition)?.build()?)) };
    let sought = || Expr::Column(Column::new_unqualified(SOUGHT));
    let differs = not_exists(with(sought().eq(of_outside(value, table)?))?).and(has_none(with(sought().is_null())?)?);
    match value.nullable(table)? {
        true => Ok(has_none(Arc::new(rows))?.or(value.clone().is_not_null().and(differs))),
        false => Ok(differs),
    }
}

/// Whether a subquery gives no row. One that is the same for each row of the table is counted once, and not joined with each of them.
fn has_none(rows: Arc<LogicalPlan>) -> Result<Expr> {
    if !rows.all_out_ref_exprs().is_empty() || rows.exists(|node| Ok(!node.all_out_ref_exprs().is_empty()))? {
        return Ok(not_exists(rows));
    }
    let counted =
        LogicalPlanBuilder::from(Arc::unwrap_or_clone(rows)).aggregate(Vec::<Expr>::new(), [count(lit(1)).alias(COUNTED)])?.build()?;
    Ok(scalar_subquery(Arc::new(counted)).eq(lit(0i64)))
}

/// An expression of a table's columns as a subquery says it.
fn of_outside(value: &Expr, table: &DFSchema) -> Result<Expr> {
    let outside = value.clone().transform(|expr| match expr {
        Expr::Column(column) => {
            let field = Arc::clone(table.field_from_column(&column)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outside.data)
}
