//! Plain DataFusion on the same files: the yardstick, and the right answers.

use std::path::Path;

use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use tokio::runtime::{Builder, Runtime};

use crate::data::Data;
use crate::error::{BenchError, Result};
use crate::verify::{Answer, Order, without_limit};

/// A DataFusion session with the tables of a suite, on threads of its own.
pub struct Baseline {
    context: SessionContext,
    threads: Option<Runtime>,
}

impl std::fmt::Debug for Baseline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Baseline").finish_non_exhaustive()
    }
}

impl Baseline {
    /// DataFusion as it is by default, but for the number of partitions, which is also the number of threads.
    pub async fn open(data: &Data, threads: usize) -> Result<Self> {
        let config = SessionConfig::new().with_target_partitions(threads);
        let context = SessionContext::new_with_config(config);
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().thread_name("datafusion").build();
        let runtime = runtime.map_err(|error| BenchError::Usage(format!("can't start {threads} threads: {error}")))?;
        for (name, path) in &data.tables {
            context.register_parquet(*name, location(path), ParquetReadOptions::default()).await?;
        }
        Ok(Self { context, threads: Some(runtime) })
    }

    /// Runs a query to its end.
    pub async fn answer(&self, sql: &str) -> Result<Answer> {
        let (context, sql) = (self.context.clone(), sql.to_owned());
        self.spawn(async move {
            let plan = context.state().create_logical_plan(&sql).await?;
            run(&context, plan).await
        })
        .await
    }

    /// What a query says about order and limit.
    pub async fn order(&self, sql: &str) -> Result<Order> {
        let context = self.context.clone();
        let sql = sql.to_owned();
        self.spawn(async move { Ok(Order::of(&context.state().create_logical_plan(&sql).await?)) }).await
    }

    /// Runs a query without the limit that it ends in.
    pub async fn unlimited_answer(&self, sql: &str) -> Result<Answer> {
        let (context, sql) = (self.context.clone(), sql.to_owned());
        self.spawn(async move {
            let plan = context.state().create_logical_plan(&sql).await?;
            run(&context, without_limit(plan)?).await
        })
        .await
    }

    async fn spawn<T: Send + 'static>(&self, work: impl Future<Output = DataFusionResult<T>> + Send + 'static) -> Result<T> {
        let stopped = || BenchError::Usage("the threads of plain DataFusion have stopped".into());
        let runtime = self.threads.as_ref().ok_or_else(stopped)?;
        match runtime.spawn(work).await {
            Ok(result) => Ok(result?),
            Err(panic) => Err(BenchError::Usage(format!("plain DataFusion panicked: {panic}"))),
        }
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // A runtime must not be dropped where async code runs.
            threads.shutdown_background();
        }
    }
}

async fn run(context: &SessionContext, plan: LogicalPlan) -> DataFusionResult<Answer> {
    let frame = context.execute_logical_plan(plan).await?;
    let schema = std::sync::Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    let schema = batches.first().map_or(schema, |batch| batch.schema());
    Ok(Answer { schema, batches })
}

/// A path as a table location: a folder has a slash at its end.
pub(crate) fn location(path: &Path) -> String {
    let slash = if path.is_dir() { "/" } else { "" };
    format!("{}{slash}", path.display())
}
