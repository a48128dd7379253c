//! The planner and the plan codec over small tables: graphs are cut, each task is decoded into an instance of its own, and what
//! they answer is what plain DataFusion answers.

mod adapt;
mod answers;
mod build_keys;
mod encoding;
mod join_order;
mod local;
mod ranges;
mod recursive;
mod rules;
mod runtime_filters;
mod scans;
mod tasks;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;
use volley_sql::codec::PlanCodec;
use volley_sql::exchange::run_in_memory;
use volley_sql::explain::explain;
use volley_sql::extension::Extensions;
use volley_sql::graph::{ClusterShape, Stage, StageGraph};
use volley_sql::planner::plan_job;
use volley_sql::session::SessionBuilder;

use crate::support::settings;

/// Three executors of one slot.
const CLUSTER: ClusterShape = ClusterShape { executors: 3, slots: 3, largest_slots: 1, memory_bytes: 4 << 30 };

/// Three tasks a stage, four partitions.
const CUT: &[(&str, &str)] =
    &[("volley.fit", "never"), ("volley.min_bytes_per_partition", "1"), ("volley.max_partitions", "4"), ("volley.tasks_per_slot", "1")];

/// As [`CUT`], and no join sends a side whole.
const PARTITIONED: &[(&str, &str)] = &[CUT[0], CUT[1], CUT[2], CUT[3], ("volley.broadcast_bytes", "0")];

/// As [`CUT`], and every sort and window is large.
const RANGES: &[(&str, &str)] = &[CUT[0], CUT[1], CUT[2], CUT[3], ("volley.range_sort_bytes", "0")];

/// Tables that our sessions and plain ones read.
struct Tables {
    dir: TempDir,
    registered: Vec<(&'static str, PathBuf)>,
}

impl Tables {
    fn none() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), registered: vec![] }
    }

    /// `t (n, k, s)` of four files of 1000 rows, some of whose `k` are null; `d (k, name)`, one small file with a null key; `p (k)`
    /// without one; `edges (src, dst)`; `empty (k)`.
    async fn usual() -> Self {
        let mut tables = Self::none();
        let t = |file: i64| {
            let (first, last) = (file * 1000, file * 1000 + 999);
            format!(
                "SELECT value AS n, CASE WHEN value % 50 <> 0 THEN value % 17 END AS k, concat('s', value % 7) AS s \
                 FROM generate_series({first}, {last})"
            )
        };
        tables.add("t", &(0..4).map(t).collect::<Vec<_>>()).await;
        let d = "SELECT CASE WHEN value <> 3 THEN value END AS k, concat('name ', value) AS name FROM generate_series(0, 19)";
        tables.add("d", &[d.to_owned()]).await;
        tables.add("p", &["SELECT value AS k FROM generate_series(5, 24)".to_owned()]).await;
        tables.add("edges", &["SELECT value AS src, value * 3 % 41 AS dst FROM generate_series(0, 40)".to_owned()]).await;
        tables.add("empty", &["SELECT value AS k FROM generate_series(1, 1) WHERE value > 1".to_owned()]).await;
        tables
    }

    /// The usual tables, and `r (n, k, s)` of four files in no order; all of its 4000 `n` differ.
    async fn unordered() -> Self {
        let mut tables = Self::usual().await;
        let r = |file: i64| {
            let (first, last) = (file * 1000 + 1, file * 1000 + 1000);
            format!(
                "SELECT value * 1999 % 4001 AS n, CASE WHEN value % 50 <> 0 THEN value * 7 % 61 END AS k, concat('s', value * 3 % 7) AS s \
                 FROM generate_series({first}, {last})"
            )
        };
        tables.add("r", &(0..4).map(r).collect::<Vec<_>>()).await;
        tables
    }

    /// A table of one Parquet file for each query.
    async fn add(&mut self, name: &'static str, files: &[String]) {
        let plain = SessionContext::new();
        let folder = self.dir.path().join(name);
        for (number, query) in files.iter().enumerate() {
            let file = folder.join(format!("{number}.parquet"));
            plain.sql(&format!("COPY ({query}) TO '{}'", file.display())).await.unwrap().collect().await.unwrap();
        }
        self.registered.push((name, folder));
    }

    async fn register(&self, session: &SessionContext) {
        for (name, folder) in &self.registered {
            session.register_parquet(*name, folder.to_str().unwrap(), Default::default()).await.unwrap();
        }
    }

    async fn ours(&self, options: &[(&str, &str)]) -> SessionContext {
        let session = SessionBuilder::new().settings(&settings(options)).build().unwrap();
        self.register(&session).await;
        session
    }

    async fn plain(&self) -> SessionContext {
        let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        self.register(&session).await;
        session
    }
}

async fn graph(session: &SessionContext, sql: &str) -> StageGraph {
    let state = session.state();
    let plan = state.create_logical_plan(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    plan_job(&state, &plan, CLUSTER).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The rows of a query that runs cut, as text, sorted. They are the same when it is adapted while it runs.
async fn cut_rows(session: &SessionContext, sql: &str) -> Vec<String> {
    let graph = graph(session, sql).await;
    let rows =
        async |graph: &StageGraph| sorted(&run_in_memory(&session.state(), graph).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
    let planned = rows(&graph).await;
    for adapted in adapt::all_adapted(&graph) {
        assert_eq!(rows(&adapted).await, planned, "{sql}: {}", explain(&adapted));
    }
    planned
}

async fn plain_rows(session: &SessionContext, sql: &str) -> Vec<String> {
    sorted(&session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = rows(batches);
    rows.sort();
    rows
}

/// Rows as text, in their order.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut cells: Vec<String> = vec![];
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let table = pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        cells.extend(rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>().join("|")));
    }
    cells
}

/// The operators of a plan that are a `T`.
fn all<T: ExecutionPlan>(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let mut found = vec![];
    let visited = plan.apply(|node| {
        if node.is::<T>() {
            found.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.unwrap();
    found
}

/// Task `index` of a stage, as an executor would have it.
fn decoded(session: &SessionContext, stage: &Stage, index: usize) -> Arc<dyn ExecutionPlan> {
    let bytes = PlanCodec::encode_stage(stage, &Extensions::default()).unwrap();
    PlanCodec::decode_task(&bytes, stage.tasks[index].clone(), &session.task_ctx()).unwrap()
}
