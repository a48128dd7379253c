//! `MERGE INTO`: a table's rows are compared with those of a source, then changed, removed and added to.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, JoinType, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    DmlStatement, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, MergeIntoAction, MergeIntoClause, MergeIntoClauseKind,
    MergeIntoOp, Projection, ScalarUDF, TableSource, lit, when,
};

use super::SqlError;
use super::change::{CHANGED, table_now};
use super::conditions::{can_prune, has_filter_subquery, is_subquery};
use super::write::{WriteStatement, WriteTarget, not_null_columns, with_types_of};
use crate::merge::{FurtherMatches, OneMatch, RowId};
use crate::write::{DeltaOperation, RowChange, WriteMode};

/// The column that is true for rows that are not in the table afterwards.
const REMOVED: &str = "__volley_removed";
/// The column that tells rows of the table apart; NULL where a row has none of it.
const ROW: &str = "__volley_row";
/// The column that is true where a row has one of the source, else NULL.
const IN_SOURCE: &str = "__volley_in_source";
/// The column that tells which clause says what becomes of a row.
const CLAUSE: &str = "__volley_clause";
/// The number of no clause.
const NO_CLAUSE: i32 = -1;

/// The write that merges a source into a table.
pub(super) async fn rows(state: &SessionState, dml: DmlStatement, op: MergeIntoOp) -> Result<WriteStatement, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let name = dml.table_name.clone();
    check(&op, &name)?;
    let is_namesake = |qualifier: Option<&TableReference>| qualifier.is_some_and(|qualifier| qualifier.resolved_eq(&name));
    if dml.input.schema().iter().any(|(qualifier, _)| is_namesake(qualifier)) {
        return Err(SqlError::new(format!("the source of MERGE INTO '{name}' has the table's name: give it an alias, USING .. AS s")));
    }
    let only_adds = op.clauses.iter().all(|clause| clause.kind.is_not_matched_by_target());
    let mode = if only_adds { WriteMode::Append } else { WriteMode::Overwrite };
    let candidates = candidates(&op, &name);
    let (target, now) = table_now(state, &dml, DeltaOperation::Merge, mode, candidates.as_ref()).await?;
    let not_null = not_null_columns(&dml);
    let merge = Merge { name: &name, op: &op, target: &dml.target };
    let source = dml.input.as_ref().clone();
    let (input, change) = match only_adds {
        true => (merge.added(now, source).map_err(wrong)?, None),
        false => {
            let change = RowChange { changed: CHANGED.to_owned(), removed: Some(REMOVED.to_owned()) };
            (merge.merged(now, source).map_err(wrong)?, Some(change))
        }
    };
    let target = WriteTarget { not_null, change, ..target };
    let input = with_types_of(&dml.target.schema(), input).map_err(wrong)?;
    Ok(WriteStatement { input, target, table: Some(name) })
}

/// Refuses what has no plan.
fn check(op: &MergeIntoOp, name: &TableReference) -> Result<(), SqlError> {
    let has = |expr: &Expr, what: fn(&Expr) -> bool| expr.exists(|expr| Ok(what(expr))).unwrap_or(true);
    if has(&op.on, is_subquery) || op.exprs().into_iter().any(has_filter_subquery) {
        return Err(SqlError::new("MERGE can have subqueries in USING alone, and others that give one value behind WHEN")
            .with_hint("join it within USING (SELECT ..)"));
    }
    for clause in &op.clauses {
        let knows = |column: &Column| match clause.kind.canonical() {
            MergeIntoClauseKind::Matched => true,
            MergeIntoClauseKind::NotMatchedBySource => column.relation.as_ref() == Some(name),
            _ => column.relation.as_ref() != Some(name),
        };
        let (when, of, may_insert) = match clause.kind.canonical() {
            MergeIntoClauseKind::Matched => ("MATCHED", "", false),
            MergeIntoClauseKind::NotMatchedBySource => ("NOT MATCHED BY SOURCE", "source", false),
            _ => ("NOT MATCHED", "table", true),
        };
        if matches!(clause.action, MergeIntoAction::Insert { .. }) != may_insert {
            let takes = if may_insert { "INSERT" } else { "UPDATE and DELETE" };
            return Err(SqlError::new(format!("WHEN {when} takes {takes} alone")));
        }
        if let Some(column) = exprs_of(clause).flat_map(Expr::column_refs).find(|column| !knows(column)) {
            return Err(SqlError::new(format!("WHEN {when} has no row of the {of}, and so not its column '{column}'")));
        }
    }
    Ok(())
}

