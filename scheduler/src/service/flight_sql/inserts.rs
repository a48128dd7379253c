//! An INSERT of a row of parameters that is executed with many rows: one write of all of them in place of one for each.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, cast};
use volley_proto::Failure;
use volley_sql::diagnostics::failure_of;
use volley_sql::statement::{Statement, WriteStatement};

use super::ingest_target::Planned;

/// What the rows of parameters are called in plans.
const PARAMETERS: &str = "parameters";

/// The write of `INSERT .. VALUES (.. $1 ..)` for every row of `parameters`; `None` where the statement is another.
pub(super) async fn plan(
    statement: Statement,
    mut state: SessionState,
    parameters: Arc<dyn TableProvider>,
) -> Result<Option<Planned>, Failure> {
    let Statement::Write(write) = statement else { return Ok(None) };
    let planned = async {
        if !is_row_of_parameters(&write.input, parameters.schema().fields().len())? {
            return Ok(None);
        }
        let sent = LogicalPlanBuilder::scan(PARAMETERS, provider_as_source(parameters), None)?.build()?;
        let input = for_every_row(write.input.clone(), &sent)?;
        // The rows come in one stream, and stay in its order.
        state.config_mut().options_mut().execution.target_partitions = 1;
        let rows = state.create_physical_plan(&input).await?;
        Ok(Some(Planned { write: WriteStatement { input, ..write }, rows, state }))
    };
    planned.await.map_err(|error: DataFusionError| failure_of(&error))
}

/// Whether a plan reads nothing but one row of expressions, among them parameters of which each is one of `count`.
fn is_row_of_parameters(plan: &LogicalPlan, count: usize) -> Result<bool> {
    let (mut rows, mut other, mut parameters) = (0, false, false);
    plan.apply_with_subqueries(|node| {
        let is_values = matches!(node, LogicalPlan::Values(_));
        match node {
            LogicalPlan::Values(values) => rows += values.values.len(),
            leaf if leaf.inputs().is_empty() => other = true,
            _ => {}
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Placeholder(placeholder) = part {
                    parameters = true;
                    other |= !is_values || place_of(&placeholder.id).is_none_or(|place| place >= count);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(rows == 1 && parameters && !other)
}

/// The place of `$1`, from 0.
fn place_of(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn for_every_row(plan: LogicalPlan, sent: &LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_down(|node| match node {
        LogicalPlan::Values(values) => Ok(Transformed::yes(rows_of(&values, sent)?)),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

/// The expressions of a row, with columns of what was sent in the place of parameters.
fn rows_of(values: &Values, sent: &LogicalPlan) -> Result<LogicalPlan> {
    let columns = sent.schema().columns();
    let fields = values.schema.fields().iter();
    let expressions = values.values.iter().flatten().zip(fields).map(|(expression, field)| {
        let expression = expression.clone().transform(|part| match &part {
            Expr::Placeholder(placeholder) => match place_of(&placeholder.id).and_then(|place| columns.get(place)) {
                Some(column) => Ok(Transformed::yes(Expr::Column(column.clone()))),
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        })?;
        let untyped = field.data_type().is_null();
        let value = if untyped { expression.data } else { cast(expression.data, field.data_type().clone()) };
        Ok(value.alias(field.name()))
    });
    let expressions = expressions.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(sent.clone()).project(expressions)?.build()
}
