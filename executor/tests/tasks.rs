//! Tasks from plan to sealed output, without a scheduler.

use std::fs;
use std::path::Path;

use datafusion::prelude::SessionContext;
use volley_proto::{JobId, Remedy, TaskOutcome};

use super::support::{CUT, Runner, rows, session, write_table};

const GIB: usize = 1 << 30;

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

/// Runs `sql` cut into stages and tasks, and whole in plain DataFusion.
fn both(runner: &Runner, job: u64, sql: &str, tables: &[(&str, &Path)]) -> (Vec<String>, Vec<String>) {
    let volley = runner.query(JobId(job), sql, CUT, tables).unwrap();
    let plain = runner.wait(async {
        let context = session(&[], tables).await;
        rows(&context.sql(sql).await.unwrap().collect().await.unwrap())
    });
    (volley, plain)
}

#[test]
fn cut_queries_answer_as_plain_ones_do_and_leave_nothing() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 4, 40_000);
    let tables = [("t", table.as_path())];
    let queries = [
        "SELECT count(*), sum(key), min(text) FROM t",
        "SELECT grp, count(*), max(text) FROM t GROUP BY grp",
        "SELECT a.grp, count(*) FROM t a JOIN t b ON a.key = b.key * 2 WHERE b.grp < 50 GROUP BY a.grp",
        "SELECT key, text FROM t ORDER BY text DESC LIMIT 20",
        "SELECT grp FROM t WHERE key < 0",
    ];
    for (job, sql) in queries.iter().enumerate() {
        let (volley, plain) = both(&runner, job as u64, sql, &tables);
        assert_eq!(volley, plain, "{sql}");
        runner.runner.forget_job(JobId(job as u64));
    }
    runner.wait(runner.runner.settled());
    assert!(runner.exchange.held().is_empty());
    runner.freed();
    assert_eq!(files_below(&runner.dir.path().join("spill")), Vec::<String>::new());
    assert_eq!(files_below(&runner.dir.path().join("exchange")), Vec::<String>::new());
}

#[test]
fn metrics_name_operators_in_pre_order_and_count_rows() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 10_000);
    let (state, graph) = runner.plan("SELECT grp, count(*) FROM t GROUP BY grp", CUT, &[("t", &table)]);
    let metrics = runner.run(JobId(1), &state, &graph).unwrap();
    assert!(metrics.len() >= 3, "several tasks in several stages: {}", metrics.len());
    let of = |stage: u32, name: &str, root: bool| -> u64 {
        let of_stage = metrics.iter().filter(|(id, _)| id.task.stage.0 == stage).map(|(_, metrics)| metrics);
        let operators = of_stage.filter_map(|metrics| if root { metrics.operators.first() } else { metrics.operators.last() });
        operators.flat_map(|operator| &operator.values).filter(|(metric, _)| metric == name).map(|(_, value)| value).sum()
    };
    assert_eq!(of(0, "output_rows", false), 10_000, "the scan is the last operator of the first stage");
    let root = graph.root().0;
    assert_eq!(of(root, "output_rows", true), 97, "the exchange writer is the first operator of the last stage");
    for (id, task) in &metrics {
        assert!(task.cpu_ns > 0 && task.elapsed_ns > 0, "{id}");
        assert_eq!(task.operators.first().map(|operator| operator.index), Some(0), "{id}");
    }
}

#[test]
fn errors_of_the_data_fail_the_query_with_their_words() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 1000);
    let tables = [("t", table.as_path())];
    for (job, sql, words) in [
        (1, "SELECT key / (grp - 5) FROM t", "ivide by zero"),
        (2, "SELECT sum(CAST(text AS bigint)) FROM t", "text"),
        (3, "SELECT sum(arrow_cast(key * 1000, 'Int8')) FROM t", "Int8"),
    ] {
        let failure = runner.query(JobId(job), sql, CUT, &tables).unwrap_err();
        assert_eq!(failure.remedy, Remedy::Query, "{sql}: {failure}");
        assert!(failure.message.contains(words), "{sql}: {failure}");
        // Other tasks of the stage may still be at it.
        runner.runner.forget_job(JobId(job));
    }
    runner.wait(runner.runner.settled());
    runner.freed();
}

#[test]
fn a_file_that_is_gone_or_corrupt_is_named() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 20_000);
    let (state, graph) = runner.plan("SELECT sum(length(text)) FROM t", CUT, &[("t", &table)]);
    let victim = table.join("1.parquet");
    let bytes = fs::read(&victim).unwrap();

    let mut corrupt = bytes.clone();
    let end = corrupt.len() - 4096.min(corrupt.len() / 2);
    corrupt[4..end].fill(0xff);
    fs::write(&victim, &corrupt).unwrap();
    let failure = runner.run(JobId(1), &state, &graph).unwrap_err();
    assert_eq!(failure.remedy, Remedy::Query, "{failure}");
    assert!(failure.message.contains("1.parquet"), "{failure}");
    runner.runner.forget_job(JobId(1));
    runner.wait(runner.runner.settled());

    fs::remove_file(&victim).unwrap();
    let failure = runner.run(JobId(2), &state, &graph).unwrap_err();
    assert_eq!(failure.remedy, Remedy::Query, "{failure}");
    assert!(failure.message.contains("1.parquet"), "{failure}");
}