fn exprs_of(clause: &MergeIntoClause) -> impl Iterator<Item = &Expr> {
    let values: Vec<&Expr> = match &clause.action {
        MergeIntoAction::Update(assignments) => assignments.iter().map(|(_, value)| value).collect(),
        MergeIntoAction::Insert { values, .. } => values.iter().collect(),
        MergeIntoAction::Delete => vec![],
    };
    clause.predicate.iter().chain(values)
}

/// What ON says of the table alone: files without such rows are left as they are, unless rows that nothing matches are changed.
fn candidates(op: &MergeIntoOp, name: &TableReference) -> Option<Expr> {
    if op.clauses.iter().any(|clause| clause.kind == MergeIntoClauseKind::NotMatchedBySource) {
        return None;
    }
    let is_of_table = |expr: &Expr| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| column.relation.as_ref() == Some(name)) && can_prune(expr)
    };
    conjunction(split_conjunction(&op.on).into_iter().filter(|expr| is_of_table(expr)).cloned())
}

struct Merge<'a> {
    name: &'a TableReference,
    op: &'a MergeIntoOp,
    target: &'a Arc<dyn TableSource>,
}

impl Merge<'_> {
    fn has(&self, is_kind: fn(MergeIntoClauseKind) -> bool) -> bool {
        self.op.clauses.iter().any(|clause| is_kind(clause.kind))
    }

    fn scan(&self, now: Arc<dyn TableProvider>) -> Result<LogicalPlanBuilder> {
        LogicalPlanBuilder::scan(self.name.clone(), provider_as_source(now), None)
    }

    /// The rows that are added, where the clauses do nothing else.
    fn added(&self, now: Arc<dyn TableProvider>, source: LogicalPlan) -> Result<LogicalPlan> {
        let columns = now.schema();
        let table = self.scan(now)?.build()?;
        let unmatched = LogicalPlanBuilder::from(source).join_on(table, JoinType::LeftAnti, [self.op.on.clone()])?.build()?;
        let rows = with_column(unmatched, self.clause_of_kind(MergeIntoClauseKind::NotMatchedByTarget)?, CLAUSE)?;
        let rows = LogicalPlanBuilder::from(rows).filter(clause().not_eq(lit(NO_CLAUSE)))?.build()?;
        let values = columns.fields().iter().map(|field| {
            let null = Expr::Literal(ScalarValue::try_new_null(field.data_type())?, None);
            Ok(self.value(field.name(), null, &rows)?.alias(field.name()))
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        Ok(LogicalPlan::Projection(Projection::try_new(values, Arc::new(rows))?))
    }

    /// All rows of the table and those that are added, and what becomes of each.
    fn merged(&self, now: Arc<dyn TableProvider>, source: LogicalPlan) -> Result<LogicalPlan> {
        let columns = now.schema();
        let row_id = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(RowId::new())), vec![]));
        let table = with_column(self.scan(now)?.build()?, row_id, ROW)?;
        let source = with_column(source, lit(true), IN_SOURCE)?;
        let join = if self.has(|kind| kind.is_not_matched_by_target()) { JoinType::Full } else { JoinType::Left };
        let joined = LogicalPlanBuilder::from(table).join_on(source, join, [self.op.on.clone()])?.build()?;
        let changes_matched = self.has(|kind| kind == MergeIntoClauseKind::Matched);
        let further = if changes_matched { FurtherMatches::Refused } else { FurtherMatches::Dropped };
        let once = OneMatch::new(joined, Column::new_unqualified(ROW), further);
        let rows = LogicalPlan::Extension(Extension { node: Arc::new(once) });
        let (in_table, in_source) = (unqualified(ROW).is_not_null(), unqualified(IN_SOURCE).is_not_null());
        let rows = with_column(rows, self.clause_of_row(&in_table, &in_source)?, CLAUSE)?;
        let values = columns.fields().iter().map(|field| {
            let old = Expr::Column(Column::new(Some(self.name.clone()), field.name()));
            Ok(self.value(field.name(), old, &rows)?.alias(field.name()))
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let is_delete = |(_, clause): &(i32, &MergeIntoClause)| clause.action == MergeIntoAction::Delete;
        let stays_away = (!in_table).and(clause().eq(lit(NO_CLAUSE)));
        let removed = self.clauses().filter(is_delete).fold(stays_away, |removed, (number, _)| removed.or(clause().eq(lit(number))));
        let marks = [clause().not_eq(lit(NO_CLAUSE)).alias(CHANGED), removed.alias(REMOVED)];
        let exprs = values.into_iter().chain(marks).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?))
    }

    /// The clauses with their numbers.
    fn clauses(&self) -> impl Iterator<Item = (i32, &MergeIntoClause)> {
        (0..).zip(&self.op.clauses)
    }

    /// The number of the first clause that takes a row. The conditions of clauses are asked of rows of their kind alone, for they may fail for
    /// others: a CASE within another keeps them apart, where AND would not.
    fn clause_of_row(&self, in_table: &Expr, in_source: &Expr) -> Result<Expr> {
        let kinds = [
            (MergeIntoClauseKind::Matched, in_table.clone().and(in_source.clone())),
            (MergeIntoClauseKind::NotMatchedBySource, in_table.clone().and(!in_source.clone())),
            (MergeIntoClauseKind::NotMatchedByTarget, !in_table.clone()),
        ];
        let cases = kinds.into_iter().map(|(kind, is_kind)| Ok((is_kind, self.clause_of_kind(kind)?)));
        one_of(cases.collect::<Result<Vec<_>>>()?)
    }

    /// The number of the first clause that takes a row of a kind.
    fn clause_of_kind(&self, kind: MergeIntoClauseKind) -> Result<Expr> {
        let clauses = self.clauses().filter(|(_, clause)| clause.kind.canonical() == kind);
        let cases = clauses.map(|(number, clause)| (clause.predicate.clone().unwrap_or_else(|| lit(true)), lit(number)));
        one_of(cases.collect())
    }

    /// The value of a column after the merge, where it is `old` before.
    fn value(&self, column: &str, old: Expr, rows: &LogicalPlan) -> Result<Expr> {
        let data_type = self.target.schema().field_with_name(column)?.data_type().clone();
        let mut cases = vec![];
        for (number, merge_clause) in self.clauses() {
            let value = match &merge_clause.action {
                MergeIntoAction::Delete => continue,
                MergeIntoAction::Update(assignments) => match assignments.iter().find(|(name, _)| name == column) {
                    Some((_, value)) => value.clone(),
                    None => continue,
                },
                MergeIntoAction::Insert { columns, values } => self.inserted(column, columns, values)?,
            };
            cases.push((clause().eq(lit(number)), value.cast_to(&data_type, rows.schema())?));
        }
        let mut cases = cases.into_iter();
        let Some((is_clause, value)) = cases.next() else {
            return Ok(old);
        };
        let mut case = when(is_clause, value);
        for (is_clause, value) in cases {
            case.when(is_clause, value);
        }
        case.otherwise(old)
    }

    /// The value of a column in a new row.
    fn inserted(&self, column: &str, columns: &[String], values: &[Expr]) -> Result<Expr> {
        let place = match columns.is_empty() {
            true => Some(self.target.schema().index_of(column)?),
            false => columns.iter().position(|name| name == column),
        };
        let default = || self.target.get_column_default(column).cloned().unwrap_or_else(|| lit(ScalarValue::Null));
        Ok(place.and_then(|place| values.get(place).cloned()).unwrap_or_else(default))
    }
}

/// The value of the first case that is true; the number of no clause where none is.
fn one_of(cases: Vec<(Expr, Expr)>) -> Result<Expr> {
    let mut cases = cases.into_iter();
    let Some((condition, value)) = cases.next() else {
        return Ok(lit(NO_CLAUSE));
    };
    let mut case = when(condition, value);
    for (condition, value) in cases {
        case.when(condition, value);
    }
    case.otherwise(lit(NO_CLAUSE))
}

fn clause() -> Expr {
    unqualified(CLAUSE)
}

fn unqualified(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The plan with one more column.
fn with_column(plan: LogicalPlan, value: Expr, name: &str) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    let columns: Vec<_> = columns.chain([value.alias(name)]).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
