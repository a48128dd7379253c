//! `UPDATE` and `DELETE`: the rows of a table's files are written anew, changed or left out.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, WriteOp, lit, when};

use super::SqlError;
use super::write::{WriteStatement, WriteTarget, delta, managed, not_ours};
use crate::delta::{DeltaProvider, rewritten_files};
use crate::write::{DeltaOperation, RowChange, WriteMode};

/// The column that tells the rows that are changed.
const CHANGED: &str = "__volley_changed";

/// The write that changes rows of a table.
pub(super) fn rows(state: &SessionState, dml: DmlStatement) -> Result<WriteStatement, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
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
        return Err(SqlError::new(format!(
            "rows of '{name}' can be changed by a condition alone: LIMIT is not supported, a subquery in WHERE is"
        )));
    }
    let provider = source_as_provider(&dml.target).map_err(wrong)?;
    let not_null = dml.target.schema().fields().iter().filter(|field| !field.is_nullable()).map(|field| field.name().clone()).collect();
    let change = Some(RowChange { column: CHANGED.to_owned(), removes });
    if let Some((mut target, version)) = managed(state, &name, WriteMode::Overwrite) {
        if let Some(write) = &mut target.table {
            write.base = Some(version);
        }
        let input = changed_rows(table, condition, values).map_err(wrong)?;
        return Ok(WriteStatement { input, target: WriteTarget { not_null, change, ..target }, table: Some(name) });
    }
    let Some(delta_table) = provider.downcast_ref::<DeltaProvider>() else {
        return Err(not_ours(&name));
    };
    let (files, paths) =
        rewritten_files(delta_table, state, condition.as_ref().filter(|condition| !has_subquery(condition))).map_err(wrong)?;
    let target = delta(delta_table, operation, paths).map_err(wrong)?;
    let input = changed_rows(with_source(table, Arc::new(files)).map_err(wrong)?, condition, values).map_err(wrong)?;
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
fn changed_rows(table: LogicalPlan, condition: Option<Expr>, values: Option<Vec<Expr>>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = table.schema().columns().into_iter().map(Expr::Column).collect();
    let marked = marked_rows(table, condition, &columns)?;
    let Some(values) = values else {
        return Ok(marked);
    };
    let changed = Expr::Column(Column::new_unqualified(CHANGED));
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

/// All rows of a table, and which of them the condition is true for. The engine plans subqueries in filters alone: with such a condition the
/// rows that pass it and those that do not are read apart.
fn marked_rows(table: LogicalPlan, condition: Option<Expr>, columns: &[Expr]) -> Result<LogicalPlan> {
    let condition = condition.unwrap_or_else(|| lit(true));
    let marked = |rows: LogicalPlan, mark: Expr| {
        LogicalPlanBuilder::from(rows).project(columns.iter().cloned().chain([mark.alias(CHANGED)]))?.build()
    };
    if !has_subquery(&condition) {
        return marked(table, condition.is_true());
    }
    if condition.is_volatile() {
        return Err(DataFusionError::NotImplemented(
            "a condition of UPDATE or DELETE can't have a subquery and a function that gives other values each time".into(),
        ));
    }
    let (passed, left) = (condition.clone().is_true(), condition.is_not_true());
    let passed = marked(LogicalPlanBuilder::from(table.clone()).filter(passed)?.build()?, lit(true))?;
    let left = marked(LogicalPlanBuilder::from(table).filter(left)?.build()?, lit(false))?;
    let schema = Arc::clone(passed.schema());
    // A union has no qualifiers, which the values of an UPDATE use.
    let both = LogicalPlanBuilder::from(passed).union(left)?.build()?;
    let named = schema
        .iter()
        .zip(both.schema().columns())
        .map(|((qualifier, field), column)| Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
    let named = named.collect::<Vec<_>>();
    LogicalPlanBuilder::from(both).project(named)?.build()
}