#[test]
fn a_file_that_was_written_again_with_as_many_bytes_is_named() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 20_000);
    let (state, graph) = runner.plan("SELECT sum(length(text)) FROM t", CUT, &[("t", &table)]);
    let victim = fs::File::options().append(true).open(table.join("1.parquet")).unwrap();
    let later = victim.metadata().unwrap().modified().unwrap() + std::time::Duration::from_secs(5);
    victim.set_modified(later).unwrap();

    // Each task asks about the files of its own slice only.
    let stage = &graph.stages[0];
    runner.keep(JobId(1), &state, stage, false);
    for index in 0..stage.tasks.len() {
        runner.runner.launch(runner.spec(JobId(1), &graph, stage, index as u32)).unwrap();
    }
    let ends: Vec<_> = stage.tasks.iter().map(|_| runner.end()).collect();
    let failures = ends.iter().filter_map(|report| match &report.outcome {
        TaskOutcome::Failed(failure) => Some(failure),
        _ => None,
    });
    let failures: Vec<_> = failures.collect();
    assert!(!failures.is_empty() && failures.len() < ends.len(), "{ends:?}");
    for failure in failures {
        assert_eq!(failure.remedy, Remedy::Query, "{failure}");
        let words = ["1.parquet changed while the query ran: it was written at ", "; run the query again"];
        assert!(words.iter().all(|words| failure.message.contains(words)), "{failure}");
    }
}

#[test]
fn row_groups_are_pruned_by_the_join_of_the_same_task() {
    let runner = Runner::new(2, GIB);
    let (t, d) = (runner.dir.path().join("t"), runner.dir.path().join("d"));
    for (place, rows, last) in [(&t, "value AS key", 49_999), (&d, "value + 7000 AS key", 2)] {
        fs::create_dir(place).unwrap();
        let sql = format!(
            "COPY (SELECT {rows} FROM generate_series(0, {last})) TO '{}' OPTIONS ('format.max_row_group_size' '1000')",
            place.join("0.parquet").display()
        );
        runner.wait(async { SessionContext::new().sql(&sql).await.unwrap().collect().await.unwrap() });
    }
    let tables = [("t", t.as_path()), ("d", d.as_path())];
    let (state, graph) = runner.plan("SELECT count(*) FROM t JOIN d ON t.key = d.key", CUT, &tables);
    let metrics = runner.run(JobId(1), &state, &graph).unwrap();
    assert_eq!(runner.result(JobId(1), &graph, 0), ["| 3        |"]);
    let values = metrics.values().flat_map(|task| &task.operators).flat_map(|operator| &operator.values);
    let pruned = |name: &str| ["row_groups_pruned_statistics_pruned", "row_groups_pruned_dynamic_filter"].contains(&name);
    let pruned: u64 = values.filter(|(name, _)| pruned(name)).map(|(_, value)| value).sum();
    assert!(pruned >= 45, "{pruned} of 50 row groups are pruned: the scan has another filter than the join fills");
}

#[test]
fn a_second_attempt_gives_the_same_rows() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 4, 20_000);
    let tables = [("t", table.as_path())];
    let sql = "SELECT a.key, b.text FROM t a JOIN t b ON a.key = b.key * 2 ORDER BY a.key DESC LIMIT 50";
    let whole = [("volley.fit", "always"), ("datafusion.execution.target_partitions", "4")];
    let (state, graph) = runner.plan(sql, &whole, &tables);
    let [stage] = graph.stages.as_slice() else { panic!("the plan is whole") };
    let plan = datafusion::physical_plan::displayable(stage.plan.as_ref()).indent(false).to_string();
    assert!(plan.contains("HashJoinExec") && plan.contains("TopK"), "{plan}");
    runner.keep(JobId(1), &state, stage, true);
    // Together: what operators share belongs to an attempt, not to the plan that both were decoded from.
    for attempt in 0..2 {
        let mut spec = runner.spec(JobId(1), &graph, stage, 0);
        spec.attempt = spec.attempt.task.attempt(attempt);
        runner.runner.launch(spec).unwrap();
    }
    for _ in 0..2 {
        let report = runner.end();
        assert!(matches!(report.outcome, TaskOutcome::Sealed { .. }), "{report:?}");
    }
    let rows = runner.result(JobId(1), &graph, 0);
    assert_eq!(rows.len(), 50);
    assert_eq!(rows, runner.result(JobId(1), &graph, 1));
}

