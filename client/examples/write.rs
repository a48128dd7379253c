//! A program that writes: a directory of Parquet files, and a table of the cluster.
//!
//! ```sh
//! cargo run --release -p volley-client --example write
//! ```

use std::error::Error;

use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::ParquetReadOptions;
use volley_client::{Context, EmbeddedOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("customers").display().to_string();
    let context = Context::embedded(EmbeddedOptions::default()).await?;

    let customers = context.table("tpch.sf0_01.customer").await?.select_columns(&["c_custkey", "c_mktsegment"])?;
    let by_segment = DataFrameWriteOptions::new().with_partition_by(vec!["c_mktsegment".to_owned()]);
    customers.write_parquet(&path, by_segment, None).await?;

    let files = context.read_parquet(&path, ParquetReadOptions::default()).await?;
    println!("{} rows in files", files.count().await?);

    context.sql("CREATE TABLE segments AS SELECT c_mktsegment AS segment, count(*) AS n FROM tpch.sf0_01.customer GROUP BY 1").await?;
    context.sql("INSERT INTO segments VALUES ('NONE', 0)").await?;
    context.sql("SELECT * FROM segments ORDER BY segment").await?.show().await?;

    context.shutdown().await?;
    Ok(())
}
