//! `TABLESAMPLE`: the engine would leave it out and read all rows, so it becomes a query that leaves rows out by chance.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Ast;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SetExpr, Statement, TableAlias, TableFactor, TableSample, TableSampleKind, TableSampleUnit, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::diagnostics::SqlError;
use crate::visit::visit_tables;

/// What may be said.
const FORMS: &str = "TABLESAMPLE takes a share or a number of rows: (10 PERCENT), (100 ROWS), BERNOULLI (10)";

/// Puts queries in the place of the samples of a statement.
pub(super) fn draw(ast: &mut Ast) -> Result<(), SqlError> {
    visit_tables(ast, &mut Samples)
}

struct Samples;

impl VisitorMut for Samples {
    type Break = SqlError;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        match sampled(factor) {
            Ok(Some(drawn)) => *factor = drawn,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// The query for a table with a sample; `None` for one without.
fn sampled(factor: &mut TableFactor) -> Result<Option<TableFactor>, SqlError> {
    let (sample, name, alias) = match factor {
        TableFactor::Table { sample, name, alias, .. } => {
            let last = name.0.last().and_then(|part| part.as_ident()).cloned();
            (sample, last, alias)
        }
        TableFactor::Derived { sample, alias, .. } => (sample, None, alias),
        _ => return Ok(None),
    };
    let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample.take() else {
        return Ok(None);
    };
    let named = |name: Ident| TableAlias { explicit: true, name, columns: vec![], at: None };
    let alias = alias.clone().or_else(|| name.map(named));
    let mut subquery = drawing(&sample)?;
    if let SetExpr::Select(select) = subquery.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = factor.clone();
    }
    Ok(Some(TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None }))
}

/// The query that draws rows, of a table that is put in later.
fn drawing(sample: &TableSample) -> Result<Query, SqlError> {
    if sample.seed.is_some() {
        return Err(SqlError::new("TABLESAMPLE draws other rows each time: REPEATABLE is not supported")
            .with_hint("CREATE TABLE AS keeps the rows that were drawn"));
    }
    let Some(quantity) = sample.quantity.as_ref().filter(|_| sample.bucket.is_none() && sample.offset.is_none()) else {
        return Err(SqlError::new(FORMS));
    };
    let number = match &quantity.value {
        Expr::Value(value) => value.value.to_string().parse::<f64>().ok(),
        _ => None,
    };
    let text = match (number, &quantity.unit) {
        (Some(rows), Some(TableSampleUnit::Rows)) if rows >= 0.0 && rows.fract() == 0.0 => {
            format!("SELECT * FROM sampled ORDER BY random() LIMIT {rows}")
        }
        (Some(percent), None | Some(TableSampleUnit::Percent)) if (0.0..=100.0).contains(&percent) => {
            format!("SELECT * FROM sampled WHERE random() < {}", percent / 100.0)
        }
        _ => return Err(SqlError::new(format!("a sample can't be of {quantity}; {FORMS}"))),
    };
    let statements = Parser::parse_sql(&GenericDialect {}, &text).map_err(|error| SqlError::new(error.to_string()))?;
    match statements.into_iter().next() {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(SqlError::new(FORMS)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_one;

    fn drawn(sql: &str) -> Result<String, String> {
        parse_one(sql).map(|statement| statement.ast().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn samples_become_queries() {
        for (sql, expected) in [
            ("SELECT a FROM s.t TABLESAMPLE (25 PERCENT)", "SELECT a FROM (SELECT * FROM s.t WHERE random() < 0.25) AS t"),
            ("SELECT a FROM t AS x TABLESAMPLE BERNOULLI (5)", "SELECT a FROM (SELECT * FROM t AS x WHERE random() < 0.05) AS x"),
            ("SELECT a FROM t TABLESAMPLE SYSTEM (7 ROWS)", "SELECT a FROM (SELECT * FROM t ORDER BY random() LIMIT 7) AS t"),
        ] {
            assert_eq!(drawn(sql).as_deref(), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn what_can_not_be_drawn_is_said() {
        for (sql, expected) in [
            ("SELECT a FROM t TABLESAMPLE (110 PERCENT)", "a sample can't be of (110 PERCENT)"),
            ("SELECT a FROM t TABLESAMPLE (1.5 ROWS)", "a sample can't be of (1.5 ROWS)"),
            ("SELECT a FROM t TABLESAMPLE BERNOULLI (10) REPEATABLE (3)", "REPEATABLE is not supported"),
            ("SELECT a FROM t TABLESAMPLE (BUCKET 1 OUT OF 4)", "TABLESAMPLE takes a share or a number of rows"),
        ] {
            let error = drawn(sql).unwrap_err();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
