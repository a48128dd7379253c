//! What datafusion-pg-catalog leaves in statements that the engine can't run.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, SelectItem, SetExpr, Statement as Ast, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Columns of privileges and options, of which there are none; not all of them are in the tables.
const EMPTY_COLUMNS: [&str; 2] = ["relacl", "reloptions"];
/// How columns of such lists end that are there, but as texts.
const EMPTY_LISTS: [&str; 3] = ["acl", "config", "options"];

/// What asyncpg asks of a type that it does not know, an array for it. Its own query is recursive for types that there are not. Lists are of
/// text, which it knows: of a type of this answer that it did not know it would ask in the same way.
const ASYNCPG_TYPES: &str = "
    SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, CAST(NULL AS INT) AS basetype, t.typelem AS elemtype,
           e.typdelim AS elemdelim, CAST(NULL AS INT) AS range_subtype, CAST(NULL AS TEXT[]) AS attrtypoids,
           CAST(NULL AS TEXT[]) AS attrnames, 0 AS depth, CAST(NULL AS TEXT) AS basetype_name, e.typname AS elemtype_name,
           CAST(NULL AS TEXT) AS range_subtype_name
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace ns ON ns.oid = t.typnamespace
         LEFT JOIN pg_catalog.pg_type e ON t.typlen = -1 AND t.typelem <> 0 AND t.typelem = e.oid
    WHERE array_has(CAST($1 AS BIGINT[]), CAST(t.oid AS BIGINT))";

/// The text to take instead of one that the engine has no plan for.
pub(super) fn substitute(text: &str) -> &str {
    if text.starts_with("WITH RECURSIVE typeinfo_tree(") { ASYNCPG_TYPES } else { text }
}

/// The statement as the engine can run it.
pub(super) fn rewrite(mut statement: Ast) -> Ast {
    let _: ControlFlow<()> = VisitMut::visit(&mut statement, &mut Nothing);
    name_columns(&mut statement);
    statement
}

/// Names columns that have the same expression as one before, which the engine takes for the same column.
fn name_columns(statement: &mut Ast) {
    let Ast::Query(query) = statement else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let mut seen = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && !seen.insert(expr.to_string())
        {
            let alias = Ident::new(format!("column{}", index + 1));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// Puts nothing in the place of what would be nothing anyway.
struct Nothing;

impl VisitorMut for Nothing {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_nothing(expr) {
            *expr = Expr::Value(Value::Null.with_empty_span());
        }
        unescape(expr);
        ControlFlow::Continue(())
    }
}

/// `LIKE .. ESCAPE '/'`, as SQLAlchemy asks for names: the engine knows the backslash alone.
fn unescape(expr: &mut Expr) {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else { return };
    let Some(Value::SingleQuotedString(escape)) = escape_char.as_ref().map(|escape| &escape.value) else { return };
    if escape.is_empty() || escape == "\\" {
        return;
    }
    let text = format!("replace({pattern}, '{}', '\\')", escape.replace('\'', "''"));
    if let Ok(replaced) = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_expr()) {
        **pattern = replaced;
        *escape_char = None;
    }
}

fn is_nothing(expr: &Expr) -> bool {
    match expr {
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|name| EMPTY_COLUMNS.contains(&name.value.as_str())),
        Expr::Function(function) if is_array_of_query(function) => true,
        Expr::Function(function) if name_of(function) == "array_to_string" => {
            let text = expr.to_string();
            let first = text.split_once('(').and_then(|(_, arguments)| arguments.split(',').next()).unwrap_or_default();
            EMPTY_LISTS.iter().any(|end| first.trim().ends_with(end)) || has_array_of_query(expr)
        }
        _ => false,
    }
}

fn name_of(function: &Function) -> String {
    function.name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_ascii_lowercase()).unwrap_or_default()
}

/// `ARRAY(SELECT ..)`, which the engine lacks: psql asks so for members, privileges and options.
fn is_array_of_query(function: &Function) -> bool {
    name_of(function) == "array" && matches!(function.args, FunctionArguments::Subquery(_))
}

fn has_array_of_query(expr: &Expr) -> bool {
    struct Found;
    impl Visitor for Found {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if is_array_of_query(function) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Found).is_break()
}

#[cfg(test)]
mod tests {
    use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    #[test]
    fn what_the_engine_lacks_is_left_out() {
        for (text, expected) in [
            ("SELECT array_to_string(c.reloptions || array(select 'x' || x from unnest(y) x), ', ') AS o FROM pg_class c", "NULL AS o"),
            ("SELECT array_to_string(n.nspacl, ',') AS a FROM pg_namespace n", "NULL AS a"),
            ("SELECT c.relacl AS a FROM pg_class c", "NULL AS a"),
            ("SELECT array_to_string(string_to_array('a,b', ','), ' ') AS a", "array_to_string(string_to_array('a,b', ','), ' ') AS a"),
            ("SELECT 1 WHERE a NOT LIKE $1::VARCHAR || '%' ESCAPE '/'", r"a NOT LIKE replace($1::VARCHAR || '%', '/', '\')"),
            (r"SELECT 1 WHERE a LIKE 'x' ESCAPE '\'", r"a LIKE 'x' ESCAPE '\'"),
            ("SELECT session_user, current_user", "session_user, session_user AS column2"),
        ] {
            let statement = PostgresCompatibilityParser::new().parse(text).unwrap().pop().unwrap();
            let rewritten = rewrite(statement).to_string();
            assert!(rewritten.contains(expected), "{rewritten}");
        }
    }
}
