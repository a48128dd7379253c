//! `UPDATE` and `DELETE`: the rows of a table's files are written anew, changed or left out.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, WriteOp, lit, when};

use super::SqlError;
use super::conditions::{as_truth, asks_for_truth, can_prune, has_filter_subquery, is_chance};
use super::write::{WriteStatement, WriteTarget, delta, holder_of, managed, not_null_columns, not_ours, with_types_of};
use crate::delta::{DeltaProvider, check_appends, rewritten_files};
use crate::write::{DeltaOperation, RowChange, WriteMode};

/// The column that tells the rows that are changed.
pub(super) const CHANGED: &str = "__volley_changed";

/// The write that changes rows of a table.
///
/// The plan may have been made and optimised long ago, by PREPARE. So only what it says is taken from it, the condition and the values: the
/// rows are those of the table's version now, which is also the one that the commit replaces.
pub(super) async fn rows(state: &SessionState, dml: DmlStatement) -> Result<WriteStatement, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let name = dml.table_name.clone();
    let removes = dml.op == WriteOp::Delete;
    let not_null = not_null_columns(&dml);
    let change = Some(RowChange { changed: CHANGED.to_owned(), removed: removes.then(|| CHANGED.to_owned()) });
    let Said { condition, values, table } = said(Arc::clone(&dml.input), removes, &name)?;
    let operation = if removes { DeltaOperation::Delete } else { DeltaOperation::Update };
    let prunes = condition.as_ref().filter(|condition| can_prune(condition));
    let (target, now) = table_now(state, &dml, operation, WriteMode::Overwrite, prunes).await?;
    let input = scan_anew(table, now).and_then(|table| changed_rows(table, condition, values));
    let input = input.and_then(|rows| with_types_of(&dml.target.schema(), rows)).map_err(wrong)?;
    Ok(WriteStatement { input, target: WriteTarget { not_null, change, ..target }, table: Some(name) })
}

/// The part of a table, as it is now, that may hold rows which pass a filter, and where the rows go that replace those of that part; with
/// [`WriteMode::Append`] all of the table, and where rows go that are added.
pub(super) async fn table_now(
    state: &SessionState,
    dml: &DmlStatement,
    operation: DeltaOperation,
    mode: WriteMode,
    filter: Option<&Expr>,
) -> Result<(WriteTarget, Arc<dyn TableProvider>), SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let name = &dml.table_name;
    let (target, now): (_, Arc<dyn TableProvider>) = match managed(state, name, mode) {
        Some((mut target, entry)) => {
            if let (Some(write), Some(managed)) = (&mut target.table, &entry.managed) {
                write.base = Some(managed.version);
            }
            let catalog = holder_of(state, name).ok_or_else(|| not_ours(name))?;
            (target, catalog.provider(&entry).await.map_err(wrong)?)
        }
        None => {
            let provider = source_as_provider(&dml.target).map_err(wrong)?;
            let Some(known) = provider.downcast_ref::<DeltaProvider>() else {
                return Err(not_ours(name));
            };
            let now = known.log().current().await.map_err(wrong)?;
            if mode == WriteMode::Append {
                check_appends(&now).map_err(wrong)?;
                (delta(&now, operation, vec![]).map_err(wrong)?, now)
            } else {
                let (part, files) = rewritten_files(&now, state, filter).map_err(wrong)?;
                (delta(&now, operation, files).map_err(wrong)?, Arc::new(part))
            }
        }
    };
    if now.schema().fields() != dml.target.schema().fields() {
        return Err(SqlError::new(format!("table '{name}' has other columns than when the statement was prepared: prepare it again")));
    }
    Ok((target, now))
}

/// What the plan of an UPDATE or DELETE says.
struct Said {
    condition: Option<Expr>,
    /// The new value of each column of the table, of an UPDATE.
    values: Option<Vec<Expr>>,
    /// The scan of the table, under its alias where it has one.
    table: LogicalPlan,
}

fn said(input: Arc<LogicalPlan>, removes: bool, name: &TableReference) -> Result<Said, SqlError> {
    let (values, source) = match Arc::unwrap_or_clone(input) {
        // Of a DELETE it leaves columns out, which all are needed here.
        LogicalPlan::Projection(projection) => ((!removes).then_some(projection.expr), Arc::unwrap_or_clone(projection.input)),
        source => (None, source),
    };
    let (condition, table) = match source {
        LogicalPlan::Filter(filter) => (Some(filter.predicate), Arc::unwrap_or_clone(filter.input)),
        table => (None, table),
    };
    let is_complete = scan_of(&table).is_some_and(|scan| scan.fetch.is_none() && (condition.is_some() || scan.filters.is_empty()));
    if is_complete && (removes || values.is_some()) {
        return Ok(Said { condition, values, table });
    }
    Err(SqlError::new(format!(
        "rows of '{name}' can be changed by a condition alone: LIMIT and joins are not supported, a subquery in WHERE is"
    )))
}

/// The scan that a plan is, under an alias or not.
fn scan_of(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input),
        _ => None,
    }
}

/// The plan with a scan of all of a table as it is now.
fn scan_anew(plan: LogicalPlan, provider: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let replaced = plan.transform(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let source = provider_as_source(Arc::clone(&provider));
            Ok(Transformed::yes(LogicalPlanBuilder::scan(scan.table_name, source, None)?.build()?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    // An alias has the columns of what is below it.
    replaced.data.recompute_schema()
}

/// All rows of a table as they are after the change, and which of them are changed.
fn changed_rows(table: LogicalPlan, condition: Option<Expr>, values: Option<Vec<Expr>>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = table.schema().columns().into_iter().map(Expr::Column).collect();
    let marked = marked_rows(table, condition, &columns, values.is_none())?;
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
fn marked_rows(table: LogicalPlan, condition: Option<Expr>, columns: &[Expr], removes: bool) -> Result<LogicalPlan> {
    let condition = condition.unwrap_or_else(|| lit(true));
    let marked = |rows: LogicalPlan, mark: Expr| {
        LogicalPlanBuilder::from(rows).project(columns.iter().cloned().chain([mark.alias(CHANGED)]))?.build()
    };
    if !has_filter_subquery(&condition) {
        return marked(table, condition.is_true());
    }
    // A DELETE keeps the rows of one of the two reads, whatever the other gives; an UPDATE would have some of them twice.
    if condition.is_volatile() || !asks_for_truth(&condition) || (!removes && is_chance(&condition)?) {
        return Err(DataFusionError::NotImplemented(
            "a condition of UPDATE or DELETE can have IN (SELECT ..), EXISTS and their NOTs joined by AND and OR, but not within other expressions, \
             not beside a function that gives other values each time, in an UPDATE not with LIMIT or a window in the subquery, and not NOT IN of an \
             aggregate that depends on the row: CREATE TABLE AS can keep what the subquery gives"
                .into(),
        ));
    }
    let condition = as_truth(condition, table.schema())?;
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
