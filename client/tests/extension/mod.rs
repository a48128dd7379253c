//! Code of an embedding program: it runs on the cluster, and what an executor lacks is told by its name.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use futures::TryStreamExt;
use volley_client::{Context, EmbeddedOptions, FlightClient};
use volley_sql::extension::{Extension, Extensions};

/// Adds `twice`.
#[derive(Debug)]
struct Twice;

impl Extension for Twice {
    fn name(&self) -> &str {
        "twice"
    }

    fn register(&self, state: &mut SessionState) -> Result<()> {
        let twice = |arguments: &[ColumnarValue]| {
            let columns = ColumnarValue::values_to_arrays(arguments)?;
            let doubled: Int64Array = columns[0].as_primitive::<Int64Type>().iter().map(|value| value.map(|value| 2 * value)).collect();
            Ok(ColumnarValue::Array(Arc::new(doubled)))
        };
        let twice = create_udf("twice", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(twice));
        state.register_udf(Arc::new(twice))?;
        Ok(())
    }
}

fn extensions() -> Extensions {
    Extensions::new([Arc::new(Twice) as Arc<dyn Extension>])
}

/// The example is a program, whose beginning is not called here.
#[expect(dead_code, reason = "a test calls parts of the program")]
#[path = "../../examples/own_code.rs"]
mod own_code;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs_cut() {
    let extensions = Extensions::new([Arc::new(own_code::Own) as Arc<dyn Extension>]);
    let options = EmbeddedOptions { executors: NonZeroUsize::new(2), extensions, ..Default::default() };
    let context = Context::embedded(options).await.unwrap();
    for option in ["volley.fit = 'never'", "volley.min_bytes_per_partition = 1", "volley.max_partitions = 4"] {
        context.sql(&format!("SET {option}")).await.unwrap();
    }
    let answers = [
        ("SELECT round(sum(celsius(n)), 3) AS c, count(*) AS n FROM countdown(10)", "| -147.222 | 10 |"),
        ("SELECT round(geometric_mean(n), 6) AS m, n % 1.0 AS k FROM countdown(3) GROUP BY k", "| 1.817121 | 0.0 |"),
        ("SELECT sum(g) AS s, count(g) AS c FROM (SELECT growth(n) OVER (ORDER BY n) AS g FROM countdown(9))", "| 8.0 | 8 |"),
        (
            "SELECT sum(g) AS s FROM (SELECT growth(n_nationkey) OVER (PARTITION BY n_regionkey ORDER BY n_nationkey) AS g FROM tpch.sf0_01.nation)",
            "| 85.0 |",
        ),
    ];
    for (sql, row) in answers {
        let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
        let table = pretty_format_batches(&rows).unwrap().to_string();
        let shown = table.lines().nth(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(shown.as_deref(), Some(row), "{sql}\n{table}");
    }
    context.shutdown().await.unwrap();
}

const QUERY: &str = "SELECT n_regionkey AS k, sum(twice(n_nationkey)) AS s FROM tpch.sf0_01.nation WHERE n_regionkey = 1 GROUP BY k";

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_the_program_runs_on_executors_and_in_views() {
    let options = EmbeddedOptions { executors: NonZeroUsize::new(2), extensions: extensions(), ..Default::default() };
    let context = Context::embedded(options).await.unwrap();
    context.sql("SET volley.fit = 'never'").await.unwrap();
    let expected = ["+---+----+", "| k | s  |", "+---+----+", "| 1 | 94 |", "+---+----+"].join("\n");
    let rows = context.sql(QUERY).await.unwrap().collect().await.unwrap();
    assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), expected);
    context.sql(&format!("CREATE VIEW doubled AS {QUERY}")).await.unwrap();
    let rows = context.sql("SELECT * FROM doubled").await.unwrap().collect().await.unwrap();
    assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), expected);
    context.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_the_function_names_it() {
    let components = volley_scheduler::Components { extensions: extensions(), ..Default::default() };
    let scheduler = volley_scheduler::Scheduler::start(volley_scheduler::Config::embedded(), components).await.unwrap();
    let url = format!("http://{}", scheduler.address());
    let folder = tempfile::tempdir().unwrap();
    let config = volley_executor::Config::local(&url, NonZeroUsize::MIN, 64 << 20, folder.path());
    let executor = volley_executor::Executor::start(config, volley_executor::Components::default()).await.unwrap();
    let client = FlightClient::connect(&url).await.unwrap();
    let rows = async {
        let execution = client.execute(QUERY).await?;
        client.fetch(&execution).await?.try_collect::<Vec<_>>().await
    };
    let error = rows.await.unwrap_err().to_string();
    assert!(error.contains("twice") && error.contains("executor") && error.contains("started without"), "{error}");
    executor.shutdown().await.unwrap();
    scheduler.shutdown().await.unwrap();
}
