//! Every query of TPC-H and TPC-DS, cut, encoded, decoded and run task by task, against plain DataFusion.

use std::collections::BTreeSet;

use datafusion::physical_plan::{ExecutionPlanProperties, collect};
use datafusion::prelude::SessionContext;
use volley_benchmarks::verify::{Answer, Order, Verdict, compare, contained, without_limit};
use volley_sql::catalog::Suite;
use volley_sql::exchange::run_in_memory;
use volley_sql::graph::ClusterShape;
use volley_sql::planner::plan_job;

use super::data;

/// Three tasks a stage, four partitions.
const SETTINGS: &[(&str, &str)] = &[
    ("volley.fit", "never"),
    ("volley.min_bytes_per_partition", "1"),
    ("volley.max_partitions", "4"),
    ("volley.tasks_per_slot", "1"),
    ("datafusion.optimizer.enable_join_dynamic_filter_pushdown", "true"),
];
const CLUSTER: ClusterShape = ClusterShape { executors: 3, slots: 3, largest_slots: 1, memory_bytes: 4 << 30 };

fn scale() -> String {
    std::env::var("VOLLEY_TEST_SCALE").unwrap_or_else(|_| "sf0_1".to_owned())
}

async fn answer(plain: &SessionContext, sql: &str) -> (Answer, Order) {
    let frame = plain.sql(sql).await.unwrap();
    let order = Order::of(frame.logical_plan());
    let plan = frame.create_physical_plan().await.unwrap();
    let schema = plan.schema();
    (Answer { schema, batches: collect(plan, plain.task_ctx()).await.unwrap() }, order)
}

/// What came of a query.
struct Checked {
    rows: usize,
    /// Stages of three tasks and four partitions.
    divided: usize,
}

/// The answer of the cut query, and how many of its stages are divided as asked for.
async fn run(ours: &SessionContext, sql: &str) -> Result<(Answer, usize), String> {
    let state = ours.state();
    let plan = state.create_logical_plan(sql).await.map_err(|e| e.to_string())?;
    let graph = plan_job(&state, &plan, CLUSTER).await.map_err(|e| e.to_string())?;
    let divided = graph.stages.iter().filter(|stage| {
        assert!(stage.shape.tasks <= 3, "a stage has more tasks than asked for");
        stage.shape.tasks == 3 && stage.plan.output_partitioning().partition_count() == 4
    });
    let divided = divided.count();
    let batches = run_in_memory(&state, &graph).await.map_err(|e| e.to_string())?;
    Ok((Answer { schema: graph.schema, batches }, divided))
}

async fn check(plain: &SessionContext, ours: &SessionContext, sql: &str) -> Result<Checked, String> {
    let (expected, order) = answer(plain, sql).await;
    let (actual, divided) = run(ours, sql).await?;
    match compare(&expected, &actual, &order).map_err(|e| e.to_string())? {
        Verdict::Equal => {}
        Verdict::MayTie { .. } => {
            let state = plain.state();
            let plan = without_limit(state.create_logical_plan(sql).await.unwrap()).unwrap();
            let frame = plain.execute_logical_plan(plan).await.unwrap();
            let all = Answer { schema: frame.schema().as_arrow().clone().into(), batches: frame.collect().await.unwrap() };
            contained(&all, &actual).map_err(|e| e.to_string())?;
        }
    }
    Ok(Checked { rows: expected.rows(), divided })
}

/// Checks every query of a suite, of which those in `empty` have no rows and at least `divided` stages have three tasks.
async fn check_suite(suite: Suite, empty: &[usize], divided: usize) {
    let folder = data::parquet(suite, &scale()).await;
    let plain = data::plain(suite, &folder).await;
    let ours = data::ours(suite, &folder, SETTINGS).await;
    let mut wrong = vec![];
    let mut without_rows = BTreeSet::new();
    let mut found = 0;
    for number in 1..=data::queries(suite) {
        match check(&plain, &ours, &data::query(suite, number)).await {
            Ok(checked) => {
                found += checked.divided;
                if checked.rows == 0 {
                    without_rows.insert(number);
                }
            }
            Err(why) => wrong.push(format!("q{number:02}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), data::queries(suite), wrong.join("\n"));
    assert!(found >= divided, "{found} stages have 3 tasks and 4 partitions, less than {divided}");
    if scale() == "sf0_1" {
        assert_eq!(without_rows, empty.iter().copied().collect(), "queries whose answer is empty at this scale");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tpch_answers_are_those_of_plain_datafusion() {
    check_suite(Suite::TpcH, &[], 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tpcds_answers_are_those_of_plain_datafusion() {
    check_suite(Suite::TpcDs, &[8, 23, 24, 25, 37, 41, 44, 54, 64, 65, 82, 84, 85, 91], 300).await;
}
