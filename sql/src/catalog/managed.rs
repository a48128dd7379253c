//! Managed tables: immutable Parquet files behind a version pointer in the catalog.
//!
//! ```text
//! catalog entry: id, location, manifest ──> <location>/versions/v3-j17.json: columns and files ──> <location>/data/j17/*.parquet
//! ```
//!
//! A file, once a manifest names it, never changes, and neither does a manifest. So whoever read an entry has a snapshot, and a commit is one
//! replacement of the entry by another whose manifest is new.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan};
use datafusion::sql::parser::Statement as Ast;
use datafusion::sql::sqlparser::ast::Statement as SqlAst;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, encode_arrow_schema};
use serde::{Deserialize, Serialize};
use url::Url;

use super::store::Discarded;

/// Grows when the form of a manifest changes.
const FORMAT: u32 = 1;

/// What the catalog's entry of a managed table says beside its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedTable {
    /// Tells the table from others of its name, before and after it.
    pub id: String,
    /// URL of its directory, ending in `/`.
    pub location: String,
    /// Grows with each commit, from 1.
    pub version: u64,
    /// Path of the version's manifest within the directory.
    pub manifest: String,
}

/// One version of a table: its columns, and the files that hold its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The columns as an encapsulated Arrow IPC schema message, in base64.
    columns: String,
    pub(crate) files: Vec<ManifestFile>,
    /// What was the table's, or another's of its name, until this version: in case that it is not noted yet that nobody needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<Discarded>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// Path within the table's directory.
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Manifest {
    /// A version without files.
    pub(crate) fn empty(columns: &Schema) -> Self {
        Self { format: FORMAT, columns: encode_columns(columns), files: vec![], replaces: None }
    }

    /// The columns.
    pub(crate) fn schema(&self) -> Result<SchemaRef> {
        decode_columns(&self.columns)
    }

    /// Reads a version.
    pub(crate) async fn read(table: &ManagedTable, runtime: &RuntimeEnv) -> Result<Self> {
        let url = ListingTableUrl::parse(format!("{}{}", table.location, table.manifest))?;
        let store = runtime.object_store(&url)?;
        let bytes = store.get(url.prefix()).await?.bytes().await?;
        let wrong = |why: String| DataFusionError::Execution(format!("'{url}' is not the manifest of a table: {why}"));
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match manifest.format {
            FORMAT => Ok(manifest),
            other => Err(wrong(format!("its format is {other}, this build reads {FORMAT}"))),
        }
    }

    /// Writes a version to `path` within the directory at `location`. The same content under the same path does no harm.
    pub(crate) async fn write(&self, location: &str, path: &str, runtime: &RuntimeEnv) -> Result<()> {
        let url = ListingTableUrl::parse(format!("{location}{path}"))?;
        let store = runtime.object_store(&url)?;
        let bytes = serde_json::to_vec(self).map_err(|error| DataFusionError::External(Box::new(error)))?;
        store.put(url.prefix(), PutPayload::from(bytes)).await?;
        sync_local(&url).await
    }
}

/// Waits until the disk has a local file and its name.
async fn sync_local(url: &ListingTableUrl) -> Result<()> {
    let Some(path) = Url::parse(url.as_str()).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok()) else {
        return Ok(());
    };
    tokio::fs::File::open(&path).await?.sync_all().await?;
    if let Some(directory) = path.parent() {
        tokio::fs::File::open(directory).await?.sync_all().await?;
    }
    Ok(())
}

/// The columns that [`encode_columns`] wrote.
pub(crate) fn decode_columns(text: &str) -> Result<SchemaRef> {
    let wrong = |why: String| DataFusionError::Internal(format!("the columns of a managed table can't be read: {why}"));
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| wrong(error.to_string()))?;
    let schema = arrow_ipc::convert::try_schema_from_ipc_buffer(&bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(schema))
}

/// Columns as text.
pub(crate) fn encode_columns(columns: &Schema) -> String {
    encode_arrow_schema(columns)
}

/// The provider of a version of the table that the statement `ddl` made. `state` has no tables.
pub(super) async fn open(state: &SessionState, table: &ManagedTable, ddl: &str) -> Result<Arc<dyn TableProvider>> {
    let manifest = Manifest::read(table, state.runtime_env()).await?;
    let paths = manifest.files.iter().map(|file| ListingTableUrl::parse(format!("{}{}", table.location, file.path)));
    let format = ParquetFormat::default().with_options(state.table_options().parquet.clone());
    let options = ListingOptions::new(Arc::new(format)).with_file_extension("parquet");
    let config = ListingTableConfig::new_with_multi_paths(paths.collect::<Result<_>>()?)
        .with_listing_options(options)
        .with_schema(manifest.schema()?);
    let listing = ListingTable::try_new(config)?
        .with_column_defaults(column_defaults(state, ddl).await?)
        .with_cache(state.runtime_env().cache_manager.get_file_statistic_cache());
    Ok(Arc::new(listing))
}

