//! What differs between the tasks of a stage: the content of its leaves.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion_proto::protobuf;
use itertools::Itertools;
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use prost::Message;
use volley_proto::PartitionId;

use crate::catalog::GeneratorSplit;
use crate::exchange::{Part, Share, Wave};

/// Grows when the encoding of bindings changes.
const VERSION: u32 = 5;

/// The leaves of one task.
#[derive(Clone, PartialEq, Message)]
pub struct TaskBindings {
    /// Format version.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The stage's number of the task's partition 0.
    #[prost(uint32, tag = "2")]
    pub first_partition: u32,
    /// How many of the stage's partitions the task runs.
    #[prost(uint32, tag = "3")]
    pub partitions: u32,
    /// By leaf index, dense.
    #[prost(message, repeated, tag = "4")]
    pub leaves: Vec<LeafBinding>,
}

/// The content of one leaf.
#[derive(Clone, PartialEq, Message)]
pub struct LeafBinding {
    /// Which kind.
    #[prost(oneof = "LeafContent", tags = "1, 2, 3, 4")]
    pub content: Option<LeafContent>,
}

/// The kinds of content; one entry for each local partition, except for `Whole`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum LeafContent {
    /// File ranges.
    #[prost(message, tag = "1")]
    Files(FileGroups),
    /// Exchange partitions.
    #[prost(message, tag = "2")]
    Exchange(ExchangeSlices),
    /// Parts of a generated table.
    #[prost(message, tag = "3")]
    Generator(GeneratorSlices),
    /// Whether this task is the one that runs the leaf.
    #[prost(bool, tag = "4")]
    Whole(bool),
}

/// File ranges by local partition.
#[derive(Clone, PartialEq, Message)]
pub struct FileGroups {
    /// One for each local partition.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<FileSplits>,
}

/// The file ranges of one partition.
#[derive(Clone, PartialEq, Message)]
pub struct FileSplits {
    /// Read in this order.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<FileSplit>,
}

/// A range of one file, with what tells whether the file is still the one that was planned.
#[derive(Clone, PartialEq, Message)]
pub struct FileSplit {
    /// Path in its object store.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Bytes of the whole file.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// Nanoseconds since 1970 of the last change.
    #[prost(sfixed64, tag = "3")]
    pub modified_ns: i64,
    /// The store's entity tag.
    #[prost(string, optional, tag = "4")]
    pub e_tag: Option<String>,
    /// The store's version of the object.
    #[prost(string, optional, tag = "5")]
    pub version: Option<String>,
    /// First byte of the range; the whole file where absent.
    #[prost(int64, optional, tag = "6")]
    pub start: Option<i64>,
    /// Byte after the range.
    #[prost(int64, optional, tag = "7")]
    pub end: Option<i64>,
    /// Values of partition columns.
    #[prost(message, repeated, tag = "8")]
    pub partition_values: Vec<protobuf::ScalarValue>,
    /// What the footer is estimated to take.
    #[prost(uint64, optional, tag = "9")]
    pub metadata_size_hint: Option<u64>,
    /// Bounds of the columns that the scan is sorted by, where the order spans several files: without them a task could not
    /// tell that it does.
    #[prost(message, repeated, tag = "10")]
    pub bounds: Vec<ColumnBounds>,
    /// Where not all rows of the file are read: how many are left out, then how many are read, then left out, and so on.
    #[prost(uint64, repeated, tag = "11")]
    pub rows: Vec<u64>,
}

/// Between which values a column of a file lies.
#[derive(Clone, PartialEq, Message)]
pub struct ColumnBounds {
    /// Place in the table's schema.
    #[prost(uint32, tag = "1")]
    pub column: u32,
    /// No value is less.
    #[prost(message, optional, tag = "2")]
    pub least: Option<protobuf::ScalarValue>,
    /// No value is greater.
    #[prost(message, optional, tag = "3")]
    pub greatest: Option<protobuf::ScalarValue>,
}

