//! What each task reads of Parquet files.

use std::sync::LazyLock;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::prelude::ParquetReadOptions;
use volley_sql::codec::LeafContent;
use volley_sql::exchange::run_in_memory;
use volley_sql::explain::explain;
use volley_sql::graph::StageGraph;

use super::{CUT, Tables, cut_rows, graph, plain_rows};

/// Rows of the file of `hashes (n, h)`, which has one row group.
const ROWS: u64 = 120_000;

static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("h", DataType::Utf8View, true)]));

/// In the order of `n`, or in none.
async fn hashes(is_ordered: bool) -> Tables {
    let mut tables = Tables::none();
    let n = if is_ordered { "value" } else { "value * 7919 % 120011" };
    let rows = format!("SELECT {n} AS n, md5(CAST(value AS VARCHAR)) AS h FROM generate_series(1, {ROWS})");
    tables.add("hashes", &[rows]).await;
    tables
}

/// The rows of the file that each partition of the first stage reads, as first row and row after the last.
fn read_by_partition(graph: &StageGraph) -> Vec<Vec<(u64, u64)>> {
    let mut partitions = vec![];
    for task in &graph.stages[0].tasks {
        let Some(LeafContent::Files(files)) = &task.leaves[0].content else { panic!("{}", explain(graph)) };
        partitions.extend(files.groups.iter().map(|group| {
            let rows = |rows: &[u64]| match rows {
                [] => (0, ROWS),
                [skipped, read, ..] => (*skipped, skipped + read),
                [_] => panic!("nothing is read"),
            };
            group.files.iter().map(|split| rows(&split.rows)).collect()
        }));
    }
    partitions
}

#[tokio::test]
async fn one_row_group_is_shared_out_by_pages() {
    for is_ordered in [false, true] {
        let tables = hashes(is_ordered).await;
        let session = tables.ours(CUT).await;
        let graph = graph(&session, "SELECT h, count(*) FROM hashes GROUP BY h").await;
        let partitions = read_by_partition(&graph);
        assert_eq!(partitions.len(), 4, "{}", explain(&graph));
        let range = |partition: Vec<(u64, u64)>| partition[..].try_into().map(|[range]: [(u64, u64); 1]| range).unwrap();
        let ranges: Vec<_> = partitions.into_iter().map(range).collect();
        assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0) && ranges[0].0 == 0 && ranges[3].1 == ROWS, "{ranges:?}");
        let most = ranges.iter().map(|(first, end)| end - first).max().unwrap();
        // A page has 20,000 rows at most.
        assert!(most <= ROWS / 4 + 20_000, "{ranges:?}");
    }
}

#[tokio::test]
async fn every_row_is_read_once() {
    for is_ordered in [false, true] {
        let tables = hashes(is_ordered).await;
        let (session, plain) = (tables.ours(CUT).await, tables.plain().await);
        for sql in [
            "SELECT count(*), sum(n), count(DISTINCT h), min(h) FROM hashes",
            "SELECT n, h FROM hashes WHERE n BETWEEN 29990 AND 30010 OR n % 10007 = 0",
            "SELECT h FROM hashes WHERE h > 'fff'",
            "SELECT count(*) FROM hashes a JOIN hashes b ON a.n = b.n + 60000 WHERE b.h < '8'",
            "SELECT n, h FROM hashes ORDER BY n, h LIMIT 20",
            "SELECT n FROM hashes ORDER BY h DESC LIMIT 20",
            "SELECT n, lag(h) OVER (ORDER BY n, h) FROM hashes WHERE n < 60500 AND n > 59500",
        ] {
            assert_eq!(cut_rows(&session, sql).await, plain_rows(&plain, sql).await, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_file_without_the_column_that_is_read_twice_stays_twice() {
    let mut tables = hashes(false).await;
    // Of another schema than the rest, and in no folder of the table.
    tables.add("old", &["SELECT value AS n FROM generate_series(1, 1000)".to_owned()]).await;
    let session = tables.ours(CUT).await;
    let plain = tables.plain().await;
    let file = |folder: &str| tables.dir.path().join(folder).join("0.parquet").display().to_string();
    for session in [&session, &plain] {
        let paths = [file("hashes"), file("old"), file("old")];
        let options = ParquetReadOptions::new().schema(&SCHEMA);
        let table = session.read_parquet(paths.to_vec(), options).await.unwrap();
        session.register_table("both", table.into_view()).unwrap();
    }
    let sql = "SELECT h IS NULL, count(*) FROM both GROUP BY 1";
    assert_eq!(cut_rows(&session, sql).await, plain_rows(&plain, sql).await);
}

#[tokio::test]
async fn a_plan_that_is_left_whole_shares_it_out_as_well() {
    let tables = hashes(false).await;
    let session = tables.ours(&[("volley.fit", "always"), ("volley.max_partitions", "2")]).await;
    let graph = graph(&session, "SELECT sum(n) FROM hashes WHERE h > '8'").await;
    assert_eq!(graph.stages.len(), 1, "{}", explain(&graph));
    let rows = run_in_memory(&session.state(), &graph).await.unwrap();
    let expected = plain_rows(&tables.plain().await, "SELECT sum(n) FROM hashes WHERE h > '8'").await;
    assert_eq!(format!("|{}|", rows[0].column(0).as_primitive::<Int64Type>().value(0)), expected[0]);
}

#[tokio::test]
async fn what_is_small_or_asks_for_few_rows_stays_as_it_is() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let graph = graph(&session, "SELECT k, count(*) FROM t GROUP BY k").await;
    assert!(read_by_partition(&graph).iter().flatten().all(|rows| *rows == (0, ROWS)), "{}", explain(&graph));
}
