//! Files of statements with their results (`files/*.slt`), on the engines that must agree on them.
//!
//! Every file says what plain DataFusion answers, and runs on four engines: plain DataFusion, which is the oracle; the embedded cluster as it
//! starts by default; two executors whose plans are cut at one byte a partition; and the same as processes. Where an engine has to differ,
//! the file says so with `onlyif` and `skipif` and one of the labels `plain` and `volley`.
//!
//! `VOLLEY_SLT=joins` runs the files whose names contain that. `VOLLEY_SLT_WRITE=1` writes the results of the oracle (of the embedded
//! cluster for `onlyif volley`) into the files, to be read before they are kept.

mod engines;
mod format;

use std::path::{Path, PathBuf};

use sqllogictest::{DBOutput, Record, Runner, parse_file, strict_column_validator};

use engines::{Engine, Kind};
use format::Type;

/// The files, by name.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sqllogic/files");
    let wanted = std::env::var("VOLLEY_SLT").unwrap_or_default();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.retain(|file| file.file_stem().is_some_and(|name| name.to_string_lossy().contains(&wanted)));
    files.sort();
    assert!(!files.is_empty(), "no file is named like '{wanted}'");
    files
}

/// Statements and queries of a file that an engine runs.
fn records(file: &Path, label: &str) -> usize {
    let runs = |conditions: &[sqllogictest::Condition]| {
        conditions.iter().all(|condition| match condition {
            sqllogictest::Condition::OnlyIf { label: wanted } => wanted == label,
            sqllogictest::Condition::SkipIf { label: unwanted } => unwanted != label,
        })
    };
    let counts = |record: &Record<Type>| match record {
        Record::Statement { conditions, .. } | Record::Query { conditions, .. } => runs(conditions),
        _ => false,
    };
    parse_file(file).unwrap().iter().filter(|record| counts(record)).count()
}

/// Runs the files on an engine; each gets a fresh one, or a schema of its own.
async fn run(kind: Kind) {
    let (mut passed, mut failures) = (0, vec![]);
    for file in files() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let engine = Engine::start(kind, &name).await;
        let label = engine.label();
        let mut runner = Runner::new(|| async { engine.connect().await });
        runner.add_label(label);
        runner.with_column_validator(strict_column_validator);
        match runner.run_file_async(&file).await {
            Ok(()) => passed += records(&file, label),
            Err(error) => failures.push(format!("{error}")),
        }
        runner.shutdown_async().await;
        drop(runner);
        engine.shutdown().await;
    }
    assert!(failures.is_empty(), "{kind:?}: {} files failed\n\n{}", failures.len(), failures.join("\n\n"));
    println!("{kind:?}: {} files, {passed} records passed", files().len());
}

/// Writes results into the files, of those records that `kind` is to answer.
async fn write(kind: Kind) {
    for file in files() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let engine = Engine::start(kind, &name).await;
        let mut runner = Runner::new(|| async { engine.connect().await });
        runner.add_label(engine.label());
        let normal = sqllogictest::default_normalizer;
        runner.update_test_file(&file, " ", sqllogictest::default_validator, normal, strict_column_validator).await.unwrap();
        runner.shutdown_async().await;
        drop(runner);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_datafusion_answers_as_the_files_say() {
    if std::env::var_os("VOLLEY_SLT_WRITE").is_some() {
        // The oracle has the last word on what both answer.
        write(Kind::Embedded).await;
        write(Kind::Plain).await;
    }
    run(Kind::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_cluster_answers_as_the_files_say() {
    run(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_cut_at_one_byte_a_partition_answer_as_the_files_say() {
    run(Kind::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_answer_as_the_files_say() {
    run(Kind::Processes).await;
}

/// What a record is compared with.
type Answer = DBOutput<Type>;
