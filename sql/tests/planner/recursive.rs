//! Queries that refer to themselves.

use super::{CUT, PARTITIONED, Tables, cut_rows, plain_rows};

const QUERIES: &[(&str, &str)] = &[
    ("all rows", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 100) SELECT * FROM r"),
    ("distinct rows", "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n * 3 % 10 FROM r) SELECT * FROM r"),
    (
        "a step that reads the second column only",
        "WITH RECURSIVE r(a, b) AS (SELECT 1, 10 UNION ALL SELECT 0, b - 1 FROM r WHERE b > 0) SELECT * FROM r",
    ),
    (
        "a step that reads columns in another order",
        "WITH RECURSIVE r(a, b, c) AS (SELECT 1, 2, 'x' UNION ALL SELECT b, a + b, 'y' FROM r WHERE b < 100) SELECT * FROM r",
    ),
    (
        "two in one statement",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 20), \
         q(m) AS (SELECT 2 UNION ALL SELECT m * 2 FROM q WHERE m < 100) SELECT r.n, q.m FROM r LEFT JOIN q ON r.n = q.m",
    ),
    (
        "a step that joins a table",
        "WITH RECURSIVE reach(k) AS (SELECT CAST(1 AS BIGINT) UNION SELECT e.dst FROM reach JOIN edges e ON e.src = reach.k) \
         SELECT * FROM reach",
    ),
    (
        "first rows from a table of several files",
        "WITH RECURSIVE r(n, hops) AS (SELECT n, 0 FROM t WHERE n % 1000 = 3 UNION ALL SELECT n - 1, hops + 1 FROM r WHERE hops < 4) \
         SELECT hops, count(*), sum(n) FROM r GROUP BY hops",
    ),
    (
        "within a larger query",
        "SELECT t.s, count(*) FROM t JOIN (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT n FROM r) c \
         ON t.k = c.n WHERE t.n IN (SELECT src * 10 FROM edges) GROUP BY t.s ORDER BY t.s",
    ),
    (
        "one within the step of another",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT r.n + i.m FROM r, \
         (WITH RECURSIVE q(m) AS (SELECT 1 UNION ALL SELECT m + 1 FROM q WHERE m < 3) SELECT max(m) AS m FROM q) i WHERE r.n < 20) \
         SELECT * FROM r",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_refer_to_themselves_run() {
    let tables = Tables::usual().await;
    let plain = tables.plain().await;
    for options in [CUT, PARTITIONED, &[]] {
        let ours = tables.ours(options).await;
        for (what, sql) in QUERIES {
            let rows = cut_rows(&ours, sql).await;
            assert!(!rows.is_empty(), "{what}");
            assert_eq!(rows, plain_rows(&plain, sql).await, "{what}");
        }
    }
}
