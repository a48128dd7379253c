//! A subquery that is used as a value fails where it gives more than one row.
//!
//! The engine makes joins of such subqueries when a plan is divided, and a join takes all their rows. So each that could give several rows
//! goes through the aggregate [`SingleValue`], which refuses the second.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, Subquery};

use crate::single_value::SingleValue;

/// The plan with that aggregate on top of such subqueries.
///
/// Correlated ones are left alone: the engine refuses them unless they are aggregates.
pub(super) fn refuse_second(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.clone().transform_down_with_subqueries(|node| {
        let checked = node.map_expressions(|expr| expr.transform_down(checked))?;
        if checked.transformed { checked.map_data(LogicalPlan::recompute_schema) } else { Ok(checked) }
    })?;
    Ok(rewritten.data)
}

fn checked(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarSubquery(subquery) if needs_check(&subquery) => {
            let plan = with_check(subquery.subquery.as_ref().clone())?;
            Ok(Transformed::yes(Expr::ScalarSubquery(subquery.with_plan(Arc::new(plan)))))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn needs_check(subquery: &Subquery) -> bool {
    subquery.outer_ref_columns.is_empty()
        && subquery.subquery.schema().fields().len() == 1
        && subquery.subquery.max_rows().is_none_or(|rows| rows > 1)
}

fn with_check(plan: LogicalPlan) -> Result<LogicalPlan> {
    let column = Column::from(plan.schema().qualified_field(0));
    let function = Arc::new(AggregateUDF::from(SingleValue::new()));
    let only = Expr::AggregateFunction(AggregateFunction::new_udf(function, vec![Expr::Column(column.clone())], false, None, vec![], None));
    let name = only.schema_name().to_string();
    let aggregate = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), [only])?;
    aggregate.project([Expr::Column(Column::new_unqualified(name)).alias(column.name)])?.build()
}
