//! Every format by every way in and out, on both kinds of clusters.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::prelude::{CsvReadOptions, DataFrame, JsonReadOptions, ParquetReadOptions, col};
use futures::TryStreamExt;
use volley_client::{Context, EmbeddedCluster, EmbeddedOptions, Result};

use super::{MIB, context, shown};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Parquet,
    Csv,
    Json,
}

const FORMATS: [Format; 3] = [Format::Parquet, Format::Csv, Format::Json];

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    async fn read(self, context: &Context, path: &str) -> Result<DataFrame> {
        match self {
            Self::Parquet => context.read_parquet(path, ParquetReadOptions::default()).await,
            Self::Csv => context.read_csv(path, CsvReadOptions::new()).await,
            Self::Json => context.read_json(path, JsonReadOptions::default()).await,
        }
    }

    async fn register(self, context: &Context, name: &str, path: &str) -> Result<()> {
        match self {
            Self::Parquet => context.register_parquet(name, path, ParquetReadOptions::default()).await,
            Self::Csv => context.register_csv(name, path, CsvReadOptions::new()).await,
            Self::Json => context.register_json(name, path, JsonReadOptions::default()).await,
        }
    }

    async fn write(self, frame: DataFrame, path: &str) -> datafusion::error::Result<Vec<RecordBatch>> {
        match self {
            Self::Parquet => frame.write_parquet(path, DataFrameWriteOptions::new(), None).await,
            Self::Csv => frame.write_csv(path, DataFrameWriteOptions::new(), None).await,
            Self::Json => frame.write_json(path, DataFrameWriteOptions::new(), None).await,
        }
    }
}

/// The same four rows in each format.
async fn make(context: &Context, folder: &Path) {
    let csv = folder.join("in.csv");
    fs::write(&csv, "k,v\na,1\nb,2\na,3\nc,4\n").unwrap();
    fs::write(folder.join("in.json"), "{\"k\":\"a\",\"v\":1}\n{\"k\":\"b\",\"v\":2}\n{\"k\":\"a\",\"v\":3}\n{\"k\":\"c\",\"v\":4}\n")
        .unwrap();
    let (csv, parquet) = (csv.display().to_string(), folder.join("in.parquet").display().to_string());
    let frame = context.read_csv(&csv, CsvReadOptions::new()).await.unwrap();
    frame.write_parquet(&parquet, DataFrameWriteOptions::new().with_single_file_output(true), None).await.unwrap();
}

const TOTALS: [&str; 3] = ["a|4", "b|2", "c|4"];

fn totals(frame: DataFrame) -> DataFrame {
    let totals = frame.aggregate(vec![col("k")], vec![sum(col("v")).alias("total")]).unwrap();
    totals.sort(vec![col("k").sort(true, true)]).unwrap()
}

async fn every_way(context: &Context) {
    let folder = tempfile::tempdir().unwrap();
    make(context, folder.path()).await;
    for format in FORMATS {
        let name = format.name();
        let path = folder.path().join(format!("in.{name}")).display().to_string();
        let read = || format.read(context, &path);

        assert_eq!(shown(totals(read().await.unwrap())).await, TOTALS, "{name}: read and collect");
        let streamed: Vec<RecordBatch> = read().await.unwrap().execute_stream().await.unwrap().try_collect().await.unwrap();
        assert_eq!(streamed.iter().map(RecordBatch::num_rows).sum::<usize>(), 4, "{name}: stream");
        assert_eq!(read().await.unwrap().count().await.unwrap(), 4, "{name}: count");
        read().await.unwrap().show().await.unwrap();

        format.register(context, name, &path).await.unwrap();
        assert_eq!(shown(totals(context.table(name).await.unwrap())).await, TOTALS, "{name}: register");
        let sql = format!("SELECT k, sum(v) AS total FROM {name} GROUP BY k ORDER BY k");
        assert_eq!(shown(context.sql(&sql).await.unwrap()).await, TOTALS, "{name}: register and SQL");

        for to in FORMATS {
            let out = folder.path().join(format!("{name}-to-{}", to.name())).display().to_string();
            let way = format!("{name} to {}", to.name());
            to.write(read().await.unwrap(), &out).await.unwrap_or_else(|error| panic!("{way}: {error}"));
            assert_eq!(shown(totals(to.read(context, &out).await.unwrap())).await, TOTALS, "{way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_on_an_embedded_cluster() {
    let context = context().await;
    every_way(&context).await;
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_on_a_connected_cluster() {
    let two = EmbeddedOptions {
        executors: NonZeroUsize::new(2),
        slots: NonZeroUsize::new(1),
        memory_bytes: Some(256 * MIB),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start(&two).await.unwrap();
    let context = Context::connect(cluster.url()).await.unwrap();
    context.sql("SET volley.fit = 'never'").await.unwrap();
    every_way(&context).await;
    context.shutdown().await.unwrap();
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_can_have_its_plan_explained_and_analyzed() {
    let folder = tempfile::tempdir().unwrap();
    let context = context().await;
    make(&context, folder.path()).await;
    let path = folder.path().join("in.csv").display().to_string();
    let program = totals(context.read_csv(&path, CsvReadOptions::new()).await.unwrap());
    let statement = context.sql("SELECT count(*) AS n FROM tpch.sf0_01.lineitem").await.unwrap();
    for frame in [program, statement] {
        let text = |frame: DataFrame| async move { shown(frame).await.join("\n") };
        let plan = text(frame.clone().explain(false, false).unwrap()).await;
        assert!(plan.contains("(root)") && plan.contains("ExchangeWrite"), "{plan}");
        let analyzed = text(frame.explain(false, true).unwrap()).await;
        assert!(analyzed.contains("rows=") && analyzed.contains("attempts="), "{analyzed}");
    }
    context.shutdown().await.unwrap();
}
