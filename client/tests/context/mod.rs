//! DataFusion programs on a cluster.

mod formats;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, col, lit};
use futures::TryStreamExt;
use volley_client::{Context, EmbeddedOptions};

const MIB: usize = 1 << 20;

async fn context() -> Context {
    let two = EmbeddedOptions {
        executors: NonZeroUsize::new(2),
        slots: NonZeroUsize::new(1),
        memory_bytes: Some(256 * MIB),
        ..Default::default()
    };
    let context = Context::embedded(two).await.unwrap();
    context.sql("SET volley.fit = 'never'").await.unwrap();
    context
}

fn csv(folder: &Path) -> String {
    let path = folder.join("t.csv");
    fs::write(&path, "k,v\na,1\nb,2\na,3\nc,4\n").unwrap();
    path.to_str().unwrap().to_owned()
}

async fn shown(frame: DataFrame) -> Vec<String> {
    let text = pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string();
    text.lines().filter(|line| line.starts_with('|')).skip(1).map(|line| line.trim_matches('|').replace(' ', "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_a_data_frame() {
    let context = context().await;
    let frame = context.sql("SELECT n_name AS name FROM tpch.sf0_01.nation WHERE n_regionkey = 3 ORDER BY name LIMIT 2").await.unwrap();
    assert_eq!(shown(frame).await, ["FRANCE", "GERMANY"]);
    let frame = context.sql("SELECT r_name, r_regionkey FROM tpch.sf0_01.region").await.unwrap();
    let frame = frame.filter(col("r_regionkey").gt(lit(2))).unwrap().sort(vec![col("r_name").sort(true, true)]).unwrap();
    assert_eq!(shown(frame).await, ["EUROPE|3", "MIDDLEEAST|4"]);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_over_files_runs_on_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let context = context().await;
    let frame = context.read_csv(&csv(folder.path()), CsvReadOptions::new()).await.unwrap();
    let totals = frame.aggregate(vec![col("k")], vec![sum(col("v")).alias("total")]).unwrap();
    let totals = totals.filter(col("total").gt_eq(lit(4))).unwrap().sort(vec![col("k").sort(true, true)]).unwrap();
    assert_eq!(shown(totals).await, ["a|4", "c|4"]);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stream_and_files_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let context = context().await;
    let written = folder.path().join("nations");
    let frame = context.table("tpch.sf0_01.nation").await.unwrap();
    frame.write_parquet(written.to_str().unwrap(), DataFrameWriteOptions::new(), None).await.unwrap();
    let frame = context.read_parquet(written.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let batches: Vec<_> = frame.execute_stream().await.unwrap().try_collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 25);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_program_meet_those_of_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let context = context().await;
    context.register_csv("t", &csv(folder.path()), CsvReadOptions::new()).await.unwrap();
    let sql = "SELECT t.k, r.r_name FROM t JOIN tpch.sf0_01.region AS r ON t.v = r.r_regionkey ORDER BY t.k, r.r_name";
    assert_eq!(shown(context.sql(sql).await.unwrap()).await, ["a|AMERICA", "a|EUROPE", "b|ASIA", "c|MIDDLEEAST"]);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_refers_to_itself_runs_on_the_cluster() {
    let context = context().await;
    let sql = "WITH RECURSIVE r(n, name) AS (SELECT CAST(0 AS BIGINT), CAST('' AS VARCHAR) \
               UNION ALL SELECT r.n + 1, t.r_name FROM r JOIN tpch.sf0_01.region t ON t.r_regionkey = r.n) SELECT n, name FROM r ORDER BY n";
    let rows = shown(context.sql(sql).await.unwrap()).await;
    assert_eq!(rows, ["0|", "1|AFRICA", "2|AMERICA", "3|ASIA", "4|EUROPE", "5|MIDDLEEAST"]);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_statement_fails_with_the_schedulers_words() {
    let context = context().await;
    let error = context.sql("SELECT x FROM nowhere").await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let frame = context.sql("SELECT CAST(n_name AS INT) AS n FROM tpch.sf0_01.nation").await.unwrap();
    let error = frame.collect().await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("cast"), "{error}");
    context.shutdown().await.unwrap();
}
