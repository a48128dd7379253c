//! What tools ask before their first query: catalogs, schemas, tables, types and abilities. Schemas are those that the protocol
//! prescribes, by arrow-flight's builders: some clients compare them exactly.

use std::sync::{Arc, LazyLock};

use arrow_flight::FlightDescriptor;
use arrow_flight::FlightInfo;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProviderList, SchemaProvider};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::TableType;
use futures::{StreamExt, TryStreamExt};
use tonic::{Response, Status};
use volley_proto::Failure;

use super::boundary;
use super::info::flight_info;
use super::service::{FlightSql, Frames};
use crate::service::status;
use crate::sessions::Session;

/// What GetPrimaryKeys answers with.
pub(super) static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// What GetExportedKeys, GetImportedKeys and GetCrossReference answer with.
pub(super) static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// The kinds of table that there are.
const TABLE_TYPES: [&str; 3] = ["LOCAL TEMPORARY", "TABLE", "VIEW"];

/// The FlightInfo of a metadata command: the command itself is the ticket.
pub(super) fn info(schema: &Schema, descriptor: FlightDescriptor) -> Result<Response<FlightInfo>, Status> {
    let ticket = descriptor.cmd.clone();
    flight_info(schema, ticket, descriptor).map(Response::new)
}

/// A metadata answer as a stream.
pub(super) fn stream(rows: Result<RecordBatch, Status>) -> Result<Response<Frames>, Status> {
    let rows = rows?;
    let frames = FlightDataEncoderBuilder::new().with_schema(rows.schema()).build(futures::stream::iter([Ok(rows)]));
    let frames = frames.map_err(|error: FlightError| status::internal("the answer can't be encoded", error));
    Ok(Response::new(frames.boxed()))
}

/// An answer without rows.
pub(super) fn nothing(schema: &SchemaRef) -> Result<Response<Frames>, Status> {
    stream(Ok(RecordBatch::new_empty(Arc::clone(schema))))
}

/// The error of a builder.
pub(super) fn unbuilt(error: impl std::fmt::Display) -> Status {
    status::internal("the answer can't be built", error)
}

/// Catalogs in order.
pub(super) fn catalogs(session: &Session, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    session.state().catalog_list().catalog_names().into_iter().for_each(|name| builder.append(name));
    builder.build().map_err(unbuilt)
}

/// Schemas in order.
pub(super) fn schemas(session: &Session, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let wanted = command.catalog.clone();
    let mut builder = command.into_builder();
    let state = session.state();
    for (catalog, schema, _) in all_schemas(state.catalog_list().as_ref(), wanted.as_deref(), None) {
        builder.append(catalog, schema);
    }
    builder.build().map_err(unbuilt)
}

/// The kinds of table.
pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    TABLE_TYPES.iter().for_each(|name| builder.append(name));
    builder.build().map_err(unbuilt)
}

impl FlightSql {
    /// Tables in order. A table that can't be opened is listed without columns.
    pub(super) async fn tables(&self, session: Arc<Session>, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let limit = super::statements::planning_limit(&session.options());
        let listed = self.planning.run(limit, async move || list_tables(&session, command).await).await;
        listed.map_err(|failure: Failure| status::of_failure(&failure, None))?.map_err(unbuilt)
    }
}

async fn list_tables(session: &Session, command: CommandGetTables) -> Result<RecordBatch, DataFusionError> {
    let CommandGetTables { catalog, db_schema_filter_pattern, table_name_filter_pattern, include_schema, .. } = command.clone();
    let mut builder = command.into_builder();
    let state = session.state();
    let empty = Schema::empty();
    for (catalog, schema, provider) in all_schemas(state.catalog_list().as_ref(), catalog.as_deref(), db_schema_filter_pattern.as_deref()) {
        let mut names = provider.table_names();
        names.sort_unstable();
        for name in names {
            if table_name_filter_pattern.as_deref().is_some_and(|pattern| !matches(pattern, &name)) {
                continue;
            }
            let Some(kind) = provider.table_type(&name).await.unwrap_or(Some(TableType::Base)) else { continue };
            let columns = if include_schema { columns(provider.as_ref(), &name).await } else { None };
            let appended = builder.append(&catalog, &schema, &name, kind_name(kind), columns.as_ref().unwrap_or(&empty));
            appended.map_err(|error| DataFusionError::External(Box::new(error)))?;
        }
    }
    builder.build().map_err(|error| DataFusionError::External(Box::new(error)))
}

/// A table's columns as clients see them; `None` where it can't be opened.
async fn columns(schema: &dyn SchemaProvider, name: &str) -> Option<Schema> {
    match schema.table(name).await {
        Ok(Some(table)) => Some(boundary::plain_schema(&table.schema())),
        Ok(None) => None,
        Err(error) => {
            tracing::debug!(name, %error, "a table could not be opened for its columns");
            None
        }
    }
}

/// All schemas whose catalog is `catalog` and whose name matches `pattern`.
fn all_schemas(
    catalogs: &dyn CatalogProviderList,
    catalog: Option<&str>,
    pattern: Option<&str>,
) -> Vec<(String, String, Arc<dyn SchemaProvider>)> {
    let mut found = Vec::new();
    let mut names = catalogs.catalog_names();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| catalog.is_none_or(|wanted| wanted == name)) {
        let Some(provider) = catalogs.catalog(&name) else { continue };
        let mut schemas = provider.schema_names();
        schemas.sort_unstable();
        for schema in schemas.into_iter().filter(|schema| pattern.is_none_or(|pattern| matches(pattern, schema))) {
            if let Some(provider) = provider.schema(&schema) {
                found.push((name.clone(), schema, provider));
            }
        }
    }
    found
}

fn kind_name(kind: TableType) -> &'static str {
    match kind {
        TableType::Base => "TABLE",
        TableType::View => "VIEW",
        TableType::Temporary => "LOCAL TEMPORARY",
    }
}

/// Whether `name` matches a pattern in which `%` stands for any characters and `_` for one. Compared ahead of opening tables; the
/// builders compare again.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    loop {
        match pattern.next() {
            None => return name.next().is_none(),
            Some('%') => {
                let rest = pattern.as_str();
                return std::iter::successors(Some(name.as_str()), |name| {
                    name.char_indices().nth(1).map_or_else(|| (!name.is_empty()).then_some(""), |(next, _)| Some(&name[next..]))
                })
                .any(|name| matches(rest, name));
            }
            Some('_') => {
                if name.next().is_none() {
                    return false;
                }
            }
            Some(wanted) => {
                if name.next() != Some(wanted) {
                    return false;
                }
            }
        }
    }
}

/// Data that is made once, or the error that making it had.
pub(super) fn made<T>(data: &Result<T, FlightError>) -> Result<&T, Status> {
    data.as_ref().map_err(unbuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, name) in
            [("", ""), ("%", ""), ("%", "ab"), ("a%", "a"), ("a%c", "abbc"), ("_b%", "ab"), ("%b%", "abc"), ("l_neitem", "lineitem")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("_", ""), ("a", "ab"), ("a%c", "ab"), ("%z%", "abc"), ("A", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
