//! What a write writes, where and how: plain data that goes from the scheduler to the tasks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use super::upload::StagedUpload;

/// The file formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// One JSON object on each line.
    Json,
    /// Apache Avro object container files.
    Avro,
    /// Arrow IPC files.
    Arrow,
}

impl WriteFormat {
    /// What files of the format end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Arrow => "arrow",
        }
    }
}

impl fmt::Display for WriteFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for WriteFormat {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "json" | "ndjson" => Ok(Self::Json),
            "avro" => Ok(Self::Avro),
            "arrow" => Ok(Self::Arrow),
            _ => Err(DataFusionError::Plan(format!(
                "can't write files of format '{text}'; the formats are parquet, csv, json, avro and arrow"
            ))),
        }
    }
}

/// What happens to what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// New files beside the old ones.
    Append,
    /// The old files are removed when the new ones are published.
    Overwrite,
}

/// A write, as its tasks and its commit need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSpec {
    /// Names the write among all of the cluster: part of the staging place and of the file names.
    pub id: String,
    /// Where the files go: the URL of a directory (ending in `/`), or of a single file.
    pub url: String,
    /// Their format.
    pub format: WriteFormat,
    /// The format's options, as `OPTIONS (...)` gives them.
    pub options: Vec<(String, String)>,
    /// Columns by whose values rows are spread over directories `column=value/`; they are not in the files.
    pub partition_by: Vec<String>,
    /// What happens to files that are there.
    pub mode: WriteMode,
    /// Columns that take no null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_null: Vec<String>,
    /// Where attempts put their files: the URL of a directory that no reader looks at.
    pub staging: String,
    /// The managed table whose next version the files belong to. They stay where they were staged, and the table's catalog names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableWrite>,
}

/// What a write does to a managed table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableWrite {
    /// The schema that the table is in.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// Tells the table from others of its name, before and after it.
    pub id: String,
    /// Whether it is a table of one session, which ends with it.
    #[serde(default)]
    pub temporary: bool,
    /// How the write makes the table; `None` where it is there.
    pub create: Option<TableCreation>,
}

/// A table that a write makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCreation {
    /// Its columns as an encapsulated Arrow IPC schema message, in base64.
    pub columns: String,
    /// The statement.
    pub ddl: String,
    /// Catalog that names without one mean in the statement.
    pub default_catalog: String,
    /// Schema that names without one mean in the statement.
    pub default_schema: String,
    /// Whether a table of that name is left as it is.
    pub if_not_exists: bool,
    /// Whether a table of that name is replaced.
    pub or_replace: bool,
}

impl WriteSpec {
    /// Whether all rows go into one file, and the plan must bring them in one partition.
    pub fn single_file(&self) -> bool {
        !self.url.ends_with('/')
    }

    /// The spec as bytes.
    #[expect(clippy::expect_used, reason = "text, lists and enums always have a JSON form")]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a write spec is plain data")
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn is_text(&self) -> bool {
        matches!(self.format, WriteFormat::Csv | WriteFormat::Json)
    }

    /// What its files end in, with the compression of text formats.
    pub(super) fn extension(&self) -> String {
        let compression = self.options.iter().find(|(key, _)| key.trim_start_matches("format.") == "compression");
        let suffix = match compression.map(|(_, value)| value.to_ascii_lowercase()).as_deref() {
            Some("gzip") if self.is_text() => ".gz",
            Some("bzip2") if self.is_text() => ".bz2",
            Some("xz") if self.is_text() => ".xz",
            Some("zstd") if self.is_text() => ".zst",
            _ => "",
        };
        format!("{}{suffix}", self.format)
    }
}

/// A file that an attempt wrote completely: one row of a [`super::StagedWriteExec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// The columns of a [`super::StagedWriteExec`].
pub fn staged_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("staged", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("upload", DataType::Utf8, true),
    ]))
}

impl StagedFile {
    /// Files as rows.
    pub fn to_batch(files: &[Self]) -> Result<RecordBatch> {
        let staged: StringArray = files.iter().map(|file| Some(file.staged.as_str())).collect();
        let path: StringArray = files.iter().map(|file| Some(file.path.as_str())).collect();
        let rows = UInt64Array::from_iter_values(files.iter().map(|file| file.rows));
        let bytes = UInt64Array::from_iter_values(files.iter().map(|file| file.bytes));
        let text = |upload: &StagedUpload| serde_json::to_string(upload).map_err(|error| DataFusionError::External(Box::new(error)));
        let uploads = files.iter().map(|file| file.upload.as_ref().map(text).transpose()).collect::<Result<Vec<_>>>()?;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(staged), Arc::new(path), Arc::new(rows), Arc::new(bytes), Arc::new(StringArray::from(uploads))];
        Ok(RecordBatch::try_new(staged_schema(), columns)?)
    }

    /// Files from the rows of committed attempts.
    pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>> {
        let wrong = || DataFusionError::Internal("a write's task answered with other columns than staged files".into());
        if batch.schema().fields().len() != staged_schema().fields().len() {
            return Err(wrong());
        }
        let staged = batch.column(0).as_string_opt::<i32>().ok_or_else(wrong)?;
        let path = batch.column(1).as_string_opt::<i32>().ok_or_else(wrong)?;
        let rows = batch.column(2).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        let bytes = batch.column(3).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        let uploads = batch.column(4).as_string_opt::<i32>().ok_or_else(wrong)?;
        let upload = |row: usize| match uploads.is_null(row) {
            true => Ok(None),
            false => serde_json::from_str(uploads.value(row)).map(Some).map_err(|_| wrong()),
        };
        let file = |row: usize| {
            Ok(Self {
                staged: staged.value(row).to_owned(),
                path: path.value(row).to_owned(),
                rows: rows.value(row),
                bytes: bytes.value(row),
                upload: upload(row)?,
            })
        };
        (0..staged.len()).map(file).collect()
    }
}
