//! `FILTER` of aggregates over windows becomes part of their argument.
//!
//! The engine can't send such a `FILTER` to executors. Of an aggregate that ignores nulls, `f(x) FILTER (WHERE c) OVER w` is
//! `f(CASE WHEN c THEN x END) OVER w`; others keep their filter, and the codec refuses them.

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{Expr, LogicalPlan, Window, when};

/// Aggregates to which a null is as good as no row.
const IGNORE_NULLS: &[&str] = &[
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "median",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "var",
    "var_samp",
    "var_pop",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "approx_distinct",
    "approx_median",
    "string_agg",
    "corr",
    "covar_samp",
    "covar_pop",
];

/// The plan with such filters in the arguments, under the names that the columns had.
pub(super) fn into_arguments(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.clone().transform_down_with_subqueries(|node| match node {
        LogicalPlan::Window(window) if window.window_expr.iter().any(|expr| filtered(expr).is_some()) => {
            let exprs = window.window_expr.into_iter().map(without_filter).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(exprs, window.input)?)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

/// The function of a window expression that has a filter which can become part of its argument.
fn filtered(expr: &Expr) -> Option<&WindowFunction> {
    let Expr::WindowFunction(function) = (match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    }) else {
        return None;
    };
    let ignores_nulls = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(aggregate) => IGNORE_NULLS.contains(&aggregate.name()),
        WindowFunctionDefinition::WindowUDF(_) => false,
    };
    (ignores_nulls && function.params.filter.is_some() && !function.params.args.is_empty()).then_some(function.as_ref())
}

fn without_filter(expr: Expr) -> Result<Expr> {
    let Some(function) = filtered(&expr) else {
        return Ok(expr);
    };
    let mut function = function.clone();
    if let (Some(condition), Some(argument)) = (function.params.filter.take(), function.params.args.first_mut()) {
        *argument = when(*condition, argument.clone()).end()?;
    }
    Ok(Expr::from(function).alias(expr.schema_name().to_string()))
}
