//! A walk over the tables that a statement names.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement as Ast};
use datafusion::sql::sqlparser::ast::{VisitMut, VisitorMut};

use crate::diagnostics::SqlError;

/// Shows the syntax tree of a statement to a visitor, also that of one which is explained or whose rows are copied.
pub(crate) fn visit_tables<V: VisitorMut<Break = SqlError>>(ast: &mut Ast, visitor: &mut V) -> Result<(), SqlError> {
    let visited = match ast {
        Ast::Statement(statement) => statement.as_mut().visit(visitor),
        Ast::Explain(explain) => return visit_tables(&mut explain.statement, visitor),
        Ast::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.as_mut().visit(visitor),
            CopyToSource::Relation(_) => return Ok(()),
        },
        Ast::CreateExternalTable(_) | Ast::Reset(_) => return Ok(()),
    };
    match visited {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}
