//! `COPY ... TO` and `INSERT INTO`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::{Column, TableReference};
use datafusion::datasource::file_format::file_type_to_format;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::dml::{CopyTo, InsertOp};
use datafusion::logical_expr::{DdlStatement, DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp, cast};

use super::SqlError;
use crate::catalog::{ClusterCatalog, DEFAULT_CATALOG, SessionCatalogs, TableEntry};
use crate::delta::{DeltaProvider, check_appends};
use crate::write::{
    DeltaFile, DeltaOperation, DeltaWrite, RowChange, TableWrite, WriteFormat, WriteMode, WriteSpec, check_options, staging_url,
};

/// A query whose rows go into files.
#[derive(Debug, Clone)]
pub struct WriteStatement {
    /// The rows.
    pub input: LogicalPlan,
    /// Where they go.
    pub target: WriteTarget,
    /// The table that is inserted into, if it is one.
    pub table: Option<TableReference>,
}

/// Where rows go: a [`WriteSpec`] that has no id yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTarget {
    /// URL of a directory (ending in `/`) or of a single file.
    pub url: String,
    /// The files' format.
    pub format: WriteFormat,
    /// The format's options.
    pub options: Vec<(String, String)>,
    /// Columns that become directories.
    pub partition_by: Vec<String>,
    /// What happens to files that are there.
    pub mode: WriteMode,
    /// Columns that take no null.
    pub not_null: Vec<String>,
    /// The managed table that the rows go to. One that is made gets its id with the write's, and its directory's name ends in it.
    pub table: Option<Box<TableWrite>>,
    /// The Delta Lake table that the rows go to. Its transaction gets its name with the write's.
    pub delta: Option<Box<DeltaWrite>>,
    /// How rows of the table are changed, where the rows written are the table's own.
    pub change: Option<RowChange>,
}

impl WriteTarget {
    /// New Parquet files at a place.
    pub(super) fn parquet(url: String) -> Self {
        Self {
            url,
            format: WriteFormat::Parquet,
            options: vec![],
            partition_by: vec![],
            mode: WriteMode::Append,
            not_null: vec![],
            table: None,
            delta: None,
            change: None,
        }
    }
}

impl WriteStatement {
    /// Whether it is known beforehand that there are no rows, so that nothing has to run: a table is made without any.
    pub fn has_no_rows(&self) -> bool {
        has_no_rows(&self.input)
    }
}

/// Whether a plan gives no rows, whatever the tables hold.
pub(super) fn has_no_rows(input: &LogicalPlan) -> bool {
    matches!(input, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row)
}

impl WriteTarget {
    /// The write with its id, which must be new in the cluster: `j7` does.
    pub fn spec(&self, id: impl Into<String>) -> WriteSpec {
        let id = id.into();
        let (url, table) = match &self.table {
            Some(table) if table.create.is_some() => {
                let table_id = uuid::Uuid::new_v4().simple().to_string();
                (format!("{}-{table_id}/", self.url.trim_end_matches('/')), Some(TableWrite { id: table_id, ..TableWrite::clone(table) }))
            }
            other => (self.url.clone(), other.as_deref().cloned()),
        };
        WriteSpec {
            staging: if table.is_some() { format!("{url}data/{id}/") } else { staging_url(&url, &id) },
            id,
            url,
            format: self.format,
            options: self.options.clone(),
            partition_by: self.partition_by.clone(),
            mode: self.mode,
            not_null: self.not_null.clone(),
            table,
            delta: self.delta.as_deref().map(|delta| DeltaWrite { transaction: new_transaction(), ..delta.clone() }),
            change: self.change.clone(),
        }
    }
}

fn new_transaction() -> String {
    format!("volley-{}", uuid::Uuid::new_v4().simple())
}