/// Exchange partitions by local partition.
#[derive(Clone, PartialEq, Message)]
pub struct ExchangeSlices {
    /// One for each local partition.
    #[prost(message, repeated, tag = "1")]
    pub slices: Vec<ExchangeSlice>,
}

/// The exchange partitions that one local partition reads.
#[derive(Clone, PartialEq, Message)]
pub struct ExchangeSlice {
    /// Their numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub partitions: Vec<u32>,
    /// Which of the producer's tasks are read: those whose number has this remainder.
    #[prost(uint32, tag = "2")]
    pub part: u32,
    /// By what it is divided; 0 or 1 for all tasks.
    #[prost(uint32, tag = "3")]
    pub of: u32,
    /// Which of the keys are read: those whose hash has this remainder.
    #[prost(uint32, tag = "4")]
    pub wave: u32,
    /// By what it is divided; 0 for all keys.
    #[prost(uint32, tag = "5")]
    pub waves: u32,
    /// The columns of the keys.
    #[prost(uint32, repeated, tag = "6")]
    pub keys: Vec<u32>,
}

/// Parts of a generated table by local partition.
#[derive(Clone, PartialEq, Message)]
pub struct GeneratorSlices {
    /// One for each local partition.
    #[prost(message, repeated, tag = "1")]
    pub slices: Vec<GeneratorSlice>,
}

/// The parts that one local partition generates, as pairs of part and number of parts.
#[derive(Clone, PartialEq, Message)]
pub struct GeneratorSlice {
    /// Which part.
    #[prost(uint32, repeated, tag = "1")]
    pub parts: Vec<u32>,
    /// Of how many.
    #[prost(uint32, repeated, tag = "2")]
    pub of: Vec<u32>,
}

impl TaskBindings {
    /// The bindings of a task that runs `partitions` partitions from `first_partition` on.
    pub fn new(first_partition: usize, partitions: usize, leaves: Vec<LeafContent>) -> Self {
        let leaves = leaves.into_iter().map(|content| LeafBinding { content: Some(content) }).collect();
        Self { version: VERSION, first_partition: first_partition as u32, partitions: partitions as u32, leaves }
    }

