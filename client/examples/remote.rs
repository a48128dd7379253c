//! A program on a cluster elsewhere, with files that the program and the executors can read.
//!
//! ```sh
//! cargo run --release -p volley-client --example remote -- http://127.0.0.1:50050 /data/orders/
//! ```

use std::env;
use std::error::Error;

use datafusion::prelude::{ParquetReadOptions, col, lit};
use futures::TryStreamExt;
use volley_client::Context;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50050".to_owned());
    let path = arguments.next().unwrap_or_else(|| "/data/orders/".to_owned());

    let context = Context::connect(&url).await?;
    let orders = context.read_parquet(&path, ParquetReadOptions::default()).await?;
    let large = orders.filter(col("o_totalprice").gt(lit(100_000)))?;

    let mut rows = large.select_columns(&["o_orderkey", "o_totalprice"])?.execute_stream().await?;
    let mut count = 0;
    while let Some(batch) = rows.try_next().await? {
        count += batch.num_rows();
    }
    println!("{count} orders of more than 100000");

    context.shutdown().await?;
    Ok(())
}
