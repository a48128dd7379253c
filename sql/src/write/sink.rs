//! The rows of one partition into staged files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, filter_record_batch, not, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::cast::{as_boolean_array, as_string_array};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::PathPart;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::destination::Destination;
use super::encode::{Encoder, Encoding, Output};
use super::publish::{LIVE_MARKER, require_live};
use super::spec::{RowChange, WriteSpec};
use super::staged::{FileDetails, StagedFile};
use super::statistics::statistics_of;
use super::unfinished::{StagedObject, Unfinished};
use super::upload::{NotedUpload, Upload};
use crate::fail_point;

/// Files that one partition keeps open; beyond, the one with most rows is completed.
const MOST_OPEN_FILES: usize = 64;

/// What stands for a null in the name of a partition directory, as Hive has it.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// Writes the rows of `input` to files whose names begin with `name`, and says which. No other execution has the same `name`.
pub(super) async fn write_partition(
    spec: &WriteSpec,
    name: &str,
    mut input: SendableRecordBatchStream,
    context: &TaskContext,
) -> Result<Vec<StagedFile>> {
    let mut sink = PartitionSink::new(spec, name, &input.schema(), context)?;
    if spec.single_file() {
        sink.open(Directory::default()).await?;
    }
    while let Some(batch) = input.next().await {
        sink.write(batch?).await?;
    }
    sink.finish().await
}

/// The directory of a partition, `a=1/b=2/`, and its values; empty without partition columns.
#[derive(Debug, Clone, Default)]
struct Directory {
    path: String,
    values: Vec<Option<String>>,
}

/// One open file.
struct OpenFile {
    encoder: Encoder,
    upload: Option<Upload>,
    file: StagedFile,
}

impl OpenFile {
    /// Bytes of memory that it takes.
    fn memory(&self) -> usize {
        self.encoder.memory() + self.upload.as_ref().map_or(0, Upload::memory)
    }
}

struct PartitionSink<'a> {
    spec: &'a WriteSpec,
    name: &'a str,
    destination: Destination,
    encoding: Encoding,
    /// The files' columns: the input's without those of `partition_by`.
    schema: SchemaRef,
    columns: Vec<usize>,
    partition_columns: Vec<usize>,
    not_null: Vec<usize>,
    /// The columns that tell which rows are changed and which are left out, and how many were changed.
    change: Option<(usize, Option<usize>)>,
    changed: u64,
    /// By partition directory, `a=1/b=2/`; "" without partition columns.
    open: HashMap<String, OpenFile>,
    done: Vec<StagedFile>,
    unfinished: Unfinished,
    opened: usize,
    memory: MemoryReservation,
}