/// The columns of a write's result: how many rows were written.
pub fn write_result_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// `COPY query TO 'place'`: a directory if the place ends in `/`, is one, has no extension or rows are spread by columns; else a file.
pub(super) fn copy(state: &SessionState, copy: CopyTo) -> Result<WriteStatement, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let extension = file_type_to_format(&copy.file_type).map_err(wrong)?.get_ext();
    let format = extension.parse().map_err(wrong)?;
    let url = ListingTableUrl::parse(&copy.output_url).map_err(wrong)?;
    if url.get_glob().is_some() {
        return Err(SqlError::new(format!("can't write to the pattern '{}'; name a file or a directory", copy.output_url)));
    }
    let directory = url.is_collection() || url.file_extension().is_none() || !copy.partition_by.is_empty();
    let url = match url.as_str() {
        text if directory && !text.ends_with('/') => format!("{text}/"),
        text => text.to_owned(),
    };
    let mode = if directory { WriteMode::Append } else { WriteMode::Overwrite };
    let mut options: Vec<(String, String)> = copy.options.into_iter().collect();
    options.sort();
    check_options(format, &options, state.config_options()).map_err(wrong)?;
    let target = WriteTarget { format, options, partition_by: copy.partition_by, mode, ..WriteTarget::parquet(url) };
    Ok(WriteStatement { input: Arc::unwrap_or_clone(copy.input), target, table: None })
}

/// `INSERT INTO table`: new files in the table's directory. `TRUNCATE` puts none in the place of those that are there.
pub(super) async fn insert(state: &SessionState, dml: DmlStatement) -> Result<WriteStatement, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let name = &dml.table_name;
    let mode = match dml.op {
        WriteOp::Insert(InsertOp::Append) => WriteMode::Append,
        WriteOp::Insert(InsertOp::Overwrite) | WriteOp::Truncate => WriteMode::Overwrite,
        _ => return Err(SqlError::new("REPLACE INTO is not supported: files have no keys")),
    };
    let not_null = not_null_columns(&dml);
    let input = with_types_of(&dml.target.schema(), dml.input.as_ref().clone()).map_err(wrong)?;
    if let Some((target, _)) = managed(state, name, mode) {
        let target = WriteTarget { not_null, ..target };
        return Ok(WriteStatement { input, target, table: Some(dml.table_name) });
    }
    let provider = source_as_provider(&dml.target).map_err(wrong)?;
    if let Some(table) = provider.downcast_ref::<DeltaProvider>() {
        check_appends(table).map_err(wrong)?;
        let operation = if mode == WriteMode::Overwrite { DeltaOperation::Overwrite } else { DeltaOperation::Append };
        let target = WriteTarget { not_null, ..delta(table, operation, vec![]).map_err(wrong)? };
        return Ok(WriteStatement { input, target, table: Some(dml.table_name) });
    }
    if dml.op == WriteOp::Truncate {
        return Err(not_ours(name));
    }
    let Some(listing) = provider.downcast_ref::<ListingTable>() else {
        return Err(SqlError::new(format!("can't insert into '{name}': it is not a table over files")));
    };
    let [url] = listing.table_paths().as_slice() else {
        return Err(SqlError::new(format!("can't insert into '{name}': it has several locations")));
    };
    if !url.is_collection() {
        return Err(SqlError::new(format!("can't insert into '{name}': it is one file, '{url}'; a table over a directory takes inserts")));
    }
    let format = listing.options().format.get_ext();
    let compression = listing.options().format.compression_type();
    let format: WriteFormat = format.trim_start_matches('.').parse().map_err(wrong)?;
    let mut options = table_options(state, name).await?;
    if let Some(compression) = compression.filter(|compression| *compression.get_variant() != CompressionTypeVariant::UNCOMPRESSED) {
        options.push(("format.compression".into(), compression.get_variant().to_string()));
    }
    let partition_by = listing.options().table_partition_cols.iter().map(|(column, _)| column.clone()).collect();
    let target = WriteTarget { format, options, partition_by, mode, not_null, ..WriteTarget::parquet(url.as_str().to_owned()) };
    Ok(WriteStatement { input, target, table: Some(dml.table_name) })
}

/// The rows with the types that a table's columns have. The engine casts values too, but takes a CASE for what its first branch is, and others may
/// make another type of it.
pub(super) fn with_types_of(table: &Schema, input: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    if has_no_rows(&input) {
        return Ok(input);
    }
    let columns = input.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        match table.field_with_name(field.name()) {
            Ok(declared) => cast(column, declared.data_type().clone()).alias(field.name()),
            Err(_) => column,
        }
    });
    let columns: Vec<_> = columns.collect();
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

