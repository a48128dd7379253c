//! A DataFusion session: the tables of a folder, and queries taken to their end.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use datafusion::sql::parser::DFParser;
use tokio::runtime::{Builder, Runtime};

use crate::protocol::{Ready, serve};

/// A Tokio runtime with some worker threads.
pub fn runtime(threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().context("can't start threads")
}

/// Makes each `TABLE.parquet` and each folder `TABLE` with Parquet files a table.
pub async fn register(context: &SessionContext, data: &Path) -> Result<()> {
    let data = std::path::absolute(data)?;
    let mut tables = 0;
    for entry in std::fs::read_dir(&data).with_context(|| format!("can't list {}", data.display()))? {
        let path = entry?.path();
        if path.is_dir() && !has_parquet(&path)? || path.is_file() && !is_parquet(&path) {
            continue;
        }
        let (Some(name), Some(text)) = (path.file_stem().and_then(|name| name.to_str()), path.to_str()) else {
            bail!("{} is not Unicode", path.display());
        };
        // A slash at its end makes it a folder to DataFusion.
        let slash = if path.is_dir() { "/" } else { "" };
        let registered = context.register_parquet(name, format!("{text}{slash}"), ParquetReadOptions::default());
        registered.await.with_context(|| format!("can't read {text}"))?;
        tables += 1;
    }
    if tables == 0 {
        bail!("there are no tables in {}", data.display());
    }
    Ok(())
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

fn has_parquet(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if is_parquet(&entry?.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs the statements of a text one after another, each to its end, and returns how many rows the last of them has.
pub async fn run(context: &SessionContext, sql: &str) -> Result<usize> {
    let mut rows = 0;
    for statement in DFParser::parse_sql(sql)? {
        let plan = context.state().statement_to_plan(statement).await?;
        let batches = context.execute_logical_plan(plan).await?.collect().await?;
        rows = batches.iter().map(|batch| batch.num_rows()).sum();
    }
    Ok(rows)
}

/// Answers the queries of standard input from a session. They run on the runtime's threads: this one only waits.
pub fn answer(runtime: &Runtime, context: &SessionContext, ready: &Ready) -> Result<()> {
    serve(ready, io::stdin().lock(), io::stdout().lock(), |sql| {
        let (context, sql) = (context.clone(), sql.to_owned());
        let query = runtime.spawn(async move { run(&context, &sql).await });
        runtime.block_on(query).context("the query panicked")?
    })
}
