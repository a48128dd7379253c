//! `UPDATE` and `DELETE`: the rows of a table's files are written anew, changed or left out.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, WriteOp, lit, when};

use super::SqlError;
use super::write::{WriteStatement, WriteTarget, delta, managed};
use crate::delta::{DeltaProvider, rewritten_files};
use crate::write::{DeltaOperation, RowChange, WriteMode};

/// The column that tells the rows that are changed.
const CHANGED: &str = "__volley_changed";

/// The write that changes rows of a table.
pub(super) fn rows(state: &SessionState, dml: DmlStatement) -> Result<WriteStatement, SqlError> {
    plan(state, dml).map_err(|error| SqlError::of(&error, ""))
}

fn plan(state: &SessionState, dml: DmlStatement) -> Result<WriteStatement> {
    let removes = dml.op == WriteOp::Delete;
    let operation = if removes { DeltaOperation::Delete } else { DeltaOperation::Update };
    let name = dml.table_name.clone();
    let (values, source) = match Arc::unwrap_or_clone(dml.input) {
        LogicalPlan::Projection(projection) => (Some(projection.expr), Arc::unwrap_or_clone(projection.input)),
        source => (None, source),
    };
    let (condition, table) = match source {
        LogicalPlan::Filter(filter) => (Some(filter.predicate), Arc::unwrap_or_clone(filter.input)),
        table => (None, table),
    };
    if scan_of(&table).is_none() {
        return Err(DataFusionError::NotImplemented(format!(
            "rows of '{name}' can be changed by a condition alone: UPDATE ... FROM and LIMIT are not supported; a subquery in WHERE is"
        )));
    }
    let provider = source_as_provider(&dml.target)?;
    let not_null = dml.target.schema().fields().iter().filter(|field| !field.is_nullable()).map(|field| field.name().clone()).collect();
    let change = Some(RowChange { column: CHANGED.to_owned(), removes });
    if let Some((mut target, version)) = managed(state, &name, WriteMode::Overwrite) {
        if let Some(write) = &mut target.table {
            write.base = Some(version);
        }
        let input = changed_rows(table, condition, values)?;
        return Ok(WriteStatement { input, target: WriteTarget { not_null, change, ..target }, table: Some(name) });
    }
    let Some(delta_table) = provider.downcast_ref::<DeltaProvider>() else {
        return Err(DataFusionError::NotImplemented(format!(
            "rows of '{name}' can't be changed: it is neither a table that CREATE TABLE made nor one of Delta Lake (STORED AS DELTA)"
        )));
    };
    let (files, paths) = rewritten_files(delta_table, state, condition.as_ref().filter(|condition| !has_subquery(condition)))?;
    let target = delta(delta_table, operation, paths)?;
    let input = changed_rows(with_source(table, Arc::new(files))?, condition, values)?;
    Ok(WriteStatement { input, target: WriteTarget { not_null, change, ..target }, table: Some(name) })
}

fn has_subquery(condition: &Expr) -> bool {
    condition.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_)))).unwrap_or(true)
}

/// The scan that a plan is, under an alias or not.
fn scan_of(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input),
        _ => None,
    }
}

fn with_source(plan: LogicalPlan, provider: Arc<DeltaProvider>) -> Result<LogicalPlan> {
    let replaced = plan.transform(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            scan.source = provider_as_source(Arc::clone(&provider) as _);
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

/// All rows of a table as they are after the change, and which of them are changed.
///
/// The condition is a column of its own first: as part of other expressions a subquery in it could not be planned.
fn changed_rows(table: LogicalPlan, condition: Option<Expr>, values: Option<Vec<Expr>>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = table.schema().columns().into_iter().map(Expr::Column).collect();
    let condition = condition.map_or_else(|| lit(true), |condition| condition.is_true());
    let marked = LogicalPlanBuilder::from(table).project(columns.iter().cloned().chain([condition.alias(CHANGED)]))?.build()?;
    let Some(values) = values else {
        return Ok(marked);
    };
    let changed = Expr::Column(datafusion::common::Column::new_unqualified(CHANGED));
    let values = values.into_iter().zip(columns).map(|(value, old)| {
        let (value, name) = match value {
            Expr::Alias(alias) => (*alias.expr, alias.name),
            other => {
                let name = other.schema_name().to_string();
                (other, name)
            }
        };
        match value == old {
            true => Ok(old.alias(name)),
            false => Ok(when(changed.clone(), value).otherwise(old)?.alias(name)),
        }
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    let exprs = values.into_iter().chain([changed.clone()]).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(marked))?))
}