/// Columns of a statement's table that take no null.
pub(super) fn not_null_columns(dml: &DmlStatement) -> Vec<String> {
    dml.target.schema().fields().iter().filter(|field| !field.is_nullable()).map(|field| field.name().clone()).collect()
}

/// A table whose rows can't be changed.
pub(super) fn not_ours(name: &TableReference) -> SqlError {
    SqlError::new(format!(
        "rows of '{name}' can't be changed: it is neither a table that CREATE TABLE made nor one of Delta Lake (STORED AS DELTA)"
    ))
}

/// The catalog's entry of a table, if it has one, and whether it is the session's own.
fn entry_of(state: &SessionState, name: &TableReference) -> Option<(TableEntry, bool)> {
    let (catalog, schema, table) = catalog_of(state, name)?;
    Some((catalog.entry(&schema, &table)?, catalog.is_temporary()))
}

/// The catalog that holds a table with an entry.
pub(super) fn holder_of(state: &SessionState, name: &TableReference) -> Option<Arc<ClusterCatalog>> {
    Some(catalog_of(state, name)?.0)
}

/// The catalog that holds a table, the session's own before the cluster's, and the table's schema and name in it.
fn catalog_of(state: &SessionState, name: &TableReference) -> Option<(Arc<ClusterCatalog>, Arc<str>, Arc<str>)> {
    let names = &state.config_options().catalog;
    let resolved = name.clone().resolve(&names.default_catalog, &names.default_schema);
    if resolved.catalog.as_ref() != DEFAULT_CATALOG {
        return None;
    }
    let catalogs = [SessionCatalogs::temporary_of(state), SessionCatalogs::cluster_of(state)];
    let holder = catalogs.into_iter().flatten().find(|catalog| catalog.entry(&resolved.schema, &resolved.table).is_some())?;
    Some((holder, resolved.schema, resolved.table))
}

/// Where rows of a Delta Lake table go.
pub(super) fn delta(table: &DeltaProvider, operation: DeltaOperation, rewritten: Vec<DeltaFile>) -> datafusion::error::Result<WriteTarget> {
    let url = table.log().url();
    if table.log().is_fixed() {
        return Err(DataFusionError::Plan(format!("the Delta Lake table at '{url}' is read at a fixed version and can't be written to")));
    }
    let (version, shape) = (table.version().unwrap_or_default(), table.shape()?);
    let write = DeltaWrite { transaction: String::new(), version, shape, operation, rewritten };
    Ok(WriteTarget {
        partition_by: table.partition_columns(),
        delta: Some(Box::new(write)),
        ..WriteTarget::parquet(url.as_str().to_owned())
    })
}

/// Where rows of a managed table go, and its entry; `None` where it is another table.
pub(super) fn managed(state: &SessionState, name: &TableReference, mode: WriteMode) -> Option<(WriteTarget, TableEntry)> {
    let (entry, temporary) = entry_of(state, name)?;
    let managed = entry.managed.clone()?;
    let (schema, name) = (entry.schema.clone(), entry.name.clone());
    let write = TableWrite { schema, name, id: managed.id, temporary, base: None, create: None };
    Some((WriteTarget { mode, table: Some(Box::new(write)), ..WriteTarget::parquet(managed.location) }, entry))
}

/// The options that a table was created with, which its new files get too.
async fn table_options(state: &SessionState, name: &TableReference) -> Result<Vec<(String, String)>, SqlError> {
    let Some((entry, _)) = entry_of(state, name) else {
        return Ok(vec![]);
    };
    let wrong = |error: DataFusionError| SqlError::of(&error, "");
    let statement = state.sql_to_statement(&entry.ddl, &state.config_options().sql_parser.dialect).map_err(wrong)?;
    let plan = state.statement_to_plan(statement).await.map_err(wrong)?;
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) = plan else {
        return Ok(vec![]);
    };
    let mut options: Vec<_> = create.options.into_iter().filter(|(name, _)| name.starts_with("format.")).collect();
    options.sort();
    Ok(options)
}