#[test]
fn a_file_that_changes_while_a_task_reads_is_named() {
    let runner = Runner::new(1, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 1, 1000);
    let sql = "SELECT count(*) FROM t JOIN generate_series(1, 3000000) AS s(value) ON t.key + s.value % 7 <> 5";
    let (state, graph) = runner.plan(sql, &[("volley.fit", "always")], &[("t", &table)]);
    let stage = graph.stages.last().unwrap();
    runner.keep(JobId(1), &state, stage, true);
    runner.runner.launch(runner.spec(JobId(1), &graph, stage, 0)).unwrap();
    // The first report of progress comes after the first look at the files.
    assert!(matches!(runner.report().outcome, TaskOutcome::Running { .. }));
    let file = table.join("0.parquet");
    fs::write(&file, fs::read(&file).unwrap()).unwrap();
    let TaskOutcome::Failed(failure) = runner.end().outcome else { panic!("an answer over two versions of a file") };
    assert_eq!(failure.remedy, Remedy::Query, "{failure}");
    assert!(failure.message.contains("0.parquet changed while the query ran"), "{failure}");
}

#[test]
fn a_query_larger_than_memory_spills_and_one_that_can_not_says_who_has_it() {
    let runner = Runner::new(2, 48 << 20);
    let table = write_table(&runner.io, runner.dir.path(), "t", 4, 1_000_000);
    let tables = [("t", table.as_path())];
    assert_eq!(
        runner.query(JobId(1), "SELECT count(*) FROM (SELECT text, count(*) FROM t GROUP BY text)", CUT, &tables).unwrap(),
        ["| 1000000  |"]
    );
    runner.runner.forget_job(JobId(1));
    let (state, graph) = runner.plan("SELECT text, key FROM t ORDER BY text", &[CUT, &[("volley.max_partitions", "1")]].concat(), &tables);
    let metrics = runner.run(JobId(2), &state, &graph).unwrap();
    let spilled: u64 = metrics
        .values()
        .flat_map(|task| &task.operators)
        .flat_map(|operator| &operator.values)
        .filter(|(name, _)| name == "spilled_bytes")
        .map(|(_, value)| value)
        .sum();
    let outputs: u64 = metrics.values().map(|task| task.spilled_bytes).sum();
    assert!(spilled + outputs > 0, "something went to disk");
    runner.runner.forget_job(JobId(2));
    runner.wait(runner.runner.settled());
    runner.freed();
}

#[test]
fn a_job_over_its_cap_fails_for_resources_and_names_its_consumers() {
    let runner = Runner::new(2, GIB);
    let table = write_table(&runner.io, runner.dir.path(), "t", 2, 400_000);
    let mut options = CUT.to_vec();
    options.push(("volley.memory_bytes", "1000000"));
    let sql = "SELECT count(*) FROM t a JOIN t b ON a.text = b.text";
    let failure = runner.query(JobId(1), sql, &options, &[("t", &table)]).unwrap_err();
    assert_eq!(failure.remedy, Remedy::Resources, "{failure}");
    assert!(failure.message.contains("job's cap") && failure.message.contains("in use:"), "{failure}");
}

#[test]
fn a_cancelled_attempt_reports_once_and_frees_everything() {
    let runner = Runner::new(1, GIB);
    let sql = "SELECT count(*) FROM generate_series(1, 100000000) a WHERE value % 7 = 3";
    let (state, graph) = runner.plan(sql, &[("volley.fit", "always")], &[]);
    let stage = graph.stages.last().unwrap();
    runner.keep(JobId(1), &state, stage, true);
    let spec = runner.spec(JobId(1), &graph, stage, 0);
    runner.runner.launch(spec.clone()).unwrap();
    runner.runner.launch(spec.clone()).unwrap();
    assert_eq!((runner.runner.running(), runner.runner.busy_slots()), (vec![spec.attempt], 1));
    assert!(runner.runner.cancel(spec.attempt));
    let report = runner.end();
    assert_eq!((report.attempt, report.outcome), (spec.attempt, TaskOutcome::Cancelled));
    runner.wait(runner.runner.settled());
    assert!(!runner.runner.cancel(spec.attempt));
    assert_eq!((runner.runner.busy_slots(), runner.budget.used()), (0, 0));
}

#[test]
fn a_launch_without_its_plan_or_while_draining_is_refused_to_be_tried_elsewhere() {
    let runner = Runner::new(1, GIB);
    let (state, graph) = runner.plan("SELECT 1", &[("volley.fit", "always")], &[]);
    let stage = graph.stages.last().unwrap();
    let spec = runner.spec(JobId(1), &graph, stage, 0);
    let refusal = runner.runner.launch(spec.clone()).unwrap_err();
    assert_eq!(refusal.remedy, Remedy::Retry);
    assert!(refusal.message.contains("j1/s0/t0/a0") && refusal.message.contains("plan"), "{refusal}");

    runner.keep(JobId(1), &state, stage, true);
    let mut newer = spec.clone();
    newer.plan_version = 1;
    assert!(runner.runner.launch(newer).unwrap_err().message.contains("version 1"));

    runner.runner.drain();
    assert!(runner.runner.launch(spec).unwrap_err().message.contains("leaving"));
}