impl<'a> PartitionSink<'a> {
    fn new(spec: &'a WriteSpec, name: &'a str, input: &SchemaRef, context: &TaskContext) -> Result<Self> {
        let partition_columns = spec.partition_by.iter().map(|name| input.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let not_null = spec.not_null.iter().map(|name| input.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let change = spec.change.as_ref().map(|change| change_columns(change, input)).transpose()?;
        let is_mark = |index| change.is_some_and(|(changed, removed)| changed == index || removed == Some(index));
        let is_stored = |index: &usize| !partition_columns.contains(index) && !is_mark(*index);
        let columns: Vec<usize> = (0..input.fields().len()).filter(is_stored).collect();
        if columns.is_empty() {
            return Err(DataFusionError::Plan("can't write files without columns: all columns are partition columns".into()));
        }
        let schema = Arc::new(input.project(&columns)?);
        let encoding = Encoding::new(spec, &schema, context.session_config().options())?;
        let destination = Destination::open(spec, &context.runtime_env())?;
        let memory = MemoryConsumer::new("StagedWriteExec").register(context.memory_pool());
        let (open, done) = (HashMap::new(), vec![]);
        Ok(Self {
            spec,
            name,
            destination,
            encoding,
            schema,
            columns,
            partition_columns,
            not_null,
            change,
            changed: 0,
            open,
            done,
            unfinished: Unfinished::default(),
            opened: 0,
            memory,
        })
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = self.count_changed(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if let Some(&column) = self.not_null.iter().find(|column| batch.column(**column).logical_null_count() > 0) {
            let name = batch.schema().field(column).name().clone();
            return Err(DataFusionError::Execution(format!("column '{name}' takes no null (NOT NULL), and the rows to write hold one")));
        }
        if self.partition_columns.is_empty() {
            return self.append(Directory::default(), batch.project(&self.columns)?).await;
        }
        for (directory, rows) in self.directories(&batch)? {
            let rows = take_record_batch(&batch, &rows)?.project(&self.columns)?;
            self.append(directory, rows).await?;
        }
        Ok(())
    }

    /// Counts the rows that the statement changes, and takes away those that it removes.
    fn count_changed(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some((changed, removed)) = self.change else {
            return Ok(batch);
        };
        self.changed += as_boolean_array(batch.column(changed))?.true_count() as u64;
        let Some(removed) = removed else {
            return Ok(batch);
        };
        let is_removed = as_boolean_array(batch.column(removed))?;
        match is_removed.true_count() {
            0 => Ok(batch),
            _ => Ok(filter_record_batch(&batch, &not(is_removed)?)?),
        }
    }

    /// The rows of each partition directory, in the order in which the directories first occur.
    fn directories(&self, batch: &RecordBatch) -> Result<Vec<(Directory, UInt32Array)>> {
        let values = self
            .partition_columns
            .iter()
            .map(|column| Ok(as_string_array(&cast(batch.column(*column), &DataType::Utf8)?)?.clone()))
            .collect::<Result<Vec<StringArray>>>()?;
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut rows: Vec<(Directory, Vec<u32>)> = vec![];
        for row in 0..batch.num_rows() {
            let path: String = self.spec.partition_by.iter().zip(&values).map(|(name, values)| directory(name, values, row)).collect();
            let place = *places.entry(path).or_insert_with_key(|path| {
                let values = values.iter().map(|values| values.is_valid(row).then(|| values.value(row).to_owned()));
                rows.push((Directory { path: path.clone(), values: values.collect() }, vec![]));
                rows.len() - 1
            });
            rows[place].1.push(row as u32);
        }
        Ok(rows.into_iter().map(|(directory, rows)| (directory, UInt32Array::from(rows))).collect())
    }

    async fn append(&mut self, directory: Directory, batch: RecordBatch) -> Result<()> {
        let path = directory.path.clone();
        if !self.open.contains_key(&path) {
            if self.open.len() >= MOST_OPEN_FILES {
                self.close_largest().await?;
            }
            self.open(directory).await?;
        }
        let Some(open) = self.open.get_mut(&path) else {
            return Err(DataFusionError::Internal(format!("the file of '{path}' is not open")));
        };
        open.file.rows += batch.num_rows() as u64;
        open.encoder.write(batch).await?;
        fail_point("part-written");
        self.account().await
    }

    /// Keeps the memory of unfinished row groups within what the pool grants, by ending them early.
    async fn account(&mut self) -> Result<()> {
        let bytes: usize = self.open.values().map(OpenFile::memory).sum();
        if self.memory.try_resize(bytes).is_ok() {
            return Ok(());
        }
        for open in self.open.values_mut() {
            open.encoder.flush().await?;
        }
        self.memory.try_resize(self.open.values().map(OpenFile::memory).sum())
    }

    async fn open(&mut self, directory: Directory) -> Result<()> {
        let extension = self.spec.extension();
        let number = self.opened;
        self.opened += 1;
        let staged = format!("{}-{number}.{extension}", self.name);
        let path = match self.spec.url.rsplit_once('/') {
            Some((_, name)) if !name.is_empty() => name.to_owned(),
            _ => format!("{}{}-{staged}", directory.path, self.spec.id),
        };
        let details = self.spec.delta.is_some().then_some(FileDetails { partition: directory.values, statistics: Value::Null });
        let file = StagedFile { staged, path, details, ..StagedFile::default() };
        let (output, upload) = self.output(&file).await?;
        let encoder = self.encoding.begin(output, &self.schema)?;
        self.open.insert(directory.path, OpenFile { encoder, upload, file });
        Ok(())
    }

    /// Where the bytes of a file go.
    async fn output(&mut self, file: &StagedFile) -> Result<(Output, Option<Upload>)> {
        let Destination { store, local, uploads, .. } = &self.destination;
        match (local, uploads) {
            (Some(local), _) => {
                let path = local.staging.join(&file.staged);
                self.unfinished.note(path.clone());
                // The directory must exist: an attempt that outlived its job must not make it again. At once and not by another thread,
                // which could make the file after it was taken away.
                let made = std::fs::File::create_new(path)?;
                Ok((Box::new(tokio::fs::File::from_std(made)), None))
            }
            (None, Some(uploads)) => {
                let begun = self.unfinished.begin(NotedUpload::new(&self.destination, uploads, file)).await?;
                let (upload, pipe) = Upload::send(uploads, self.destination.place(file), begun);
                Ok((Box::new(pipe), Some(upload)))
            }
            (None, None) => {
                let path = self.destination.staged(&file.staged);
                self.unfinished.begin(StagedObject { store: Arc::clone(store), path: path.clone() }).await?;
                Ok((Box::new(BufWriter::new(Arc::clone(store), path)), None))
            }
        }
    }

    async fn close_largest(&mut self) -> Result<()> {
        let largest = self.open.iter().max_by_key(|(_, open)| open.file.rows).map(|(directory, _)| directory.clone());
        match largest.and_then(|directory| self.open.remove(&directory)) {
            Some(open) => self.close(open).await,
            None => Ok(()),
        }
    }

    async fn close(&mut self, open: OpenFile) -> Result<()> {
        let OpenFile { encoder, upload, mut file } = open;
        let finished = encoder.finish(&self.schema).await;
        match upload {
            // What went wrong with the upload says more than that the pipe to it is broken.
            Some(upload) => {
                let (upload, bytes) = upload.finish().await?;
                note_statistics(&mut file, finished?.as_ref(), &self.schema)?;
                (file.bytes, file.upload) = (bytes, Some(upload));
            }
            None => {
                note_statistics(&mut file, finished?.as_ref(), &self.schema)?;
                file.bytes = match &self.destination.local {
                    Some(local) => synced(&local.staging.join(&file.staged)).await?,
                    None => self.destination.store.head(&self.destination.staged(&file.staged)).await?.size,
                };
            }
        }
        self.done.push(file);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<StagedFile>> {
        if self.changed > 0 && self.open.is_empty() && self.done.is_empty() {
            // All rows went, and somebody has to say how many.
            self.open(Directory::default()).await?;
        }
        let open: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        for file in open {
            self.close(file).await?;
        }
        self.memory.free();
        if let Err(error) = require_live(self.destination.store.as_ref(), &self.destination.staged(LIVE_MARKER)).await {
            self.unfinished.discard().await;
            if let Some(local) = &self.destination.local {
                // Stays where another late attempt has a file in it; that one then removes it.
                let _ = tokio::fs::remove_dir(&local.staging).await;
            }
            return Err(error);
        }
        fail_point("task-written");
        self.unfinished.keep();
        self.done.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(first) = self.done.first_mut() {
            first.changed = self.changed;
        }
        Ok(self.done)
    }
}

/// Where the columns that tell what becomes of rows are in the input.
fn change_columns(change: &RowChange, input: &SchemaRef) -> Result<(usize, Option<usize>)> {
    let removed = change.removed.as_ref().map(|removed| input.index_of(removed)).transpose()?;
    Ok((input.index_of(&change.changed)?, removed))
}

/// Notes what a log says of a file, where one does.
fn note_statistics(file: &mut StagedFile, metadata: Option<&ParquetMetaData>, schema: &SchemaRef) -> Result<()> {
    if let (Some(details), Some(metadata)) = (&mut file.details, metadata) {
        details.statistics = statistics_of(metadata, schema)?;
    }
    Ok(())
}

/// The size of a file, once the disk has it: a table that survives a crash of the machine must not name a file that does not.
async fn synced(path: &Path) -> Result<u64> {
    let file = tokio::fs::File::open(path).await?;
    file.sync_all().await?;
    Ok(file.metadata().await?.len())
}

/// `name=value/` of one row.
fn directory(name: &str, values: &StringArray, row: usize) -> String {
    let value = if values.is_null(row) { NULL_DIRECTORY } else { values.value(row) };
    format!("{}={}/", PathPart::from(name).as_ref(), PathPart::from(value).as_ref())
}
