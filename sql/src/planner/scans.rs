//! Pass 5: partitions of a Parquet scan read about equally much.
//!
//! The engine cuts files at equal numbers of bytes, and a row group goes to the partition in whose bytes it begins: of a file with one row group, as
//! files of up to a million rows usually are, one partition reads all and the others nothing. Where shares come out uneven, they are cut by rows
//! instead, at the ends of pages, as the footers tell that planning has read.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::ExecutionPlan;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::leaf::file_scan;

/// Bytes of columns that are worth reading in parallel.
const LEAST_BYTES: u64 = 1 << 20;
/// How many times an even share a partition may read.
const UNEVEN: f64 = 1.15;
/// Files for each partition beyond which shares are even enough, and footers too many to look at.
const FILES_PER_PARTITION: usize = 8;
/// The share of a partition for which it is not worth to read a row group in parts.
const TOLERANCE: f64 = 0.05;

/// Cuts scans whose partitions read unequally much.
pub(super) fn even(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
    let evened = plan.transform_up(|node| {
        let even = file_scan(&node).and_then(|scan| even_groups(scan, &node, footers.as_ref()).map(|groups| (scan.clone(), groups)));
        let Some((scan, groups)) = even else { return Ok(Transformed::no(node)) };
        let scan = FileScanConfigBuilder::from(scan).with_file_groups(groups).build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(evened.data)
}

/// Part of a file that may be cut at some rows.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    /// Which of the files.
    file: usize,
    /// Its first row in the file.
    first_row: u64,
    rows: u64,
    /// Bytes of the columns that are read.
    bytes: u64,
    /// Rows before which it may be cut, counted from its first.
    cuts: Vec<u64>,
    /// How many partitions read it as the engine planned.
    readers: usize,
}

/// Other groups of the files of a scan; `None` where they stay.
fn even_groups(scan: &FileScanConfig, node: &Arc<dyn ExecutionPlan>, footers: &FileMetadataCache) -> Option<Vec<FileGroup>> {
    let source = scan.file_source().downcast_ref::<ParquetSource>()?;
    let is_ordered = scan.preserve_order || !scan.output_ordering.is_empty();
    let partitions = scan.file_groups.len();
    let ranges: Vec<_> =
        scan.file_groups.iter().enumerate().flat_map(|(place, group)| group.files().iter().map(move |file| (place, file))).collect();
    if partitions < 2 || scan.output_partitioning.is_some() || scan.limit.is_some() || ranges.len() > FILES_PER_PARTITION * partitions {
        return None;
    }
    if !source.table_parquet_options().global.enable_page_index {
        return None;
    }
    let schema = node.schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let (mut files, mut pieces): (Vec<&PartitionedFile>, Vec<Piece>) = (vec![], vec![]);
    let mut shares = vec![0u64; partitions];
    for (partition, range) in ranges {
        let footer = footer(range, footers)?;
        let known = files.iter().position(|file| file.object_meta.location == range.object_meta.location);
        let file = known.unwrap_or(files.len());
        if known.is_none() {
            files.push(range);
            pieces.extend(pieces_of(file, &footer, &columns));
        }
        let of_file = pieces.iter_mut().filter(|piece| piece.file == file).zip(footer.row_groups());
        for (piece, _) in of_file.filter(|(_, group)| begins_in(group, range)) {
            shares[partition] += piece.bytes;
            piece.readers += 1;
        }
    }
    // A file that is read twice, or a row group that is left out, stays so.
    if pieces.iter().any(|piece| piece.readers != 1) {
        return None;
    }
    // Rows of one file are in its order, however it is cut; how files follow each other is for the engine to say.
    if is_ordered && files.len() > 1 {
        return None;
    }
    let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let is_even = shares.iter().all(|share| *share as f64 <= UNEVEN * total as f64 / partitions as f64);
    if is_even || total < LEAST_BYTES {
        return None;
    }
    let rows: Vec<u64> =
        (0..files.len()).map(|file| pieces.iter().filter(|piece| piece.file == file).map(|piece| piece.rows).sum()).collect();
    let groups = runs(&pieces, partitions).into_iter().map(|run| {
        let part = |(file, first, end): (usize, u64, u64)| part(files[file], first, end, rows[file]);
        FileGroup::new(run.into_iter().map(part).collect())
    });
    Some(groups.collect())
}

/// What is known of a file's row groups, if it is the one that was planned and read whole or by ranges of bytes.
fn footer(file: &PartitionedFile, footers: &FileMetadataCache) -> Option<Arc<ParquetMetaData>> {
    if file.extensions.get::<ParquetRowSelection>().is_some() || file.extensions.get::<ParquetAccessPlan>().is_some() {
        return None;
    }
    let cached = footers.get(&file.object_meta.location).filter(|cached| cached.is_valid_for(&file.object_meta))?;
    cached.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>().map(|cached| Arc::clone(cached.parquet_metadata()))
}

/// Whether the engine would read a row group for a range of its file.
fn begins_in(group: &RowGroupMetaData, file: &PartitionedFile) -> bool {
    let Some(range) = &file.range else { return true };
    let column = group.columns().first();
    column.is_some_and(|column| range.contains(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())))
}

