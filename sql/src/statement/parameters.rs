//! Parameters of prepared statements.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{CopyToSource, Statement as Ast};
use datafusion::sql::sqlparser::ast::{Expr, Value, VisitMut, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::untyped;
use crate::diagnostics::SqlError;

/// Most parameters of a statement.
const MOST_PARAMETERS: usize = 1 << 16;

/// Turns each `?` into `$n`, in the order of the text, and says how many parameters the statement takes.
pub(super) fn number(ast: &mut Ast) -> Result<usize, SqlError> {
    match ast {
        Ast::Statement(statement) => number_within(statement.as_mut()),
        Ast::Explain(explain) => number(&mut explain.statement),
        Ast::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => number_within(query.as_mut()),
            CopyToSource::Relation(_) => Ok(0),
        },
        Ast::CreateExternalTable(_) | Ast::Reset(_) => Ok(0),
    }
}

fn number_within<V: VisitMut>(node: &mut V) -> Result<usize, SqlError> {
    let mut marks: Vec<Location> = vec![];
    let mut most = 0;
    let _: ControlFlow<()> = visit_expressions_mut(node, |expr| {
        if let Some((name, at)) = placeholder(expr) {
            match name.strip_prefix('$').map(str::parse::<usize>) {
                Some(Ok(number)) => most = most.max(number),
                _ if name == "?" => marks.push(at),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    });
    if most > 0 && !marks.is_empty() {
        return Err(SqlError::new("a statement takes its parameters as ? or as $1, $2, ..., not both"));
    }
    if most.max(marks.len()) > MOST_PARAMETERS {
        return Err(SqlError::new(format!("a statement takes at most {MOST_PARAMETERS} parameters")));
    }
    marks.sort();
    let _: ControlFlow<()> = visit_expressions_mut(node, |expr| {
        if let Expr::Value(value) = expr
            && matches!(&value.value, Value::Placeholder(name) if name == "?")
            && let Ok(index) = marks.binary_search(&value.span.start)
        {
            value.value = Value::Placeholder(format!("${}", index + 1));
        }
        ControlFlow::Continue(())
    });
    Ok(most.max(marks.len()))
}

fn placeholder(expr: &Expr) -> Option<(&str, Location)> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => Some((name, value.span.start)),
            _ => None,
        },
        _ => None,
    }
}

/// The parameters of a plan in order, with their types where the plan gives them one.
pub(super) fn schema_of(plan: &LogicalPlan) -> Result<Schema, SqlError> {
    let fields = plan.get_parameter_fields().map_err(|error| SqlError::of(&error, ""))?;
    let mut numbered: Vec<(usize, FieldRef)> = fields
        .into_iter()
        .map(|(name, field)| {
            let number = name.strip_prefix('$').and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
            let field = field.map_or_else(|| untyped(&name), |field| field.as_ref().clone().with_name(&name).into());
            (number, field)
        })
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    Ok(Schema::new(numbered.into_iter().map(|(_, field)| field).collect::<Vec<_>>()))
}
