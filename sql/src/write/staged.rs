//! The files that the tasks of a write staged, as they travel: one row for each.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use super::spec::WriteSpec;
use super::upload::StagedUpload;

/// A file that an attempt wrote completely: one row of a [`super::StagedWriteExec`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StagedFile {
    /// Its path within the staging place.
    pub staged: String,
    /// Its path within the directory that is written to.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// How it is completed, where it is an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<StagedUpload>,
    /// Rows of the write that the statement changed; of other statements than UPDATE and DELETE none.
    #[serde(default)]
    pub changed: u64,
    /// What the log of a Delta Lake table says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<FileDetails>,
}

/// What is known of a file beside its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDetails {
    /// The values of the partition columns, in their order, as text.
    pub partition: Vec<Option<String>>,
    /// Number of rows, bounds and null counts of columns, as Delta Lake has them.
    pub statistics: serde_json::Value,
}

const COLUMN: &str = "file";

/// The columns of a [`super::StagedWriteExec`]: a [`StagedFile`] as JSON.
pub fn staged_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(COLUMN, DataType::Utf8, false)]))
}

/// What the statement of a write answers: how many rows it wrote, or changed where it changes rows.
pub fn rows_of(spec: &WriteSpec, files: &[StagedFile]) -> u64 {
    let is_change = spec.change.is_some();
    files.iter().map(|file| if is_change { file.changed } else { file.rows }).sum()
}

impl StagedFile {
    /// Files as rows.
    pub fn to_batch(files: &[Self]) -> Result<RecordBatch> {
        let text = |file: &Self| serde_json::to_string(file).map_err(|error| DataFusionError::External(Box::new(error)));
        let whole = files.iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(staged_schema(), vec![Arc::new(StringArray::from(whole))])?)
    }

    /// Files from the rows of committed attempts.
    pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>> {
        let wrong = || DataFusionError::Internal("a write's task answered with other columns than staged files".into());
        let whole = batch.column_by_name(COLUMN).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(wrong)?;
        (0..whole.len()).map(|row| serde_json::from_str(whole.value(row)).map_err(|_| wrong())).collect()
    }
}
