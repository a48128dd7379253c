//! One version of a table: what a statement reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::{DFSchema, Statistics, ToDFSchema};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::{ParquetFormat, transform_schema_to_view};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake_core::DeltaTable;
use deltalake_core::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake_core::kernel::{EagerSnapshot, Version};
use object_store::path::Path;
use url::Url;

use super::delta_error;
use super::files::{ActiveFile, Bounds, FileColumns};
use super::log::DeltaLog;

/// Options of tables that change how files are read, in a way that is not understood here.
const COLUMN_MAPPING: &str = "delta.columnMapping.mode";

/// A version of a Delta Lake table.
#[derive(Debug)]
pub(crate) struct DeltaProvider {
    log: Arc<DeltaLog>,
    table: DeltaTable,
    schema: SchemaRef,
    columns: FileColumns,
    /// Where each column of the table is among `columns`.
    places: Vec<usize>,
    files: Vec<ActiveFile>,
    /// The state of the version's entry in the log, where it is there.
    entry: Option<EntryState>,
}

/// When the entry of a version was written, and how large it is: a table that is made anew has another.
pub(super) type EntryState = (DateTime<Utc>, u64);

impl DeltaProvider {
    pub(super) fn new(log: Arc<DeltaLog>, table: DeltaTable, entry: Option<EntryState>) -> Result<Self> {
        let snapshot = table.snapshot().map_err(delta_error)?.snapshot();
        let configuration = snapshot.metadata().configuration();
        if let Some(mode) = configuration.get(COLUMN_MAPPING).filter(|mode| *mode != "none") {
            let url = log.url();
            return Err(DataFusionError::NotImplemented(format!(
                "the Delta Lake table at '{url}' has {COLUMN_MAPPING} = '{mode}', which is not supported"
            )));
        }
        let partition_by = snapshot.metadata().partition_columns();
        let schema = Arc::new(transform_schema_to_view(&snapshot.arrow_schema()));
        let (columns, places) = columns(&schema, partition_by)?;
        let files = snapshot.log_data().iter().map(|view| ActiveFile::new(&view)).collect::<Result<_>>()?;
        Ok(Self { log, table, schema, columns, places, files, entry })
    }

    /// Where it is.
    pub(crate) fn log(&self) -> &Arc<DeltaLog> {
        &self.log
    }

    /// What the library knows of it.
    pub(crate) fn table(&self) -> &DeltaTable {
        &self.table
    }

    /// Its number.
    pub(crate) fn version(&self) -> Option<Version> {
        self.table.version()
    }

    /// The columns that files are spread by.
    pub(crate) fn partition_columns(&self) -> Vec<String> {
        self.columns.partition.fields().iter().map(|field| field.name().clone()).collect()
    }

    pub(super) fn entry(&self) -> Option<EntryState> {
        self.entry
    }

    /// Tells the table's columns and settings at this version from others.
    pub(crate) fn shape(&self) -> Result<String> {
        Ok(shape(self.snapshot()?))
    }

    pub(super) fn snapshot(&self) -> Result<&EagerSnapshot> {
        Ok(self.table.snapshot().map_err(delta_error)?.snapshot())
    }

    /// The same table with some of its files alone.
    pub(super) fn of_files(&self, files: Vec<ActiveFile>) -> Self {
        let (log, table) = (Arc::clone(&self.log), self.table.clone());
        let (schema, columns, places) = (Arc::clone(&self.schema), self.columns.clone(), self.places.clone());
        Self { log, table, schema, columns, places, files, entry: self.entry }
    }

