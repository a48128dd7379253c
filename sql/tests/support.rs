//! What the tests share.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use volley_sql::catalog::{CatalogOptions, ClusterCatalog, MemoryTableStore};
use volley_sql::session::{SessionBuilder, runtime_builder};
use volley_sql::statement::{Immediate, ImmediateResult, SqlError, Statement, parse_one, plan};
use volley_sql::write::{Committed, StagedFile, StagedWriteExec, WriteSpec, begin, commit};

/// A session of a cluster that holds nothing.
pub(crate) fn session() -> SessionContext {
    SessionBuilder::new()
        .settings(&settings(&[("datafusion.execution.target_partitions", "4"), ("volley.min_bytes_per_partition", "1")]))
        .build()
        .unwrap()
}

/// A session of the cluster that `store` belongs to, as after a restart of its scheduler.
pub(crate) async fn session_over(store: &Arc<MemoryTableStore>) -> SessionContext {
    session_of(store, None).await
}

/// As [`session_over`], of a cluster that keeps tables of its own in `warehouse`.
pub(crate) async fn session_with(store: &Arc<MemoryTableStore>, warehouse: &Path) -> SessionContext {
    session_of(store, Some(format!("file://{}", warehouse.display()))).await
}

async fn session_of(store: &Arc<MemoryTableStore>, warehouse: Option<String>) -> SessionContext {
    let runtime = runtime_builder().build_arc().unwrap();
    let store: Arc<MemoryTableStore> = Arc::clone(store);
    let catalog = ClusterCatalog::open(store, Arc::clone(&runtime), CatalogOptions { warehouse, ..Default::default() }).await.unwrap();
    SessionBuilder::new().runtime(runtime).catalog(catalog).build().unwrap()
}

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(crate) async fn planned(session: &SessionContext, sql: &str) -> Result<Statement, SqlError> {
    plan(session, &parse_one(sql)?, None).await
}

/// Runs a statement as a scheduler would, with plain DataFusion in place of the cluster.
pub(crate) async fn run(session: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    match planned(session, sql).await? {
        Statement::Query(plan) => {
            let rows = async { session.execute_logical_plan(plan).await?.collect().await };
            rows.await.map_err(|error| SqlError::of(&error, sql))
        }
        Statement::Immediate(immediate) => Ok(immediate.run(session).await?.batches),
        other => panic!("{sql} is {other:?}"),
    }
}

pub(crate) async fn rows(session: &SessionContext, sql: &str) -> String {
    let batches = run(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

/// The only value of a query.
pub(crate) async fn count(session: &SessionContext, sql: &str) -> i64 {
    let batches = run(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    batches[0].column(0).as_any().downcast_ref::<datafusion::arrow::array::Int64Array>().unwrap().value(0)
}

pub(crate) async fn error(session: &SessionContext, sql: &str) -> String {
    match run(session, sql).await {
        Ok(rows) => panic!("{sql} gave {} batches", rows.len()),
        Err(error) => error.to_string(),
    }
}

pub(crate) async fn immediate(session: &SessionContext, sql: &str) -> (Immediate, ImmediateResult) {
    let Statement::Immediate(immediate) = planned(session, sql).await.unwrap() else { panic!("{sql} is no immediate") };
    let result = immediate.run(session).await.unwrap();
    (immediate, result)
}

/// The spec of a write, and what one attempt at each of its partitions staged.
pub(crate) async fn stage(session: &SessionContext, sql: &str, id: &str) -> (WriteSpec, Vec<StagedFile>) {
    let Statement::Write(write) = planned(session, sql).await.unwrap() else { panic!("{sql} is no write") };
    let spec = write.target.spec(id);
    begin(&spec, &session.runtime_env()).await.unwrap();
    let files = attempt(session, &write.input, &spec).await;
    (spec, files)
}

/// One attempt at all partitions of a write.
pub(crate) async fn attempt(session: &SessionContext, input: &datafusion::logical_expr::LogicalPlan, spec: &WriteSpec) -> Vec<StagedFile> {
    let input = session.state().create_physical_plan(input).await.unwrap();
    let plan = Arc::new(StagedWriteExec::try_new(input, spec.clone(), 0).unwrap());
    let staged = collect(plan, session.task_ctx()).await.unwrap();
    staged.iter().flat_map(|batch| StagedFile::from_batch(batch).unwrap()).collect()
}

/// A write from statement to commit.
pub(crate) async fn write(session: &SessionContext, sql: &str, id: &str) -> Committed {
    let (spec, files) = stage(session, sql, id).await;
    commit(&spec, &files, &session.runtime_env()).await.unwrap()
}
