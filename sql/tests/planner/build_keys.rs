//! Scans leave out what has no match on a build side that another stage makes.

use volley_sql::exchange::run_and_count;

use super::{CUT, PARTITIONED, Tables, cut_rows, graph, plain_rows, sorted};

/// A filter is tried on some batches first.
const SMALL_BATCHES: (&str, &str) = ("datafusion.execution.batch_size", "128");
const OFF: (&str, &str) = ("volley.build_keys", "false");

/// Most rows of `t` are left out; only the first tells it from what files know of their columns.
const FEW: &[&str] = &[
    "SELECT t.s, d.name FROM t JOIN d ON t.n = d.k WHERE d.name < 'name 3'",
    "SELECT t.n, d.name FROM t JOIN d ON t.k = d.k WHERE d.name = 'name 4'",
    "SELECT t.n FROM t WHERE t.k IN (SELECT k FROM d WHERE name = 'name 4')",
    "SELECT count(*), sum(t.n) FROM t JOIN d ON t.k = d.k AND t.n = d.k WHERE d.name > 'name 2'",
    "SELECT t.n, d.name FROM d JOIN t ON t.s = concat('s', d.k) WHERE d.name = 'name 4'",
    "SELECT t.n, d.name FROM (SELECT concat('s', k) AS s, name FROM d WHERE name = 'name 4') d JOIN t ON t.s = d.s",
    "SELECT t.n, d.name FROM t JOIN d ON t.k = d.k WHERE d.name = 'nobody'",
    "SELECT t.n, p.k, d.name FROM t JOIN p ON t.k = p.k JOIN d ON d.k = t.n WHERE d.name < 'name 5' AND p.k < 12",
    "SELECT c.rows, u.k FROM (SELECT DISTINCT k FROM d WHERE name < 'name 5') u JOIN (SELECT n, count(*) AS rows FROM t GROUP BY n) c ON c.n = u.k",
];

/// No filter may be used, or every row has a match.
const ALL: &[&str] = &[
    "SELECT t.n, d.name FROM t LEFT JOIN d ON t.k = d.k AND d.name = 'name 4'",
    "SELECT t.n FROM t WHERE t.k NOT IN (SELECT k FROM d WHERE name = 'name 4')",
    "SELECT t.n FROM t WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.k = t.k AND name = 'name 4')",
    "SELECT t.n, d.name FROM t FULL JOIN (SELECT * FROM d WHERE name < 'name 4') d ON t.k = d.k",
    "SELECT t.n, d.name FROM t JOIN d ON t.k IS NOT DISTINCT FROM d.k WHERE d.name < 'name 4'",
    "SELECT t.n, d.name FROM t JOIN d ON CAST(t.k AS DOUBLE) = CAST(d.k AS DOUBLE) WHERE d.name < 'name 4'",
];

#[tokio::test]
async fn answers_stay_the_same() {
    let tables = Tables::usual().await;
    let plain = tables.plain().await;
    for options in [CUT, PARTITIONED] {
        let session = tables.ours(&[options, &[SMALL_BATCHES]].concat()).await;
        for sql in FEW.iter().chain(ALL) {
            assert_eq!(cut_rows(&session, sql).await, plain_rows(&plain, sql).await, "{sql}");
        }
    }
}

/// The rows that the stage with the scan of `t` writes: the largest output.
async fn scanned(tables: &Tables, options: &[(&str, &str)], sql: &str) -> usize {
    let session = tables.ours(options).await;
    let graph = graph(&session, sql).await;
    let (rows, written) = run_and_count(&session.state(), &graph).await.unwrap();
    assert_eq!(sorted(&rows), plain_rows(&tables.plain().await, sql).await, "{sql}");
    written.into_iter().max().unwrap_or_default()
}

#[tokio::test]
async fn rows_without_a_match_are_not_sent() {
    let tables = Tables::usual().await;
    let (on, off) = ([PARTITIONED, &[SMALL_BATCHES]].concat(), [PARTITIONED, &[SMALL_BATCHES, OFF]].concat());
    // Three of four files are not read; nothing matches, which is told by three tasks in a row each. Whether it pays to look at each row is
    // measured, and so is different from run to run.
    for (sql, most) in [(FEW[0], 1003), (FEW[6], 3)] {
        let (with, without) = (scanned(&tables, &on, sql).await, scanned(&tables, &off, sql).await);
        assert!(with <= most, "{sql}: {with} rows");
        assert!(without >= 3900, "{sql}: {without} rows without");
    }
}

#[tokio::test]
async fn a_build_side_that_leaves_nothing_out_is_not_waited_for() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    for (sql, inputs) in [(FEW[1], 1), ("SELECT t.n, d.name FROM t JOIN d ON t.k = d.k", 0), (ALL[0], 0), (ALL[5], 0)] {
        let graph = graph(&session, sql).await;
        let scans = graph.stages.iter().filter(|stage| stage.plan.name() == "ExchangeWriteExec" && stage.shape.id.0 < 2);
        assert_eq!(scans.map(|stage| stage.shape.inputs.len()).sum::<usize>(), inputs, "{sql}");
    }
}
