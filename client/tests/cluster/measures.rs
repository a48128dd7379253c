//! EXPLAIN ANALYZE with what a real cluster measured.

use std::num::NonZeroUsize;

use datafusion::arrow::util::pretty::pretty_format_batches;
use serde_json::Value;
use volley_client::EmbeddedOptions;

use super::{MIB, cluster, cluster_of, explained, run};

const GROUPED: &str = "SELECT l_orderkey, sum(l_quantity) AS q FROM tpch.sf0_01.lineitem GROUP BY l_orderkey";

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// The figure after `name=` in a line of text.
fn figure<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{name} in {line}"));
    rest.split([',', ']']).next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_has_every_figure_of_stages_and_operators() {
    let (cluster, client) = cluster(2, 1).await;
    let text = explained(&client, &format!("EXPLAIN ANALYZE {GROUPED}")).await;
    assert!(text.starts_with("job j") && text.contains("of which planning"), "{text}");
    let stages: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("[rows=")).collect();
    assert!(stages.len() >= 2, "{text}");
    for stage in &stages {
        assert!(figure(stage, "rows").parse::<u64>().unwrap() > 0, "{stage}");
        assert!(figure(stage, "bytes").parse::<u64>().unwrap() > 0, "{stage}");
        assert!(figure(stage, "cpu").ends_with('s') && figure(stage, "waiting").ends_with('s'), "{stage}");
        assert_eq!((figure(stage, "spilled by operators"), figure(stage, "by exchange")), ("0", "0"), "{stage}");
        let (tasks, attempts) = (figure(stage, "tasks"), figure(stage, "attempts"));
        assert!(tasks.parse::<u64>().unwrap() > 0 && tasks == attempts, "{stage}");
    }
    let operators = text.lines().filter(|line| line.contains("output_rows=")).count();
    assert!(operators > stages.len(), "each stage has operators with rows: {text}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_job_and_metrics_in_each_operator() {
    let (cluster, client) = cluster(2, 1).await;
    let json: Value = serde_json::from_str(&explained(&client, &format!("EXPLAIN (ANALYZE, FORMAT JSON) {GROUPED}")).await).unwrap();
    assert!(json["job"].as_str().unwrap().starts_with('j'));
    assert!(number(&json, "elapsed_ns") > number(&json, "planning_ns") && number(&json, "planning_ns") > 0, "{json}");
    let stages = json["stages"].as_array().unwrap();
    assert!(stages.len() >= 2, "{json}");
    for stage in stages {
        let measured = &stage["measured"];
        for name in ["rows", "bytes", "cpu_ns", "elapsed_ns", "tasks", "attempts"] {
            assert!(number(measured, name) > 0, "{name}: {stage}");
        }
        for name in ["waiting_ns", "operators_spilled_bytes", "exchange_spilled_bytes", "exchange_local_bytes", "exchange_flight_bytes"] {
            number(measured, name);
        }
        assert_eq!(number(measured, "tasks"), number(stage, "tasks"));
        // Each task has one slot here.
        assert_eq!(number(measured, "waiting_ns"), number(measured, "elapsed_ns").saturating_sub(number(measured, "cpu_ns")));
        let operators = stage["operators"].as_array().unwrap();
        assert!(operators.iter().any(|operator| operator["metrics"]["output_rows"].as_u64().is_some_and(|rows| rows > 0)), "{stage}");
        assert!(operators.iter().any(|operator| operator["metrics"]["elapsed_compute"].as_u64().is_some()), "{stage}");
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adapted_is_told_with_its_reason() {
    let (cluster, client) = cluster(2, 1).await;
    run(&client, "SET volley.adapt = true").await.unwrap();
    let sql = "SELECT count(*) AS n FROM (SELECT l_returnflag, count(*) FROM tpch.sf0_01.lineitem GROUP BY l_returnflag)";
    let text = explained(&client, &format!("EXPLAIN ANALYZE {sql}")).await;
    assert!(text.contains("\n  adapted: 1 partition in 1 task instead of 2 partitions in 2 tasks: "), "{text}");
    let (rows, job) = run(&client, sql).await.unwrap();
    assert_eq!(datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(rows[0].column(0)).value(0), 3);
    let job = job.unwrap();
    let adapted: Vec<_> = job.stages.iter().filter(|stage| !stage.adapted.is_empty()).collect();
    assert_eq!(adapted.iter().map(|stage| (stage.tasks, stage.tasks_done, stage.attempts)).collect::<Vec<_>>(), [(1, 1, 1)], "{job:?}");
    run(&client, "SET volley.adapt = false").await.unwrap();
    let (_, job) = run(&client, sql).await.unwrap();
    assert!(job.unwrap().stages.iter().all(|stage| stage.adapted.is_empty() && stage.tasks_done == stage.tasks));
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_most_of_the_rows_is_joined_by_several_tasks() {
    let (cluster, client) = cluster(2, 1).await;
    for setting in ["volley.adapt = true", "volley.broadcast_bytes = 0", "volley.min_bytes_per_partition = '10kB'"] {
        run(&client, &format!("SET {setting}")).await.unwrap();
    }
    let sql = "SELECT o.o_orderpriority, count(*) AS n, sum(l.quantity) AS q \
               FROM (SELECT CASE WHEN l_orderkey % 20 < 19 THEN 1 ELSE l_orderkey END AS k, l_quantity AS quantity FROM tpch.sf0_01.lineitem) l \
               JOIN tpch.sf0_01.orders o ON l.k = o.o_orderkey GROUP BY o.o_orderpriority ORDER BY n";
    let text = explained(&client, &format!("EXPLAIN ANALYZE {sql}")).await;
    assert!(text.contains(" is read in 2 parts: "), "{text}");
    let (split, _) = run(&client, sql).await.unwrap();
    run(&client, "SET volley.adapt = false").await.unwrap();
    let (whole, _) = run(&client, sql).await.unwrap();
    assert_eq!(pretty_format_batches(&split).unwrap().to_string(), pretty_format_batches(&whole).unwrap().to_string());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_explanation_has_stages_and_no_figures() {
    let (cluster, client) = cluster(1, 1).await;
    let json: Value = serde_json::from_str(&explained(&client, &format!("EXPLAIN (FORMAT JSON) {GROUPED}")).await).unwrap();
    assert!(json.get("job").is_none() && json["stages"][0].get("measured").is_none(), "{json}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_several_slots_waits_for_what_they_did_not_compute() {
    let (cluster, client) = cluster(1, 2).await;
    run(&client, "SET volley.fit = 'always'").await.unwrap();
    let sql = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM tpch.sf0_1.lineitem";
    let json: Value = serde_json::from_str(&explained(&client, sql).await).unwrap();
    let measured = &json["stages"][0]["measured"];
    let (elapsed, cpu, waiting) = (number(measured, "elapsed_ns"), number(measured, "cpu_ns"), number(measured, "waiting_ns"));
    assert_eq!(waiting, (2 * elapsed).saturating_sub(cpu), "{measured}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_spill_is_shown_and_reported() {
    let (one, sixteen) = (NonZeroUsize::new(1), Some(24 * MIB));
    let (cluster, client) = cluster_of(EmbeddedOptions { executors: one, slots: one, memory_bytes: sixteen, ..Default::default() }).await;
    run(&client, "SET volley.max_partitions = 1").await.unwrap();
    let sql = "SELECT l_orderkey, l_comment FROM tpch.sf0_1.lineitem ORDER BY l_comment, l_orderkey";
    let json: Value = serde_json::from_str(&explained(&client, &format!("EXPLAIN (ANALYZE, FORMAT JSON) {sql}")).await).unwrap();
    let spilled = |name: &str| json["stages"].as_array().unwrap().iter().map(|stage| number(&stage["measured"], name)).sum::<u64>();
    assert!(spilled("operators_spilled_bytes") > 0, "{json}");
    let (_, job) = run(&client, sql).await.unwrap();
    let job = job.unwrap();
    let by_operators: u64 =
        job.stages.iter().flat_map(|stage| &stage.operators).filter_map(|operator| operator.metrics.get("spilled_bytes")).sum();
    assert!(by_operators > 0 && job.spilled_bytes() >= by_operators, "the job's figure has the operators' spills: {job:?}");
    cluster.shutdown().await.unwrap();
}