    /// The files in which a row may pass the filters, by what the log says of them.
    pub(super) fn selected(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<&ActiveFile>> {
        let Some(filter) = conjunction(filters.to_vec()) else {
            return Ok(self.files.iter().collect());
        };
        let schema: DFSchema = Arc::clone(&self.columns.table).to_dfschema()?;
        let filter: Arc<dyn PhysicalExpr> = session.create_physical_expr(unqualified(filter)?, &schema)?;
        // A filter that says nothing about bounds leaves no file out.
        let Some(predicate) = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.columns.table)).build(filter) else {
            return Ok(self.files.iter().collect());
        };
        let statistics = self.files.iter().map(|file| Arc::new(file.statistics(&self.columns, Bounds::Exact)));
        let statistics = PrunableStatistics::new(statistics.collect(), Arc::clone(&self.columns.table));
        let may_pass = predicate.prune(&statistics)?;
        Ok(self.files.iter().zip(may_pass).filter(|(_, may_pass)| *may_pass).map(|(file, _)| file).collect())
    }

    /// By location, which rows of the files are not deleted.
    async fn kept_rows(&self, session: &dyn Session, files: &[&ActiveFile]) -> Result<HashMap<Path, Vec<bool>>> {
        if files.iter().all(|file| file.vector.is_none()) {
            return Ok(HashMap::new());
        }
        let scan = DeltaScanNext::new(self.snapshot()?.clone(), DeltaScanConfig::new())?;
        let mut kept = HashMap::new();
        for rows in scan.deletion_vectors(session).await? {
            let url = Url::parse(&rows.filepath).map_err(|error| DataFusionError::External(Box::new(error)))?;
            kept.insert(Path::from_url_path(url.path()).map_err(object_store::Error::from)?, rows.keep_mask);
        }
        Ok(kept)
    }

    async fn partitioned(&self, session: &dyn Session, files: &[&ActiveFile]) -> Result<Vec<PartitionedFile>> {
        let kept = self.kept_rows(session, files).await?;
        let directory = self.log.url().prefix();
        let partitioned = |file: &&ActiveFile| {
            let kept = kept.get(&file.location(directory)).map(Vec::as_slice);
            if file.vector.is_some() && kept.is_none() {
                return Err(DataFusionError::Internal(format!("the deleted rows of '{}' are not known", file.path)));
            }
            file.to_partitioned(directory, &self.columns, kept.filter(|_| file.vector.is_some()))
        };
        files.iter().map(partitioned).collect()
    }
}

/// A short text that is another where a table has other columns, settings or features, or is another table.
pub(super) fn shape(snapshot: &EagerSnapshot) -> String {
    let metadata = snapshot.metadata();
    let settings: BTreeMap<_, _> = metadata.configuration().iter().collect();
    let text = format!("{:?} {:?} {settings:?} {:?}", snapshot.arrow_schema(), metadata.partition_columns(), snapshot.protocol());
    format!("{}-{:08x}", metadata.id(), crc32fast::hash(text.as_bytes()))
}

/// The columns of files, and where those of the table are among them.
fn columns(schema: &Schema, partition_by: &[String]) -> Result<(FileColumns, Vec<usize>)> {
    let is_partition = |name: &String| partition_by.contains(name);
    let file: Vec<_> = schema.fields().iter().filter(|field| !is_partition(field.name())).cloned().collect();
    let partition = partition_by.iter().map(|name| Ok(Arc::new(schema.field_with_name(name)?.clone()))).collect::<Result<Vec<_>>>()?;
    let table = Schema::new(file.iter().chain(&partition).cloned().collect::<Vec<_>>());
    let places = schema.fields().iter().map(|field| Ok(table.index_of(field.name())?)).collect::<Result<_>>()?;
    Ok((FileColumns { file: Arc::new(Schema::new(file)), partition: Arc::new(Schema::new(partition)), table: Arc::new(table) }, places))
}

/// A filter over columns by name alone.
fn unqualified(filter: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let rewritten = filter.transform(|expr| match expr {
        Expr::Column(mut column) => {
            column.relation = None;
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

#[async_trait]
impl TableProvider for DeltaProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let projection = projection.unwrap_or(&all);
        let files = self.selected(session, filters)?;
        let files = self.partitioned(session, &files).await?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(projection)?))));
        }
        let mut statistics = Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), &self.columns.table)?;
        if files.len() < self.files.len() {
            // What is left out was left out by a filter that runs above all the same.
            statistics = statistics.to_inexact();
        }
        let mut options = session.table_options().parquet.clone();
        options.global.coerce_int96 = Some("us".to_owned());
        let format = ParquetFormat::default().with_options(options);
        let columns = TableSchema::builder(Arc::clone(&self.columns.file))
            .with_table_partition_cols(self.columns.partition.fields().iter().cloned().collect::<Vec<_>>())
            .build();
        let places = projection.iter().map(|&column| self.places[column]).collect();
        let config = FileScanConfigBuilder::new(self.log.url().object_store(), format.file_source(columns))
            .with_file_groups(FileGroup::new(files).split_files(session.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(Some(places))?
            .with_limit(limit)
            .build();
        format.create_physical_plan(session, config).await
    }
}
