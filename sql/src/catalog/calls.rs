//! Functions that read files: `SELECT * FROM read_csv('data/*.csv', delimiter => ';')`.
//!
//! The engine makes the table of a function call at once, without waiting for anything, but to know the columns of files takes I/O. So a call
//! becomes the name of a table: the text of the `CREATE EXTERNAL TABLE` that it stands for. The catalog makes such a table when it is asked
//! for that name, as it does for the path of a file.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CreateExternalTable, Statement as Ast};
use datafusion::sql::sqlparser::ast::{
    Array, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableAlias, TableFactor, Value, VisitorMut,
};

use super::ddl::{absolute_locations, external_table_text};
use super::{DEFAULT_CATALOG, DEFAULT_SCHEMA};
use crate::diagnostics::SqlError;
use crate::stores::is_secret;
use crate::visit::visit_tables;

/// The functions, and the formats that they read.
const FUNCTIONS: &[(&str, &str)] = &[
    ("read_parquet", "PARQUET"),
    ("read_csv", "CSV"),
    ("read_json", "JSON"),
    ("read_ndjson", "JSON"),
    ("read_avro", "AVRO"),
    ("read_arrow", "ARROW"),
    ("read_delta", "DELTA"),
];

/// Other names by which people know an option.
const OPTIONS: &[(&str, &str)] = &[("header", "has_header"), ("sep", "delimiter"), ("delim", "delimiter")];

/// Puts names in the place of the calls of a statement.
pub(crate) fn name_calls(ast: &mut Ast) -> Result<(), SqlError> {
    visit_tables(ast, &mut Calls)
}

struct Calls;

impl VisitorMut for Calls {
    type Break = SqlError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        if let TableFactor::Table { name, alias, args, .. } = factor
            && let Some(called) = args
            && let [function] = name.0.as_slice()
            && let Some(function) = function.as_ident().map(|ident| ident.value.to_ascii_lowercase())
            && let Some((_, format)) = FUNCTIONS.iter().find(|(known, _)| *known == function)
        {
            let table = match table_of(&function, format, &called.args) {
                Ok(table) => table,
                Err(error) => return ControlFlow::Break(error),
            };
            let parts = [DEFAULT_CATALOG, DEFAULT_SCHEMA, &external_table_text(&table)];
            *name = ObjectName::from(parts.map(|part| Ident::with_quote('"', part)).to_vec());
            *args = None;
            alias.get_or_insert_with(|| TableAlias { explicit: true, name: Ident::new(function), columns: vec![], at: None });
        }
        ControlFlow::Continue(())
    }
}

/// The table that a call reads.
fn table_of(function: &str, format: &str, arguments: &[FunctionArg]) -> Result<CreateExternalTable, SqlError> {
    let wrong = || SqlError::new(format!("{function} takes paths, and options by name: {function}('data/*.x', name => value)"));
    let (mut locations, mut options) = (vec![], vec![]);
    for argument in arguments {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => locations.extend(texts(expr).ok_or_else(wrong)?),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(expr), .. } => {
                let key = name.value.to_ascii_lowercase();
                if is_secret(&key) {
                    let why =
                        format!("{function} takes no '{key}': how to get into a store is said by CREATE EXTERNAL TABLE or the environment");
                    return Err(SqlError::new(why));
                }
                let key = OPTIONS.iter().find(|(other, _)| *other == key).map_or(key.as_str(), |(_, option)| option);
                options.push((format!("format.{key}"), value(expr).ok_or_else(wrong)?));
            }
            _ => return Err(wrong()),
        }
    }
    if locations.is_empty() {
        return Err(wrong());
    }
    let mut table = CreateExternalTable {
        name: ObjectName::from(vec![Ident::new(function)]),
        columns: vec![],
        file_type: format.to_owned(),
        locations,
        table_partition_cols: vec![],
        order_exprs: vec![],
        if_not_exists: false,
        or_replace: false,
        temporary: false,
        unbounded: false,
        options,
        constraints: vec![],
    };
    absolute_locations(&mut table);
    Ok(table)
}

/// A path, or a list of them.
fn texts(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Array(Array { elem, .. }) => elem.iter().map(text).collect(),
        other => Some(vec![text(other)?]),
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => value.value.clone().into_string(),
        _ => None,
    }
}

fn value(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Value(value) => Some(match &value.value {
            Value::Boolean(yes) => Value::SingleQuotedString(yes.to_string()),
            Value::Number(number, _) => Value::SingleQuotedString(number.to_string()),
            other => other.clone(),
        }),
        _ => None,
    }
}