fn pieces_of(file: usize, footer: &ParquetMetaData, columns: &[&str]) -> Vec<Piece> {
    let mut first_row = 0;
    let piece = |(number, group): (usize, &RowGroupMetaData)| {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let is_read = |path: &[String]| path.first().is_some_and(|root| columns.contains(&root.as_str()));
        let read = group.columns().iter().enumerate().filter(|(_, column)| is_read(column.column_path().parts()));
        let read: Vec<_> = read.map(|(place, column)| (place, u64::try_from(column.compressed_size()).unwrap_or(0))).collect();
        let bytes = read.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let largest = read.iter().max_by_key(|(_, bytes)| *bytes).map(|(place, _)| *place);
        let pages = largest.and_then(|place| Some(footer.offset_index()?.get(number)?.get(place)?.page_locations()));
        let cuts = pages.into_iter().flatten().filter_map(|page| u64::try_from(page.first_row_index).ok()).filter(|row| *row > 0).collect();
        first_row += rows;
        Piece { file, first_row: first_row - rows, rows, bytes, cuts, readers: 0 }
    };
    footer.row_groups().iter().enumerate().map(piece).collect()
}

/// For each partition the rows that it reads: file, first row, and the row after the last.
fn runs(pieces: &[Piece], partitions: usize) -> Vec<Vec<(usize, u64, u64)>> {
    let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let share = total as f64 / partitions as f64;
    let mut runs: Vec<Vec<(usize, u64, u64)>> = vec![vec![]];
    // Bytes before the piece.
    let mut before = 0u64;
    for piece in pieces {
        let mut from = 0;
        while runs.len() < partitions {
            // Where this partition's share ends, as a part of the piece.
            let end = (share * runs.len() as f64 - before as f64) / (piece.bytes.max(1)) as f64;
            let tolerated = TOLERANCE * share / piece.bytes.max(1) as f64;
            if end > 1.0 - tolerated {
                break;
            }
            let row = cut(piece, end, tolerated).max(from);
            push(&mut runs, piece, from, row);
            runs.push(vec![]);
            from = row;
        }
        push(&mut runs, piece, from, piece.rows);
        before += piece.bytes;
    }
    runs.resize(partitions, vec![]);
    runs
}

/// The row of a piece before which it is cut: about `end` of it, at the end of a page or at its own.
fn cut(piece: &Piece, end: f64, tolerated: f64) -> u64 {
    if end < tolerated {
        return 0;
    }
    let wanted = (end * piece.rows as f64) as u64;
    let ends = piece.cuts.iter().copied().chain([0, piece.rows]);
    ends.min_by_key(|row| row.abs_diff(wanted)).unwrap_or(0)
}

