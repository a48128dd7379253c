//! The files of a version: as the engine scans them.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::error::{DataFusionError, Result};
use deltalake_core::kernel::LogicalFileView;
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use serde_json::{Map, Value};

use super::values::{bound, partition_value};

/// A file of a version.
#[derive(Debug, Clone)]
pub(super) struct ActiveFile {
    /// Path within the table's directory.
    pub(super) path: String,
    /// The same, as the store has it.
    location: Path,
    /// Bytes.
    pub(super) size: u64,
    /// Rows, with those that are marked as deleted, where the log says so.
    pub(super) rows: Option<usize>,
    /// By name, partition values as text.
    pub(super) partition: HashMap<String, Option<String>>,
    /// Tells which of its rows are marked as deleted; `None` where none are.
    pub(super) vector: Option<String>,
    statistics: Option<Map<String, Value>>,
}

impl ActiveFile {
    pub(super) fn new(view: &LogicalFileView) -> Result<Self> {
        let path = view.path().into_owned();
        if path.contains("://") || path.starts_with('/') {
            return Err(DataFusionError::Plan(format!(
                "a Delta Lake table whose files are elsewhere can't be read: '{path}' (a shallow clone)"
            )));
        }
        let size = u64::try_from(view.size()).map_err(|_| DataFusionError::Plan(format!("the log gives '{path}' a size below 0")))?;
        let statistics = view.stats().and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self {
            path,
            location: view.object_store_path(),
            size,
            rows: view.num_records(),
            partition: view.partition_values_map(),
            vector: vector_of(view),
            statistics,
        })
    }

    /// Where it is in the store of a table's directory.
    pub(super) fn location(&self, directory: &Path) -> Path {
        Path::from_iter(directory.parts().chain(self.location.parts()))
    }

    /// What a scan reads. `kept` tells the rows that are not deleted, where some are.
    pub(super) fn to_partitioned(&self, directory: &Path, columns: &FileColumns, kept: Option<&[bool]>) -> Result<PartitionedFile> {
        let meta = ObjectMeta {
            location: self.location(directory),
            // No file of a log ever changes.
            last_modified: DateTime::UNIX_EPOCH,
            size: self.size,
            e_tag: None,
            version: None,
        };
        let values = columns.partition.fields().iter().map(|field| {
            let text = self.partition.get(field.name()).and_then(Option::as_deref);
            partition_value(text, field.data_type()).map_err(|error| {
                let (path, name) = (&self.path, field.name());
                DataFusionError::Plan(format!("the log gives '{path}' a value of '{name}' that is no {}: {error}", field.data_type()))
            })
        });
        let mut file = PartitionedFile::new_from_meta(meta).with_partition_values(values.collect::<Result<_>>()?);
        let statistics = self.statistics(columns, Bounds::Inexact);
        // Those of partition columns are added, of which the engine takes none to be null.
        file.statistics = Some(Arc::new(statistics));
        match kept {
            Some(kept) => Ok(file.with_extension(ParquetRowSelection::new(selection(kept)))),
            None => Ok(file),
        }
    }

    /// What the log says of the file's columns, those of the partition last.
    pub(super) fn statistics(&self, columns: &FileColumns, bounds: Bounds) -> Statistics {
        let mut statistics = Statistics::new_unknown(&columns.table);
        statistics.total_byte_size = Precision::Inexact(usize::try_from(self.size).unwrap_or(usize::MAX));
        statistics.num_rows = match self.rows {
            Some(rows) if self.vector.is_some() => Precision::Inexact(rows),
            Some(rows) => Precision::Exact(rows),
            None => Precision::Absent,
        };
        let stored = columns.file.fields().iter().map(|field| self.of_column(field.name(), field.data_type(), bounds));
        let of_partition = columns.partition.fields().iter().map(|field| self.of_partition_column(field.name(), field.data_type()));
        statistics.column_statistics = stored.chain(of_partition).collect();
        statistics
    }

    fn of_column(&self, name: &str, data_type: &DataType, bounds: Bounds) -> ColumnStatistics {
        let mut column = ColumnStatistics::new_unknown();
        let Some(statistics) = &self.statistics else {
            return column;
        };
        let of = |kind: &str| statistics.get(kind).and_then(|values| values.get(name));
        let precise = |value, is_upper| match (bound(value, data_type, is_upper), bounds) {
            (Some(bound), Bounds::Exact) => Precision::Exact(bound),
            (Some(bound), Bounds::Inexact) => Precision::Inexact(bound),
            (None, _) => Precision::Absent,
        };
        column.min_value = of("minValues").map_or(Precision::Absent, |value| precise(value, false));
        column.max_value = of("maxValues").map_or(Precision::Absent, |value| precise(value, true));
        let nulls = of("nullCount").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        column.null_count = match nulls {
            Some(count) if self.vector.is_some() => Precision::Inexact(count),
            Some(count) => Precision::Exact(count),
            None => Precision::Absent,
        };
        column
    }

    fn of_partition_column(&self, name: &str, data_type: &DataType) -> ColumnStatistics {
        let mut column = ColumnStatistics::new_unknown();
        match partition_value(self.partition.get(name).and_then(Option::as_deref), data_type) {
            Ok(value) if value.is_null() => column.null_count = self.rows.map_or(Precision::Absent, Precision::Exact),
            Ok(value) => {
                column.null_count = Precision::Exact(0);
                (column.min_value, column.max_value) = (Precision::Exact(value.clone()), Precision::Exact(value));
            }
            Err(_) => {}
        }
        column
    }
}

/// Tells a file's deleted rows from those of another time.
pub(super) fn vector_of(view: &LogicalFileView) -> Option<String> {
    let vector = view.deletion_vector_descriptor()?;
    Some(format!("{:?} {} {:?} {}", vector.storage_type, vector.path_or_inline_dv, vector.offset, vector.cardinality))
}

/// What bounds are given as. The log's may be wider than the values, which is as good for leaving files out, and wrong for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    Exact,
    Inexact,
}

/// The columns of a table's files.
#[derive(Debug, Clone)]
pub(super) struct FileColumns {
    /// Those in the files.
    pub(super) file: Arc<Schema>,
    /// Those that the log has a value of for each file.
    pub(super) partition: Arc<Schema>,
    /// Both, in that order.
    pub(super) table: Arc<Schema>,
}

/// Runs of rows.
fn selection(kept: &[bool]) -> RowSelection {
    let runs = kept.chunk_by(|a, b| a == b);
    runs.map(|run| RowSelector { row_count: run.len(), skip: !run[0] }).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_rows_are_skipped() {
        let selectors: Vec<RowSelector> = selection(&[true, true, false, true]).into();
        assert_eq!(selectors, vec![RowSelector::select(2), RowSelector::skip(1), RowSelector::select(1)]);
    }
}
