//! Scans drop rows that a join further up has no use for.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use volley_sql::graph::{ClusterShape, StageGraph};
use volley_sql::planner::plan_job;

use super::{CUT, PARTITIONED, Tables, cut_rows, decoded, plain_rows, sorted};

/// One executor, which runs plans whole.
const ONE: ClusterShape = ClusterShape { executors: 1, slots: 2, largest_slots: 2, memory_bytes: 4 << 30 };

/// Something dear lies between each scan of `t` or `edges` and a join further up.
const FILTERED: &[&str] = &[
    "SELECT d.name, c.rows FROM d JOIN (SELECT n, count(*) AS rows FROM t GROUP BY n) c ON c.n = d.k WHERE d.name = 'name 4'",
    "SELECT d.name, c.rows FROM d JOIN (SELECT n, count(*) AS rows FROM t WHERE s <> 's3' GROUP BY n) c ON c.n = d.k WHERE d.name < 'name 5'",
    "SELECT count(*) FROM d JOIN (SELECT DISTINCT k FROM t) u ON u.k = d.k WHERE d.name = 'nobody'",
    "SELECT d.name, sum(t.n) FROM d, edges, t WHERE edges.dst = t.k AND t.n = d.k AND d.name < 'name 3' GROUP BY d.name",
];

pub(super) async fn whole(session: &SessionContext, sql: &str) -> StageGraph {
    let state = session.state();
    plan_job(&state, &state.create_logical_plan(sql).await.unwrap(), ONE).await.unwrap()
}

/// What the runtime filters of a plan counted: rows that they saw, and that they dropped.
fn counted(plan: &Arc<dyn ExecutionPlan>) -> Vec<(usize, usize)> {
    let mut counts = vec![];
    let visited = plan.apply(|node| {
        if node.name() == "RuntimeFilterExec" {
            let metrics = node.metrics().unwrap();
            let count = |name| metrics.sum_by_name(name).map_or(0, |value| value.as_usize());
            counts.push((count("rows_seen"), count("rows_dropped")));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.unwrap();
    counts
}

/// Runs the only task of a graph: its rows, and what its filters counted.
async fn run_whole(session: &SessionContext, graph: &StageGraph) -> (Vec<String>, Vec<(usize, usize)>) {
    let plan = decoded(session, &graph.stages[0], 0);
    let rows = collect(Arc::clone(plan.children()[0]), session.task_ctx()).await.unwrap();
    (sorted(&rows), counted(&plan))
}

#[tokio::test]
async fn scans_drop_rows_that_no_join_wants() {
    let tables = Tables::usual().await;
    // A filter is tried on some batches first.
    let (ours, plain) = (tables.ours(&[("datafusion.execution.batch_size", "128")]).await, tables.plain().await);
    for (sql, least) in FILTERED.iter().zip([100, 100, 0, 0]) {
        let (rows, counts) = run_whole(&ours, &whole(&ours, sql).await).await;
        assert_eq!(rows, plain_rows(&plain, sql).await, "{sql}");
        let dropped: usize = counts.iter().map(|(_, dropped)| dropped).sum();
        assert!(dropped >= least, "{sql}: {counts:?}");
    }
    let off = tables.ours(&[("volley.runtime_filters", "false")]).await;
    let (rows, counts) = run_whole(&off, &whole(&off, FILTERED[0]).await).await;
    assert_eq!((rows, counts), (plain_rows(&plain, FILTERED[0]).await, vec![]));
}

#[tokio::test]
async fn a_join_right_above_its_scan_drops_rows_itself() {
    let tables = Tables::usual().await;
    let session = tables.ours(&[]).await;
    let sql = "SELECT t.n FROM t JOIN d ON t.k = d.k WHERE d.name = 'name 4'";
    let (rows, counts) = run_whole(&session, &whole(&session, sql).await).await;
    assert_eq!((rows, counts), (plain_rows(&tables.plain().await, sql).await, vec![]));
}

#[tokio::test]
async fn cut_plans_give_the_same_rows() {
    let tables = Tables::usual().await;
    let plain = tables.plain().await;
    for options in [CUT, PARTITIONED] {
        let session = tables.ours(options).await;
        for sql in FILTERED {
            assert_eq!(cut_rows(&session, sql).await, plain_rows(&plain, sql).await, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_recursive_query_fills_other_filters_in_each_round() {
    let tables = Tables::usual().await;
    let (ours, plain) = (tables.ours(&[]).await, tables.plain().await);
    let sql = "WITH RECURSIVE r AS (SELECT 1 AS k UNION ALL \
               SELECT e.dst FROM r JOIN (SELECT src, max(dst) AS dst FROM edges GROUP BY src) e ON e.src = r.k WHERE r.k < 30) SELECT k FROM r";
    let (rows, counts) = run_whole(&ours, &whole(&ours, sql).await).await;
    assert_eq!((rows, counts), (plain_rows(&plain, sql).await, vec![]));
}