/// What columns get where an INSERT gives them nothing.
async fn column_defaults(state: &SessionState, ddl: &str) -> Result<HashMap<String, Expr>> {
    // Known from the text, because most tables have none and a statement is not parsed for nothing.
    if !ddl.to_ascii_lowercase().contains("default") {
        return Ok(HashMap::new());
    }
    let mut statement = state.sql_to_statement(ddl, &state.config_options().sql_parser.dialect)?;
    if let Ast::Statement(sql) = &mut statement
        && let SqlAst::CreateTable(create) = sql.as_mut()
    {
        (create.query, create.temporary) = (None, false);
        if let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = state.statement_to_plan(statement).await? {
            return Ok(create.column_defaults.into_iter().collect());
        }
    }
    Ok(HashMap::new())
}

/// Refuses columns that could not be read back as they are, and columns of one name.
pub(crate) fn check_columns(columns: &Schema) -> Result<()> {
    if columns.fields().is_empty() {
        return Err(DataFusionError::Plan("a table needs at least one column".into()));
    }
    for (place, field) in columns.fields().iter().enumerate() {
        if columns.fields().iter().take(place).any(|other| other.name() == field.name()) {
            let name = field.name();
            return Err(DataFusionError::Plan(format!("two columns have the name '{name}': give one of them another with AS")));
        }
        check_column(field)?;
    }
    Ok(())
}

fn check_column(field: &Field) -> Result<()> {
    let refused = |why: String| {
        let (name, data_type) = (field.name(), field.data_type());
        DataFusionError::Plan(format!("a table can't hold column '{name}' of type {data_type}: {why}; CAST it to another type"))
    };
    match through_parquet(field).map_err(|error| refused(error.to_string()))? {
        same if same == *field.data_type() => Ok(()),
        other => Err(refused(format!("Parquet would give it back as {other}"))),
    }
}

/// The type that a column has after it was in a file. A row is written for that, because some types have a schema and no values in Parquet.
fn through_parquet(field: &Field) -> Result<DataType> {
    let schema = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let row = RecordBatch::try_new(Arc::clone(&schema), vec![new_null_array(field.data_type(), 1)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
    writer.write(&row)?;
    let file = Bytes::from(writer.into_inner()?);
    let read = ParquetRecordBatchReaderBuilder::try_new(file)?;
    Ok(read.schema().field(0).data_type().clone())
}

/// The columns of a table that is made from a query: any of them may be null later, whatever the query gives.
pub(crate) fn columns_of_query(query: &Schema) -> Schema {
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true).with_metadata(Default::default());
    Schema::new(query.fields().iter().map(nullable).collect::<Vec<_>>())
}

/// A part of a path for a name, for people who look at the directory.
pub(crate) fn path_part(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().map(kept).take(64).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::IntervalUnit;

    use super::*;

    fn column(data_type: DataType) -> Schema {
        Schema::new(vec![Field::new("c", data_type, true)])
    }

    #[test]
    fn columns_travel_as_text() {
        let entry = Field::new(
            "entries",
            DataType::Struct(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Date32, true)].into()),
            false,
        );
        let columns = Schema::new(vec![
            Field::new("a", DataType::Decimal256(50, 3), false),
            Field::new("b", DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8)), true),
            Field::new("m", DataType::Map(Arc::new(entry), false), true),
        ]);
        assert_eq!(decode_columns(&encode_columns(&columns)).unwrap().as_ref(), &columns);
        check_columns(&columns).unwrap();
    }

    #[test]
    fn types_that_come_back_are_taken() {
        for data_type in [DataType::Utf8View, DataType::LargeBinary, DataType::Float16, DataType::Null, DataType::Decimal32(5, 2)] {
            check_columns(&column(data_type)).unwrap();
        }
    }

    #[test]
    fn types_without_values_in_files_are_refused() {
        let error = check_columns(&column(DataType::Interval(IntervalUnit::MonthDayNano))).unwrap_err().to_string();
        assert!(error.contains("column 'c' of type Interval(MonthDayNano)") && error.contains("CAST it"), "{error}");
    }

    #[test]
    fn names_that_occur_twice_are_refused() {
        let twice = Schema::new(vec![Field::new("c", DataType::Int32, true), Field::new("c", DataType::Utf8, true)]);
        assert!(check_columns(&twice).unwrap_err().to_string().contains("the name 'c'"));
    }
}
