//! What a query says about the order and the number of its rows, read off its logical plan.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The order and limit that a query asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Output columns of the `ORDER BY`, most significant first, up to the first key that is not an output column.
    pub keys: Vec<usize>,
    /// Whether the query ends in a `LIMIT` (or `OFFSET`).
    pub limited: bool,
}

impl Order {
    /// Reads the order off a plan that the optimizer has not seen yet.
    pub fn of(plan: &LogicalPlan) -> Self {
        let mut order = Self::default();
        // Where each output column comes from in `plan`; `None` once it is computed.
        let mut sources: Vec<Option<usize>> = (0..plan.schema().fields().len()).map(Some).collect();
        let mut plan = plan;
        loop {
            match plan {
                LogicalPlan::Limit(limit) => {
                    order.limited = true;
                    plan = &limit.input;
                }
                LogicalPlan::SubqueryAlias(alias) => plan = &alias.input,
                LogicalPlan::Projection(projection) => {
                    let input = projection.input.schema();
                    let source = |expr: &Expr| expr.try_as_col().and_then(|column| input.maybe_index_of_column(column));
                    sources = sources.into_iter().map(|column| source(unaliased(&projection.expr[column?]))).collect();
                    plan = &projection.input;
                }
                LogicalPlan::Sort(sort) => {
                    let input = sort.input.schema();
                    order.limited |= sort.fetch.is_some();
                    order.keys = sort
                        .expr
                        .iter()
                        .map_while(|key| {
                            let column = unaliased(&key.expr).try_as_col().and_then(|column| input.maybe_index_of_column(column))?;
                            sources.iter().position(|source| *source == Some(column))
                        })
                        .collect();
                    return order;
                }
                _ => return order,
            }
        }
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The plan without the `LIMIT` and `OFFSET` that it ends in.
pub fn without_limit(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit) => without_limit(Arc::unwrap_or_clone(limit.input)),
        LogicalPlan::Sort(mut sort) => {
            sort.fetch = None;
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let input = without_limit(plan.inputs()[0].clone())?;
            let expressions = plan.expressions();
            plan.with_new_exprs(expressions, vec![input])
        }
        other => Ok(other),
    }
}
