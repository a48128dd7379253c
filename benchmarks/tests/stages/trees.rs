//! The stage trees of the TPC-H queries as text: a change of the planner shows here first.

use volley_sql::catalog::Suite;
use volley_sql::explain::explain;
use volley_sql::graph::ClusterShape;
use volley_sql::planner::plan_job;

use super::data;

/// Two executors of two slots each.
const CLUSTER: ClusterShape = ClusterShape { executors: 2, slots: 4, largest_slots: 2, memory_bytes: 4 << 30 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tpch_stage_trees() {
    let folder = data::parquet(Suite::TpcH, "sf0_01").await;
    let ours = data::ours(Suite::TpcH, &folder, &[("volley.fit", "never")]).await;
    for number in 1..=data::queries(Suite::TpcH) {
        let state = ours.state();
        let plan = state.create_logical_plan(&data::query(Suite::TpcH, number)).await.unwrap();
        let graph = plan_job(&state, &plan, CLUSTER).await.unwrap();
        insta::assert_snapshot!(format!("tpch_q{number:02}"), explain(&graph));
    }
}
