//! `volley-bench gen`: a suite's tables as Parquet files.
//!
//! The same suite, scale and number of files give the same rows in the same files, whatever the number of threads: a thread
//! makes a whole file.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use futures::executor::block_on;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use volley_sql::catalog::{self, GeneratedTable, GeneratorExec, GeneratorSplit, Scale};

use crate::data::{file_of, folder_of};
use crate::error::{BenchError, Result};
use crate::suite::Suite;
use crate::wide;

/// Rows of a row group: enough to compress well, few enough that a table of a million rows can be scanned in parallel.
const ROW_GROUP_ROWS: usize = 256 * 1024;
const BATCH_ROWS: usize = 8192;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What is to be generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// The suite.
    pub suite: Suite,
    /// Its scale factor: about so many gigabytes of text.
    pub scale: f64,
    /// Where to. Made if it is missing.
    pub out: PathBuf,
    /// Files of each table; small tables may get fewer.
    pub files_per_table: usize,
    /// Whether files that are there already are replaced.
    pub force: bool,
    /// Files that are made at a time.
    pub threads: usize,
}

/// One file to be made.
#[derive(Debug)]
struct Part {
    rows: Rows,
    path: PathBuf,
    /// About.
    bytes: usize,
}

/// Where the rows of a file come from.
#[derive(Debug)]
enum Rows {
    /// A share of a table that a library makes.
    Generated(GeneratedTable, GeneratorSplit),
    /// A query.
    Query(String),
}

impl Rows {
    fn stream(&self, session: &SessionContext) -> Result<SendableRecordBatchStream> {
        match self {
            Self::Generated(table, split) => Ok(GeneratorExec::new(*table, vec![vec![*split]], None)?.execute(0, session.task_ctx())?),
            Self::Query(sql) => Ok(block_on(async { session.sql(sql).await?.execute_stream().await })?),
        }
    }
}

/// How far the work is, for people.
#[derive(Debug, Default)]
struct Progress {
    rows: AtomicU64,
    files: AtomicUsize,
}

/// Makes all files. Rows go to temporary files first, so that a name never stands for half a table.
pub fn generate(wanted: &Generate) -> Result<()> {
    let parts = parts(wanted)?;
    if let Some(part) = parts.iter().find(|part| !wanted.force && part.path.exists()) {
        let there = part.path.display();
        return Err(BenchError::Usage(format!("{there} is there already: choose another --out, or replace it with --force")));
    }
    let started = Instant::now();
    let (count, progress) = (parts.len(), Progress::default());
    // One partition, so that nothing is spawned: the files are made at the same time.
    let config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_target_partitions(1);
    let session = SessionContext::new_with_config(config);
    let waiting = Mutex::new(parts.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        let makers: Vec<_> = (0..wanted.threads.clamp(1, count.max(1)))
            .map(|_| scope.spawn(|| std::iter::from_fn(next).try_for_each(|part| write(&part, &session, &progress))))
            .collect();
        while makers.iter().any(|maker| !maker.is_finished()) {
            show(&progress, count, started, false);
            thread::park_timeout(PROGRESS_INTERVAL);
        }
        makers.into_iter().try_for_each(|maker| match maker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    show(&progress, count, started, true);
    Ok(())
}

/// The files to be made, the largest first: the last one to start should be a short one.
fn parts(wanted: &Generate) -> Result<Vec<Part>> {
    let mut parts = match wanted.suite {
        Suite::Tpch => generated_parts(wanted, catalog::Suite::TpcH)?,
        Suite::Tpcds => generated_parts(wanted, catalog::Suite::TpcDs)?,
        Suite::Wide => wide_parts(wanted),
    };
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    Ok(parts)
}

fn generated_parts(wanted: &Generate, suite: catalog::Suite) -> Result<Vec<Part>> {
    let scale: Scale = format!("sf{}", wanted.scale.to_string().replace('.', "_")).parse()?;
    let mut parts = Vec::new();
    for name in wanted.suite.tables() {
        let unknown = || BenchError::Usage(format!("{} has no generator for its table {name}", wanted.suite));
        let table = suite.table(name, scale).ok_or_else(unknown)?;
        let files = table.most_parts().clamp(1, wanted.files_per_table.max(1));
        let of = u32::try_from(files).map_err(|_| BenchError::Usage(format!("{files} files are too many")))?;
        let bytes = table.rows().get_value().copied().unwrap_or(0) * table.row_bytes() / files;
        parts.extend((0..of).map(|part| Part {
            rows: Rows::Generated(table, GeneratorSplit { part, of }),
            path: path(wanted, name, part as usize),
            bytes,
        }));
    }
    Ok(parts)
}

fn wide_parts(wanted: &Generate) -> Vec<Part> {
    let rows = (wanted.scale * wide::ROWS_AT_SCALE_1).round().max(1.0) as u64;
    let files = (wanted.files_per_table.max(1) as u64).min(rows);
    let first = |file: u64| rows * file / files;
    let part = |file| Part {
        rows: Rows::Query(wide::rows(first(file), first(file + 1) - 1)),
        path: path(wanted, "visits", file as usize),
        bytes: (first(file + 1) - first(file)) as usize * wide::ROW_BYTES,
    };
    (0..files).map(part).collect()
}

fn path(wanted: &Generate, table: &str, part: usize) -> PathBuf {
    match wanted.files_per_table {
        0 | 1 => file_of(&wanted.out, table),
        _ => folder_of(&wanted.out, table).join(format!("part-{part:05}.parquet")),
    }
}

fn write(part: &Part, session: &SessionContext, progress: &Progress) -> Result<()> {
    let folder = part.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(BenchError::file(folder))?;
    let temporary = part.path.with_extension("parquet.part");
    write_rows(part, &temporary, session, progress).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    })?;
    fs::rename(&temporary, &part.path).map_err(BenchError::file(&part.path))?;
    progress.files.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn write_rows(part: &Part, path: &Path, session: &SessionContext, progress: &Progress) -> Result<()> {
    let parquet = |source| BenchError::Parquet { path: path.to_owned(), source };
    let file = File::create(path).map_err(BenchError::file(path))?;
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).build();
    let mut rows = part.rows.stream(session)?;
    let mut writer = ArrowWriter::try_new(BufWriter::with_capacity(1 << 20, file), rows.schema(), Some(properties)).map_err(parquet)?;
    while let Some(batch) = block_on(rows.next()) {
        let batch = batch?;
        writer.write(&batch).map_err(parquet)?;
        progress.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    }
    writer.close().map_err(parquet)?;
    Ok(())
}

/// A line that is drawn over on a terminal; elsewhere only the last one is written.
fn show(progress: &Progress, files: usize, started: Instant, last: bool) {
    let mut out = io::stderr().lock();
    if !last && !out.is_terminal() {
        return;
    }
    let (rows, done) = (progress.rows.load(Ordering::Relaxed), progress.files.load(Ordering::Relaxed));
    let line = format!("{done} of {files} files, {:.1} million rows, {:.0} s", rows as f64 / 1e6, started.elapsed().as_secs_f64());
    let (start, end) = (if out.is_terminal() { "\r" } else { "" }, if last { "\n" } else { "" });
    // Nobody is harmed if progress can't be shown.
    let _ = write!(out, "{start}{line}{end}").and_then(|()| out.flush());
}