    /// The bytes that travel in a `TaskSpec`.
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads what `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bindings = Self::decode(bytes).map_err(|e| DataFusionError::Internal(format!("task bindings can't be decoded: {e}")))?;
        if bindings.version == VERSION {
            Ok(bindings)
        } else {
            Err(DataFusionError::Internal(format!("task bindings have version {}, this build reads {VERSION}", bindings.version)))
        }
    }

    /// The content of leaf `index`.
    pub(super) fn leaf(&self, index: usize) -> Result<&LeafContent> {
        self.leaves
            .get(index)
            .and_then(|leaf| leaf.content.as_ref())
            .ok_or_else(|| DataFusionError::Internal(format!("task bindings have no content for leaf {index}")))
    }
}

impl ExchangeSlices {
    /// From the partitions that each local partition reads.
    pub fn new(slices: impl IntoIterator<Item = Vec<PartitionId>>) -> Self {
        Self::in_parts(slices.into_iter().map(|ids| (ids, Part::WHOLE)))
    }

    /// From the partitions that each local partition reads, and what of them.
    pub fn in_parts(slices: impl IntoIterator<Item = (Vec<PartitionId>, Part)>) -> Self {
        let slice = |(ids, Part { share, wave }): (Vec<PartitionId>, Part)| {
            // Nothing travels for what is whole.
            let Share { part, of } = if share == Share::WHOLE { Share { part: 0, of: 0 } } else { share };
            let Wave { keys, number, of: waves } = wave.unwrap_or(Wave { keys: vec![], number: 0, of: 0 });
            let keys = keys.into_iter().map(|key| key as u32).collect();
            ExchangeSlice { partitions: ids.iter().map(|id| id.0).collect(), part, of, wave: number, waves, keys }
        };
        Self { slices: slices.into_iter().map(slice).collect() }
    }

    /// What each local partition reads of its partitions.
    pub fn parts(&self) -> Vec<Part> {
        let part = |slice: &ExchangeSlice| Part {
            share: Share { part: slice.part, of: slice.of.max(1) },
            wave: (slice.waves > 0).then(|| Wave {
                keys: slice.keys.iter().map(|key| *key as usize).collect(),
                number: slice.wave,
                of: slice.waves,
            }),
        };
        self.slices.iter().map(part).collect()
    }

    /// The partitions that each local partition reads.
    pub fn partitions(&self) -> Vec<Vec<PartitionId>> {
        self.slices.iter().map(|slice| slice.partitions.iter().copied().map(PartitionId).collect()).collect()
    }
}

impl GeneratorSlices {
    /// From the parts that each local partition generates.
    pub fn new(slices: &[Vec<GeneratorSplit>]) -> Self {
        let slice = |splits: &Vec<GeneratorSplit>| GeneratorSlice {
            parts: splits.iter().map(|split| split.part).collect(),
            of: splits.iter().map(|split| split.of).collect(),
        };
        Self { slices: slices.iter().map(slice).collect() }
    }

    /// The parts that each local partition generates.
    pub fn splits(&self) -> Result<Vec<Vec<GeneratorSplit>>> {
        let slice = |slice: &GeneratorSlice| {
            if slice.parts.len() != slice.of.len() {
                return Err(DataFusionError::Internal("a generator slice has parts without their number".into()));
            }
            Ok(slice.parts.iter().zip(&slice.of).map(|(&part, &of)| GeneratorSplit { part, of }).collect())
        };
        self.slices.iter().map(slice).collect()
    }
}

impl FileGroups {
    /// From some groups of a scan.
    pub fn try_new(scan: &FileScanConfig, groups: &[FileGroup]) -> Result<Self> {
        let sorted_by = sorted_columns(scan);
        let group = |group: &FileGroup| {
            let bounded = if group.len() > 1 { sorted_by.as_slice() } else { &[] };
            let files = group.files().iter().map(|file| FileSplit::try_new(file, bounded));
            Ok(FileSplits { files: files.collect::<Result<_>>()? })
        };
        Ok(Self { groups: groups.iter().map(group).collect::<Result<_>>()? })
    }

    /// As DataFusion's file groups, of files of `columns` columns.
    pub fn to_file_groups(&self, columns: usize) -> Result<Vec<FileGroup>> {
        let group =
            |splits: &FileSplits| Ok(FileGroup::new(splits.files.iter().map(|split| split.to_file(columns)).collect::<Result<_>>()?));
        self.groups.iter().map(group).collect()
    }
}

/// A selection as lengths of runs, the first of which is left out.
fn runs(selection: &RowSelection) -> Vec<u64> {
    let mut runs = vec![0];
    let mut is_read = false;
    for selector in selection.iter() {
        if selector.skip == is_read {
            runs.push(0);
            is_read = !is_read;
        }
        if let Some(last) = runs.last_mut() {
            *last += selector.row_count as u64;
        }
    }
    runs
}

/// The selection that [`runs`] told.
fn selection(runs: &[u64]) -> RowSelection {
    let selector = |(place, &rows): (usize, &u64)| RowSelector { row_count: rows as usize, skip: place % 2 == 0 };
    runs.iter().enumerate().map(selector).collect::<Vec<_>>().into()
}

/// The columns of the files, by place, that a scan is declared to be sorted by.
fn sorted_columns(scan: &FileScanConfig) -> Vec<usize> {
    let columns = scan.file_schema().fields().len();
    let exprs = scan.output_ordering.iter().flatten();
    let places = exprs.filter_map(|sort| Some(sort.expr.downcast_ref::<Column>()?.index()));
    places.filter(|place| *place < columns).sorted_unstable().dedup().collect()
}

impl FileSplit {
    fn try_new(file: &PartitionedFile, bounded: &[usize]) -> Result<Self> {
        let meta = &file.object_meta;
        let statistics = file.statistics.as_ref().map_or(&[][..], |statistics| statistics.column_statistics.as_slice());
        let bounds = bounded.iter().filter_map(|&place| ColumnBounds::of(place, statistics.get(place)?));
        let values = file.partition_values.iter().map(|value| Ok(protobuf::ScalarValue::try_from(value)?));
        Ok(Self {
            path: meta.location.to_string(),
            size: meta.size,
            modified_ns: meta.last_modified.timestamp_nanos_opt().unwrap_or_default(),
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
            start: file.range.as_ref().map(|range| range.start),
            end: file.range.as_ref().map(|range| range.end),
            partition_values: values.collect::<Result<_>>()?,
            metadata_size_hint: file.metadata_size_hint.map(|hint| hint as u64),
            bounds: bounds.collect::<Result<_>>()?,
            rows: file.extensions.get::<ParquetRowSelection>().map(|rows| runs(rows.selection())).unwrap_or_default(),
        })
    }

    /// Bytes of the range, or of the rows, that are read.
    pub fn read_bytes(&self) -> u64 {
        let read: u64 = self.rows.iter().skip(1).step_by(2).sum();
        match (self.rows.iter().sum::<u64>(), self.start.zip(self.end)) {
            (0, Some((start, end))) => end.saturating_sub(start).max(0) as u64,
            (0, None) => self.size,
            (all, _) => (u128::from(self.size) * u128::from(read) / u128::from(all)) as u64,
        }
    }

    fn to_file(&self, columns: usize) -> Result<PartitionedFile> {
        let location = Path::parse(&self.path)
            .map_err(|e| DataFusionError::Internal(format!("split names '{}', which is no object store path: {e}", self.path)))?;
        let meta = ObjectMeta {
            location,
            last_modified: chrono::DateTime::from_timestamp_nanos(self.modified_ns),
            size: self.size,
            e_tag: self.e_tag.clone(),
            version: self.version.clone(),
        };
        let values = self.partition_values.iter().map(|value| Ok(ScalarValue::try_from(value)?)).collect::<Result<Vec<_>>>()?;
        let mut file = PartitionedFile::new_from_meta(meta).with_partition_values(values);
        if let (Some(start), Some(end)) = (self.start, self.end) {
            file = file.with_range(start, end);
        }
        if let Some(hint) = self.metadata_size_hint {
            file = file.with_metadata_size_hint(hint as usize);
        }
        if !self.rows.is_empty() {
            file = file.with_extension(ParquetRowSelection::new(selection(&self.rows)));
        }
        Ok(if self.bounds.is_empty() { file } else { file.with_statistics(Arc::new(self.statistics(columns)?)) })
    }

    /// Statistics that say no more than the bounds.
    fn statistics(&self, columns: usize) -> Result<Statistics> {
        let mut column_statistics = vec![ColumnStatistics::new_unknown(); columns];
        for bounds in &self.bounds {
            let (Some(least), Some(greatest)) = (&bounds.least, &bounds.greatest) else { continue };
            if let Some(column) = column_statistics.get_mut(bounds.column as usize) {
                column.min_value = Precision::Inexact(ScalarValue::try_from(least)?);
                column.max_value = Precision::Inexact(ScalarValue::try_from(greatest)?);
            }
        }
        Ok(Statistics { num_rows: Precision::Absent, total_byte_size: Precision::Absent, column_statistics })
    }
}

impl ColumnBounds {
    /// `None` where they are not known.
    fn of(place: usize, statistics: &ColumnStatistics) -> Option<Result<Self>> {
        let (least, greatest) = (statistics.min_value.get_value()?, statistics.max_value.get_value()?);
        let bounds = || Ok(Self { column: place as u32, least: Some(least.try_into()?), greatest: Some(greatest.try_into()?) });
        Some(bounds())
    }
}
