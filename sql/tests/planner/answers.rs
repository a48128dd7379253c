//! Queries of every shape whose cut could go wrong, each against plain DataFusion.

use super::{CUT, PARTITIONED, Tables, cut_rows, plain_rows};

const UNIONS: &[&str] = &[
    "SELECT 1 AS n UNION ALL SELECT n FROM t",
    "SELECT n FROM t WHERE n < 5 UNION ALL (SELECT 7 UNION ALL (SELECT k FROM d UNION SELECT n FROM t WHERE n > 3990))",
    "SELECT value AS n FROM generate_series(1, 10) UNION ALL SELECT n FROM t",
    "SELECT n FROM t UNION ALL SELECT m + 1 FROM (SELECT n AS m FROM t UNION ALL SELECT max(n) FROM t)",
    "SELECT count(*) FROM (SELECT k FROM t UNION ALL SELECT k FROM d UNION ALL VALUES (1), (2))",
    "SELECT n FROM t WHERE n < 20 INTERSECT SELECT k FROM d",
    "SELECT n FROM t WHERE n < 20 EXCEPT SELECT k FROM d",
];

const WITHOUT_FILES: &[&str] = &[
    "SELECT v.a, v.b, count(*) FROM (VALUES (1, 'x'), (2, 'y'), (3, NULL)) v(a, b) JOIN t ON t.k = v.a GROUP BY v.a, v.b",
    "SELECT t.n, v.b FROM t LEFT JOIN (VALUES (1, 'x'), (2, 'y')) v(a, b) ON t.k = v.a",
    "SELECT count(*), sum(t.n) FROM generate_series(1, 100) g JOIN t ON g.value = t.n",
    "SELECT count(*) FROM t, generate_series(1, 3)",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM t WHERE n = 17)",
];

const SUBQUERIES: &[&str] = &[
    "SELECT n FROM t WHERE k NOT IN (SELECT k FROM p)",
    "SELECT n FROM t WHERE k NOT IN (SELECT k FROM d)",
    "SELECT n FROM t WHERE n NOT IN (SELECT k FROM d)",
    "SELECT n FROM t WHERE n NOT IN (SELECT k FROM p)",
    "SELECT n FROM t WHERE k NOT IN (SELECT k FROM empty)",
    "SELECT k FROM empty WHERE k NOT IN (SELECT k FROM d)",
    "SELECT n FROM t WHERE k NOT IN (SELECT k FROM d WHERE k > 1000)",
    "SELECT n FROM t WHERE k IN (SELECT k FROM d) OR n < 10",
    "SELECT n FROM t WHERE EXISTS (SELECT 1 FROM p WHERE p.k = t.k) OR s = 's1'",
    "SELECT n FROM t WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.k = t.k AND d.name > t.s)",
    "SELECT n FROM t WHERE n > (SELECT avg(n) FROM t)",
    "SELECT n, (SELECT max(k) FROM d) FROM t WHERE n < 9",
    "SELECT d.k, (SELECT max(n) FROM t WHERE t.k = d.k) FROM d",
];

const WINDOWS: &[&str] = &[
    "SELECT n, row_number() OVER (PARTITION BY k ORDER BY n) FROM t",
    "SELECT n, sum(n) OVER (ORDER BY n ROWS 3 PRECEDING) FROM t",
    "SELECT s, rank() OVER (ORDER BY s) FROM t",
    "SELECT * FROM (SELECT n, s, row_number() OVER (PARTITION BY s ORDER BY n DESC) AS place FROM t) WHERE place <= 2",
    "SELECT n, lag(n) OVER (PARTITION BY s ORDER BY n) FROM t WHERE n < 100 ORDER BY n LIMIT 30",
];

fn joins() -> Vec<String> {
    let mut queries = vec![];
    let sides = ["t.n, d.name FROM t", "t.n, d.name FROM d"];
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        for (columns, other) in sides.into_iter().zip(["d", "t"]) {
            for condition in ["t.k = d.k", "t.n < d.k", "t.k = d.k AND t.n % 3 > d.k % 2"] {
                queries.push(format!("SELECT {columns} {join} {other} ON {condition}"));
            }
        }
    }
    for join in ["LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        for condition in ["t.k = d.k", "t.n < d.k"] {
            queries.push(format!("SELECT t.n FROM t {join} d ON {condition}"));
            queries.push(format!("SELECT d.name FROM d {join} t ON {condition}"));
        }
    }
    queries
}

async fn check(queries: impl IntoIterator<Item = &str>) {
    let tables = Tables::usual().await;
    let plain = tables.plain().await;
    let (sent, partitioned) = (tables.ours(CUT).await, tables.ours(PARTITIONED).await);
    for sql in queries {
        let expected = plain_rows(&plain, sql).await;
        assert_eq!(cut_rows(&sent, sql).await, expected, "{sql}");
        assert_eq!(cut_rows(&partitioned, sql).await, expected, "{sql}, partitioned");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_plans_answer_as_plain_ones_do() {
    check([UNIONS, WITHOUT_FILES, SUBQUERIES, WINDOWS].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_joins_answer_as_plain_ones_do() {
    check(joins().iter().map(String::as_str)).await;
}
