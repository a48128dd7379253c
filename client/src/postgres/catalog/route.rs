//! Which statements are for PostgreSQL's catalog: queries that read its tables, or that read none and call its functions.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Statement as Ast, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;

use crate::postgres::statement::Statement;

/// Words that only a statement for the catalog has, besides those that begin with `pg_`.
const WORDS: &[&str] = &[
    "version",
    "current_schema",
    "current_schemas",
    "current_database",
    "current_catalog",
    "current_user",
    "session_user",
    "current_role",
    "current_setting",
    "set_config",
    "format_type",
    "obj_description",
    "col_description",
    "shobj_description",
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_any_column_privilege",
    "quote_ident",
    "txid_current",
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "to_regclass",
    "to_regtype",
    "regclass",
    "regtype",
    "regproc",
    "regnamespace",
];

/// Where a statement is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Catalog,
    Cluster,
    /// It reads the catalog and this table of the cluster.
    Both(String),
}

/// Whether a statement has a word that one for the catalog has. Most statements have none and are not looked at more closely.
pub(crate) fn may_be_for_catalog(statement: &Statement) -> bool {
    matches!(statement.word(0).as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE" | "")
        && statement.lexemes.iter().any(|lexeme| match &lexeme.token {
            Token::Word(word) => is_catalog_word(&word.value.to_ascii_lowercase()),
            _ => false,
        })
}

fn is_catalog_word(word: &str) -> bool {
    word.starts_with("pg_") || WORDS.contains(&word)
}

/// Where a statement that may be for the catalog is run.
pub(super) fn route(statement: &Ast) -> Route {
    if !matches!(statement, Ast::Query(_)) {
        return Route::Cluster;
    }
    let mut tables = Tables::default();
    let _: ControlFlow<()> = statement.visit(&mut tables);
    let Tables { named, common } = tables;
    let names = named.into_iter().filter(|name| name.len() > 1 || !common.contains(&name[0]));
    let (of_catalog, others): (Vec<_>, Vec<_>) = names.partition(|name| is_of_catalog(name));
    // Tables that describe tables are in both.
    let others: Vec<_> =
        others.into_iter().filter(|name| !matches!(name.as_slice(), [.., schema, _] if schema == "information_schema")).collect();
    match (of_catalog.is_empty(), others.into_iter().next()) {
        (_, None) => Route::Catalog,
        (true, Some(_)) => Route::Cluster,
        (false, Some(table)) => Route::Both(table.join(".")),
    }
}

fn is_of_catalog(name: &[String]) -> bool {
    match name {
        [.., schema, _] => schema == "pg_catalog",
        [table] => PG_CATALOG_TABLES.contains(&table.as_str()),
        [] => false,
    }
}

/// The tables that a statement names, and the common ones that it makes itself.
#[derive(Debug, Default)]
struct Tables {
    named: Vec<Vec<String>>,
    common: HashSet<String>,
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.common.extend(tables.map(|table| lower(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name: Vec<String> = relation.0.iter().filter_map(|part| part.as_ident()).map(lower).collect();
        if !name.is_empty() {
            self.named.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &datafusion::sql::sqlparser::ast::TableFactor) -> ControlFlow<()> {
        // A function in the place of a table is visited as a relation as well.
        if let datafusion::sql::sqlparser::ast::TableFactor::Table { name, args: Some(_), .. } = factor
            && let Some(name) = name.0.last().and_then(|part| part.as_ident())
        {
            self.common.insert(lower(name));
        }
        ControlFlow::Continue(())
    }
}

fn lower(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::super::super::statement::split;
    use super::*;

    fn routed(text: &str) -> Route {
        if !may_be_for_catalog(&split(text).pop().unwrap()) {
            return Route::Cluster;
        }
        route(&PostgresCompatibilityParser::new().parse(text).unwrap().pop().unwrap())
    }

    #[test]
    fn statements_find_their_place() {
        for text in [
            "SELECT relname FROM pg_catalog.pg_class",
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
            "SELECT version(), current_schema()",
            "select pg_backend_pid()",
            "WITH x AS (SELECT oid FROM pg_type) SELECT * FROM x",
            "SELECT quote_ident(table_name) FROM information_schema.tables",
            "SELECT 'nation'::regclass",
        ] {
            assert_eq!(routed(text), Route::Catalog, "{text}");
        }
        for text in [
            "SELECT 1",
            "SELECT * FROM t",
            "SELECT version FROM t",
            "SELECT current_user, x FROM t",
            "SELECT table_name FROM information_schema.tables",
            "INSERT INTO pg_t VALUES (1)",
        ] {
            assert_eq!(routed(text), Route::Cluster, "{text}");
        }
        assert_eq!(routed("SELECT * FROM t JOIN pg_class ON true"), Route::Both("t".into()));
    }
}
