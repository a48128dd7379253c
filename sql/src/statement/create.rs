//! `CREATE TABLE`, with rows or without: a write that makes a managed table.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, LogicalPlan};

use super::SqlError;
use super::ddl::{cluster, resolve};
use super::write::{WriteStatement, WriteTarget, has_no_rows};
use crate::catalog::{SessionCatalogs, check_columns, columns_of_query, encode_columns, path_part};
use crate::write::{TableCreation, TableWrite};

/// The write of a `CREATE TABLE` whose text is `ddl`, for the cluster or for the session alone.
pub(super) fn table(state: &SessionState, ddl: &str, plan: LogicalPlan, temporary: bool) -> Result<WriteStatement, SqlError> {
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = plan else {
        return Err(SqlError::new("only plain tables are supported: CREATE TABLE name (columns), CREATE TABLE name AS query"));
    };
    let CreateMemoryTable { name, constraints, input, if_not_exists, or_replace, column_defaults: _, temporary: _ } = create;
    if if_not_exists && or_replace {
        return Err(SqlError::new("OR REPLACE and IF NOT EXISTS can't be said together"));
    }
    if !constraints.is_empty() {
        return Err(SqlError::new(format!("table '{name}' can't have PRIMARY KEY, UNIQUE or FOREIGN KEY: nothing would enforce them"))
            .with_hint("leave them out; NOT NULL is enforced"));
    }
    let catalog = if temporary { SessionCatalogs::temporary_of(state) } else { Some(cluster(state)?) };
    let Some(warehouse) = catalog.as_ref().and_then(|catalog| catalog.warehouse()).map(str::to_owned) else {
        return Err(SqlError::new("this cluster has no place for tables of its own")
            .with_hint("start its scheduler with --warehouse URL, or write files with COPY and read them with CREATE EXTERNAL TABLE"));
    };
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let (schema, name) = resolve(state, name)?;
    // What a query gives is known when its types are: those of a UNION are not before.
    let input = state.analyzer().execute_and_check(Arc::unwrap_or_clone(input), state.config_options(), |_, _| {}).map_err(wrong)?;
    let columns = columns(&input);
    check_columns(&columns).map_err(wrong)?;
    let names = &state.config_options().catalog;
    let creation = TableCreation {
        columns: encode_columns(&columns),
        ddl: ddl.to_owned(),
        default_catalog: names.default_catalog.clone(),
        default_schema: names.default_schema.clone(),
        if_not_exists,
        or_replace,
    };
    let write = TableWrite { schema: schema.clone(), name: name.clone(), id: String::new(), temporary, base: None, create: Some(creation) };
    let url = format!("{warehouse}{}/{}", path_part(&schema), path_part(&name));
    let target = WriteTarget { table: Some(Box::new(write)), ..WriteTarget::parquet(url) };
    Ok(WriteStatement { input, target, table: Some(TableReference::partial(schema, name)) })
}

/// The columns of the new table: as declared where it has no rows.
fn columns(input: &LogicalPlan) -> Schema {
    let schema = input.schema().as_arrow();
    if has_no_rows(input) { schema.clone() } else { columns_of_query(schema) }
}
