//! A program with a cluster inside: a DataFrame over two executors.
//!
//! ```sh
//! cargo run --release -p volley-client --example embedded
//! ```

use std::error::Error;
use std::num::NonZeroUsize;

use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::prelude::{JoinType, col, lit};
use volley_client::{Context, EmbeddedOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = EmbeddedOptions { executors: NonZeroUsize::new(2), memory_bytes: Some(512 << 20), ..EmbeddedOptions::default() };
    let context = Context::embedded(options).await?;

    let customers = context.table("tpch.sf0_01.customer").await?.filter(col("c_acctbal").gt(lit(0)))?;
    let nations = context.table("tpch.sf0_01.nation").await?;
    let richest = customers
        .join(nations, JoinType::Inner, &["c_nationkey"], &["n_nationkey"], None)?
        .aggregate(vec![col("n_name")], vec![sum(col("c_acctbal")).alias("balance")])?
        .sort(vec![col("balance").sort(false, false)])?
        .limit(0, Some(3))?;
    richest.show().await?;

    context.shutdown().await?;
    Ok(())
}