fn push(runs: &mut [Vec<(usize, u64, u64)>], piece: &Piece, from: u64, to: u64) {
    let Some(run) = runs.last_mut().filter(|_| from < to) else { return };
    let (first, end) = (piece.first_row + from, piece.first_row + to);
    match run.last_mut() {
        Some((file, _, last)) if *file == piece.file && *last == first => *last = end,
        _ => run.push((piece.file, first, end)),
    }
}

/// The rows from `first` up to `end` of a file that has so many.
fn part(file: &PartitionedFile, first: u64, end: u64, rows: u64) -> PartitionedFile {
    let mut part = file.clone();
    part.range = None;
    if first == 0 && end == rows {
        return part;
    }
    let run = |rows: u64, skip| RowSelector { row_count: rows as usize, skip };
    let selection = [run(first, true), run(end - first, false), run(rows - end, true)];
    let selection: Vec<_> = selection.into_iter().filter(|run| run.row_count > 0).collect();
    part.with_extension(ParquetRowSelection::new(RowSelection::from(selection)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row groups of one file, of so many rows each, of a byte a row, with pages of 100 rows where they may be cut.
    fn file(rows: &[u64], has_pages: bool) -> Vec<Piece> {
        let mut first_row = 0;
        let piece = |&rows: &u64| {
            let cuts = if has_pages { (1..rows / 100).map(|page| page * 100).collect() } else { vec![] };
            first_row += rows;
            Piece { file: 0, first_row: first_row - rows, rows, bytes: rows, cuts, readers: 1 }
        };
        rows.iter().map(piece).collect()
    }

    #[test]
    fn one_row_group_is_cut_at_pages() {
        assert_eq!(runs(&file(&[1000], true), 2), [[(0, 0, 500)], [(0, 500, 1000)]]);
        assert_eq!(runs(&file(&[1000], true), 3), [[(0, 0, 300)], [(0, 300, 700)], [(0, 700, 1000)]]);
        assert_eq!(runs(&file(&[1000], false), 2), [vec![], vec![(0, 0, 1000)]], "nothing tells where its pages end");
    }

    #[test]
    fn row_groups_are_cut_only_where_it_is_worth_it() {
        assert_eq!(runs(&file(&[1000, 980], true), 2), [[(0, 0, 1000)], [(0, 1000, 1980)]]);
        assert_eq!(runs(&file(&[1000, 400], true), 2), [[(0, 0, 700)], [(0, 700, 1400)]]);
        assert_eq!(runs(&file(&[400, 400, 400], true), 2), [[(0, 0, 600)], [(0, 600, 1200)]]);
        assert_eq!(runs(&file(&[400, 400, 400], false), 2), [[(0, 0, 400)], [(0, 400, 1200)]], "either half is as near");
    }

    #[test]
    fn partitions_go_on_in_the_next_file() {
        let mut pieces = file(&[300], true);
        pieces.push(Piece { file: 1, ..file(&[900], true)[0].clone() });
        assert_eq!(runs(&pieces, 2), [vec![(0, 0, 300), (1, 0, 300)], vec![(1, 300, 900)]]);
        assert_eq!(runs(&pieces, 4), [vec![(0, 0, 300)], vec![(1, 0, 300)], vec![(1, 300, 600)], vec![(1, 600, 900)]]);
    }

    #[test]
    fn a_part_of_a_file_is_a_selection_of_all_its_rows() {
        let file = PartitionedFile::new("a.parquet", 1000).with_range(0, 10);
        let runs = |first, end| {
            let part = part(&file, first, end, 100);
            assert!(part.range.is_none());
            let selection = part.extensions.get::<ParquetRowSelection>()?.selection().clone();
            Some(selection.iter().map(|run| (run.row_count, run.skip)).collect::<Vec<_>>())
        };
        assert_eq!(runs(0, 100), None);
        assert_eq!(runs(0, 40), Some(vec![(40, false), (60, true)]));
        assert_eq!(runs(40, 70), Some(vec![(40, true), (30, false), (30, true)]));
        assert_eq!(runs(70, 100), Some(vec![(70, true), (30, false)]));
    }
}
