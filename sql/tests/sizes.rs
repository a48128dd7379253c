//! How many partitions and tasks a plan gets: they follow the bytes that it reads, the slots and the memory.

use std::fmt::Write;

use volley_sql::graph::ClusterShape;
use volley_sql::planner::plan_job;
use volley_sql::session::SessionBuilder;
use volley_sql::statement::Statement;

use crate::support::planned;

const GROUPED: &str = "SELECT l_orderkey, sum(l_quantity) FROM tpch.SCALE.lineitem GROUP BY l_orderkey";

#[tokio::test]
async fn counts_follow_bytes_slots_and_memory() {
    let session = SessionBuilder::new().build().unwrap();
    let mut table = String::new();
    for scale in ["sf0_01", "sf0_1", "sf1", "sf10", "sf100"] {
        for (executors, slots) in [(1, 1), (1, 4), (2, 2), (4, 16)] {
            for memory_mib in [64, 4096] {
                let Statement::Query(plan) = planned(&session, &GROUPED.replace("SCALE", scale)).await.unwrap() else { panic!() };
                let cluster = ClusterShape { executors, slots, largest_slots: slots / executors, memory_bytes: memory_mib << 20 };
                let graph = plan_job(&session.state(), &plan, cluster).await.unwrap();
                let stage = |stage: &volley_sql::graph::Stage| {
                    let partitions: u32 = stage.tasks.iter().map(|task| task.partitions).sum();
                    format!("{partitions} in {}", stage.tasks.len())
                };
                let stages: Vec<String> = graph.stages.iter().map(stage).collect();
                writeln!(table, "{scale:<7} {executors} executors, {slots:>2} slots, {memory_mib:>4} MiB: {}", stages.join(", ")).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}
