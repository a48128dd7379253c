//! What a write writes, where and how: plain data that goes from the scheduler to the tasks.

use std::fmt;
use std::str::FromStr;

use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

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
    /// The Delta Lake table whose log names the files once they are in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<DeltaWrite>,
    /// How rows of the table are changed, where the rows written are the table's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RowChange>,
}

/// What a write does to a Delta Lake table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaWrite {
    /// Names the write in the log, so that it is there once however often it is tried: new for each write.
    pub transaction: String,
    /// The version that the write was planned with.
    pub version: u64,
    /// Tells the table's columns and settings at that version from others.
    pub shape: String,
    /// What it is in the table's history.
    pub operation: DeltaOperation,
    /// The files whose rows the write has read and writes anew.
    pub rewritten: Vec<DeltaFile>,
}

/// A file of a Delta Lake table, in one of its states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaFile {
    /// Its path within the table's directory.
    pub path: String,
    /// Tells which of its rows are marked as deleted; `None` where none are.
    pub vector: Option<String>,
}

/// The kinds of writes to a Delta Lake table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaOperation {
    /// New files beside those that are there.
    Append,
    /// New files in the place of all that are there.
    Overwrite,
    /// Files without some of the rows that they had.
    Delete,
    /// Files with other values in some of their rows.
    Update,
    /// Files with what a comparison with other rows made of theirs. The table must be at the version that was read.
    Merge,
}

/// A change of rows of a table: its files are written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChange {
    /// The column of the input that is true for the rows that count as changed. It is not written.
    #[serde(alias = "column")]
    pub changed: String,
    /// The column that is true for the rows that are left out, where some are. It is not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
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
    /// The version that the write has read and replaces; `None` where it may be any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
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
