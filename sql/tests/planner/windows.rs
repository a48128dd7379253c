//! Windows over all rows of large tables are computed in ranges, and give what plain DataFusion gives.

use datafusion::physical_plan::displayable;

use super::{CUT, RANGES, Tables, cut_rows, graph, plain_rows};

/// Whether a plan has the columns that divided windows have: of ranges, and of what is over other rows.
async fn divided(session: &datafusion::prelude::SessionContext, sql: &str) -> (bool, bool) {
    let graph = graph(session, sql).await;
    let plans: Vec<_> = graph.stages.iter().map(|stage| displayable(stage.plan.as_ref()).indent(false).to_string()).collect();
    let plans = plans.join("\n");
    (plans.contains("__volley_range"), plans.contains("__volley_total"))
}

#[tokio::test]
async fn values_in_ranges_are_those_of_all_rows() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, row_number() OVER (ORDER BY n) AS x FROM r",
        "SELECT n, row_number() OVER (ORDER BY n DESC) AS x FROM r WHERE k > 7",
        "SELECT n, k, rank() OVER (ORDER BY k) AS x, count(*) OVER (ORDER BY k) AS c FROM r",
        "SELECT n, k, rank() OVER (ORDER BY k DESC NULLS LAST) AS x, count(k) OVER (ORDER BY k DESC NULLS LAST) AS c FROM r",
        "SELECT n, k, rank() OVER (ORDER BY k NULLS FIRST, s) AS x FROM r",
        "SELECT n, sum(k) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS x FROM r",
        "SELECT n, sum(CASE WHEN n > 3500 THEN k END) OVER (ORDER BY n) AS x FROM r",
        "SELECT n, sum(CAST(n AS DECIMAL(9, 2))) OVER (ORDER BY n RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x FROM r",
        "SELECT n, min(k) OVER (ORDER BY n DESC) AS least, max(k) OVER (ORDER BY n DESC) AS most FROM r",
        "SELECT s, n, count(k) OVER (ORDER BY s, n) AS x, sum(n) OVER (ORDER BY s, n) AS y FROM r",
        "SELECT x, n FROM (SELECT r.*, row_number() OVER (ORDER BY n) AS x FROM r) AS q WHERE x % 1000 = 0",
        "SELECT n, row_number() OVER (ORDER BY n) AS x, sum(k) OVER (ORDER BY k, n) AS y, count(*) OVER () AS z FROM r",
        "SELECT n, sum(k) FILTER (WHERE n % 2 = 0) OVER (ORDER BY n) AS x FROM r",
    ] {
        assert_eq!(divided(&ours, sql).await, (true, true), "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn what_is_over_all_rows_is_computed_once() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, n * 100 / sum(n) OVER () AS x, max(s) OVER () AS y, count(DISTINCT k) OVER () AS z FROM r",
        "SELECT n, k - avg(k) OVER () AS x FROM r WHERE k IS NOT NULL",
        "SELECT n, sum(n) OVER () AS x FROM r WHERE n < 0",
    ] {
        assert_eq!(divided(&ours, sql).await, (false, true), "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn other_windows_are_computed_in_one_task() {
    let tables = Tables::unordered().await;
    let plain = tables.plain().await;
    for (options, sql) in [
        (CUT, "SELECT n, row_number() OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, lag(k) OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, sum(k) OVER (ORDER BY n ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS x FROM r"),
        (RANGES, "SELECT n, count(*) OVER (ORDER BY n RANGE BETWEEN UNBOUNDED PRECEDING AND 5 FOLLOWING) AS x FROM r"),
        (RANGES, "SELECT n, ntile(7) OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, dense_rank() OVER (ORDER BY k) AS x FROM r"),
        (RANGES, "SELECT n, row_number() OVER (ORDER BY n % 4001) AS x FROM r"),
        (RANGES, "SELECT n, sum(n) OVER (ORDER BY n) AS x FROM (SELECT * FROM r ORDER BY n LIMIT 100) AS first"),
        (RANGES, "SELECT r.n, row_number() OVER (ORDER BY r.n) AS x FROM r JOIN d ON r.k = d.k"),
        (RANGES, "SELECT n, row_number() OVER (PARTITION BY s ORDER BY n) AS x FROM r"),
    ] {
        let ours = tables.ours(options).await;
        assert_eq!(divided(&ours, sql).await, (false, false), "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}
