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

/// What goes on from range to range: counts, distinct ones, and shares of all rows.
#[tokio::test]
async fn ranks_and_shares_are_those_of_all_rows() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, k, dense_rank() OVER (ORDER BY k) AS x, rank() OVER (ORDER BY k) AS y FROM r",
        "SELECT n, dense_rank() OVER (ORDER BY k DESC NULLS LAST, s) AS x, dense_rank() OVER (ORDER BY n) AS y FROM r",
        "SELECT n, k, percent_rank() OVER (ORDER BY k) AS x, cume_dist() OVER (ORDER BY k) AS y FROM r",
        "SELECT n, percent_rank() OVER (ORDER BY n) AS x, cume_dist() OVER (ORDER BY n) AS y FROM r WHERE n = 5 OR n = -1",
        "SELECT n, ntile(7) OVER (ORDER BY n) AS x, ntile(1) OVER (ORDER BY n) AS y, ntile(4000) OVER (ORDER BY n) AS z FROM r",
        "SELECT n, ntile(100000) OVER (ORDER BY n DESC) AS x FROM r WHERE n % 100 = 0",
        "SELECT n, avg(n) OVER (ORDER BY n) AS x, avg(CASE WHEN n > 1000 THEN k END) OVER (ORDER BY n) AS y FROM r",
        "SELECT n, min(s) OVER (ORDER BY n) AS least, max(CAST(n AS DECIMAL(9, 2))) OVER (ORDER BY n) AS most FROM r",
    ] {
        assert_eq!(divided(&ours, sql).await, (true, true), "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn frames_of_rows_see_the_rows_of_other_ranges() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, lag(k) OVER (ORDER BY n) AS x, lead(k, 3, -1) OVER (ORDER BY n) AS y FROM r",
        "SELECT n, lag(s, 700, 'none') OVER (ORDER BY n DESC) AS x, lead(n, -2) OVER (ORDER BY n DESC) AS y FROM r",
        "SELECT n, lag(k, 2) OVER (ORDER BY k NULLS FIRST, n) AS x FROM r",
        "SELECT n, lag(n + k) OVER (ORDER BY k DESC NULLS LAST, n) AS x FROM r",
        "SELECT n, sum(k) OVER (ORDER BY n ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS x FROM r",
        "SELECT n, avg(k) OVER (ORDER BY n ROWS BETWEEN 3 PRECEDING AND 3 FOLLOWING) AS x, min(k) OVER (ORDER BY n ROWS 9 PRECEDING) AS y FROM r",
        "SELECT n, count(k) OVER (ORDER BY n ROWS BETWEEN 9 PRECEDING AND 5 PRECEDING) AS x FROM r",
        "SELECT n, max(s) OVER (ORDER BY n ROWS BETWEEN 2 FOLLOWING AND 8 FOLLOWING) AS x FROM r",
        "SELECT n, first_value(k) OVER (ORDER BY n ROWS 4 PRECEDING) AS x, nth_value(k, 2) OVER (ORDER BY n ROWS 4 PRECEDING) AS y FROM r",
        "SELECT n, first_value(k) OVER (ORDER BY n) AS x, nth_value(n, 30) OVER (ORDER BY n) AS y FROM r",
        "SELECT n, last_value(k) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS x FROM r",
        "SELECT n, first_value(s) OVER (ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS x FROM r",
        "SELECT n, last_value(n) OVER (ORDER BY n) AS x FROM r",
        "SELECT n, lag(n) OVER (ORDER BY n) AS x, row_number() OVER (ORDER BY n) AS y, sum(k) OVER (ORDER BY n ROWS 2 PRECEDING) AS z FROM r",
        "SELECT count(*) AS x FROM (SELECT n, lag(n) OVER (ORDER BY n) AS before FROM r) AS q WHERE n < before",
        "SELECT n, lag(n) OVER (ORDER BY n) AS x FROM r WHERE n < 0",
    ] {
        assert!(divided(&ours, sql).await.0, "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn frames_of_a_distance_see_the_rows_of_other_ranges() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, count(*) OVER (ORDER BY n RANGE BETWEEN 20 PRECEDING AND CURRENT ROW) AS x FROM r",
        "SELECT n, sum(n) OVER (ORDER BY n RANGE BETWEEN 2000 PRECEDING AND 3 FOLLOWING) AS x FROM r",
        "SELECT n, sum(k) OVER (ORDER BY n DESC RANGE BETWEEN 5 PRECEDING AND 2 PRECEDING) AS x FROM r",
        "SELECT n, min(n) OVER (ORDER BY n DESC RANGE BETWEEN 1 FOLLOWING AND 90 FOLLOWING) AS x FROM r",
        "SELECT n, k, count(*) OVER (ORDER BY k NULLS FIRST RANGE BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS x FROM r",
        "SELECT n, lag(n) OVER (ORDER BY n) AS x, sum(n) OVER (ORDER BY n RANGE 3 PRECEDING) AS y, ntile(3) OVER (ORDER BY n) AS z FROM r",
    ] {
        assert!(divided(&ours, sql).await.0, "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

/// Which of the rows that tie comes first is chance; but it is the same one for all functions, and in a range and those beside it.
#[tokio::test]
async fn rows_that_tie_have_one_order() {
    let tables = Tables::unordered().await;
    let ours = tables.ours(RANGES).await;
    for (sql, wanted) in [
        // Each row but the first stands after exactly one other.
        (
            "SELECT count(before) AS a, count(DISTINCT before) AS b FROM (SELECT lag(n) OVER (ORDER BY k) AS before FROM r) AS q",
            "3999 | 3999",
        ),
        (
            "SELECT count(*) AS a FROM (SELECT before, lag(n) OVER (ORDER BY x) AS first FROM ( \
             SELECT n, row_number() OVER (ORDER BY s) AS x, lag(n) OVER (ORDER BY s) AS before FROM r) AS q) AS p \
             WHERE before IS DISTINCT FROM first",
            "0",
        ),
    ] {
        assert!(divided(&ours, sql).await.0, "{sql}");
        let rows = cut_rows(&ours, sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        let values: Vec<_> = rows[0].trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(values.join(" | "), wanted, "{sql}");
    }
}

#[tokio::test]
async fn windows_over_joins_are_divided_where_the_session_asks() {
    let tables = Tables::unordered().await;
    let plain = tables.plain().await;
    let sql = "SELECT r.n, row_number() OVER (ORDER BY r.n) AS x, lag(name) OVER (ORDER BY r.n) AS y FROM r JOIN d ON r.k = d.k";
    let asked = [RANGES, &[("volley.repeat_joins", "true")]].concat();
    for (options, is_divided) in [(RANGES, false), (asked.as_slice(), true)] {
        let ours = tables.ours(options).await;
        assert_eq!(divided(&ours, sql).await.0, is_divided, "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, plain_rows(&plain, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn other_windows_are_computed_in_one_task() {
    let tables = Tables::unordered().await;
    let plain = tables.plain().await;
    for (options, sql) in [
        (CUT, "SELECT n, row_number() OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, count(*) OVER (ORDER BY n RANGE BETWEEN UNBOUNDED PRECEDING AND 5 FOLLOWING) AS x FROM r"),
        (RANGES, "SELECT n, lag(k) IGNORE NULLS OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, lag(k, 5000) OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, sum(k) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 3 FOLLOWING) AS x FROM r"),
        (RANGES, "SELECT n, sum(k) OVER (ORDER BY n GROUPS 3 PRECEDING) AS x FROM r"),
        (RANGES, "SELECT n, stddev(k) OVER (ORDER BY n) AS x FROM r"),
        (RANGES, "SELECT n, lag(k) OVER (ORDER BY n % 4001) AS x FROM r"),
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
