//! Tables of a cluster of processes: who sees them, what outlives the scheduler, and what is left on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use volley_client::FlightClient;

use crate::processes::Processes;

const PATIENCE: Duration = Duration::from_secs(60);

async fn run(session: &FlightClient, sql: &str) -> Result<String, String> {
    let rows = async {
        let execution = session.execute(sql).await?;
        session.fetch(&execution).await?.try_collect::<Vec<_>>().await
    };
    let rows = rows.await.map_err(|error| error.to_string())?;
    Ok(pretty_format_batches(&rows).unwrap().to_string())
}

/// The one value of a query.
async fn value(session: &FlightClient, sql: &str) -> String {
    let shown = run(session, sql).await.unwrap();
    shown.lines().nth(3).unwrap_or_default().trim_matches(['|', ' ']).to_owned()
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_outlive_a_killed_scheduler_and_are_seen_by_every_session() {
    let mut processes = Processes::start().await;
    let one = processes.connect().await;
    run(&one, "CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 1000)").await.unwrap();
    run(&one, "CREATE VIEW v AS SELECT sum(a) AS s FROM t").await.unwrap();
    let two = processes.connect().await;
    assert_eq!(value(&two, "SELECT s FROM v").await, "500500");
    run(&two, "INSERT INTO t VALUES (500)").await.unwrap();
    assert_eq!(value(&one, "SELECT s FROM v").await, "501000");
    processes.restart_scheduler().await;
    let after = processes.connect().await;
    assert_eq!(value(&after, "SELECT s FROM v").await, "501000");
    run(&after, "INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(value(&after, "SELECT count(*) FROM t").await, "1002");
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_seen_by_their_session_alone() {
    let processes = Processes::shared().await;
    let (one, two) = (processes.connect().await, processes.connect().await);
    run(&one, "CREATE TEMPORARY TABLE mine AS SELECT 1 AS a").await.unwrap();
    assert_eq!(value(&one, "SELECT a FROM mine").await, "1");
    assert!(run(&two, "SELECT a FROM mine").await.unwrap_err().contains("not found"));
    run(&two, "CREATE TABLE mine AS SELECT 2 AS a").await.unwrap();
    assert_eq!((value(&one, "SELECT a FROM mine").await, value(&two, "SELECT a FROM mine").await), ("1".into(), "2".into()));
    run(&one, "INSERT INTO mine VALUES (10)").await.unwrap();
    assert_eq!(value(&one, "SELECT sum(a) FROM mine").await, "11");
    run(&one, "DROP TABLE mine").await.unwrap();
    assert_eq!(value(&one, "SELECT a FROM mine").await, "2", "the cluster's table is seen again");
    run(&two, "DROP TABLE mine").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_insert_at_once_and_no_row_is_lost() {
    let processes = Processes::shared().await;
    let session = processes.connect().await;
    run(&session, "CREATE TABLE counted (a BIGINT)").await.unwrap();
    let insert = async |number: usize| {
        let session = processes.connect().await;
        run(&session, &format!("INSERT INTO counted VALUES ({number}), ({number})")).await.unwrap();
    };
    futures::future::join_all((0..12).map(insert)).await;
    assert_eq!(value(&session, "SELECT concat(count(*), ' ', sum(a)) FROM counted").await, "24 132");
    run(&session, "DROP TABLE counted").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_nothing() {
    let processes = Processes::start().await;
    let session = processes.connect().await;
    let warehouse = processes.state().join("warehouse");
    let error = run(&session, "CREATE TABLE t AS SELECT 1 / (value - 700) AS a FROM generate_series(1, 1000)").await.unwrap_err();
    assert!(error.to_lowercase().contains("divide by zero"), "{error}");
    assert_eq!(files(&warehouse), Vec::<PathBuf>::new());
    assert!(run(&session, "SELECT * FROM t").await.unwrap_err().contains("not found"));
    run(&session, "CREATE TABLE t (a BIGINT NOT NULL)").await.unwrap();
    let before = files(&warehouse);
    run(&session, "INSERT INTO t SELECT CASE WHEN value > 700 THEN NULL ELSE value END FROM generate_series(1, 1000)").await.unwrap_err();
    assert_eq!(files(&warehouse), before);
    assert_eq!(value(&session, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_write_had_staged_when_the_scheduler_was_killed_is_removed() {
    let mut processes = Processes::start().await;
    let session = processes.connect().await;
    let warehouse = processes.state().join("warehouse");
    let target = processes.state().join("files");
    let slow = "SELECT sum(x.value % 7 + y.value) AS s FROM generate_series(1, 20000) x, generate_series(1, 20000) y";
    let copy = format!("COPY ({slow}) TO '{}/' STORED AS PARQUET", target.display());
    let create = format!("CREATE TABLE t AS {slow}");
    let (one, two) = (session.clone(), processes.connect().await);
    let writes = [tokio::spawn(async move { run(&one, &create).await }), tokio::spawn(async move { run(&two, &copy).await })];
    let staged =
        || std::fs::read_dir(processes.state()).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".volley"));
    until("both writes begin", || !files(&warehouse).is_empty() && staged()).await;
    processes.restart_scheduler().await;
    assert_eq!(files(&warehouse), Vec::<PathBuf>::new());
    assert!(
        !std::fs::read_dir(processes.state()).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".volley"))
    );
    for write in writes {
        write.await.unwrap().unwrap_err();
    }
    assert!(run(&processes.connect().await, "SELECT * FROM t").await.unwrap_err().contains("not found"));
}
