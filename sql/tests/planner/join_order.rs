//! Inner joins run in an order that makes little of them.

use std::sync::Arc;

use datafusion::physical_plan::collect;
use datafusion::physical_plan::joins::HashJoinExec;

use super::runtime_filters::whole;
use super::{CUT, Tables, all, cut_rows, decoded, plain_rows, sorted};

/// As written, `t` meets itself first, by a key of 17 values: 230,000 rows of which one query wants few.
const BAD: &[&str] = &[
    "SELECT t2.n, d.name FROM t t1 JOIN t t2 ON t1.k = t2.k JOIN d ON t1.n = d.k WHERE d.name = 'name 4'",
    "SELECT d.name, count(*), sum(t2.n) FROM t t1, t t2, d, p WHERE t1.k = t2.k AND t1.n = d.k AND p.k = d.k AND t2.n > p.k GROUP BY d.name",
    "SELECT u.n, t2.s, d.name FROM (SELECT n, k FROM t WHERE s = 's1') u JOIN t t2 ON u.k = t2.k JOIN d ON d.k = u.n AND d.name < t2.s",
    "SELECT a.n, x.c FROM t a JOIN t b ON a.k = b.k JOIN (SELECT d.k, count(*) AS c FROM d, p, edges WHERE d.k = p.k AND edges.src = p.k \
     GROUP BY d.k) x ON x.k = a.n",
];

/// What is joined in an order that may stay, or is no group of inner joins.
const OTHERS: &[&str] = &[
    "SELECT t.n, d.name, p.k FROM t JOIN d ON t.k = d.k LEFT JOIN p ON p.k = d.k",
    "SELECT count(*) FROM d, p, edges",
    "SELECT count(*) FROM d, p, edges WHERE d.k < p.k AND edges.src + d.k = p.k",
    "SELECT d.k FROM d JOIN p ON d.k = p.k JOIN edges ON edges.src = p.k WHERE EXISTS (SELECT 1 FROM t WHERE t.k = d.k)",
    "SELECT a.k, b.k, c.k FROM p a JOIN p b ON a.k = b.k JOIN p c ON c.k IS NOT DISTINCT FROM b.k",
    "SELECT * FROM d JOIN p USING (k) JOIN edges ON edges.src = d.k",
];

#[tokio::test]
async fn little_comes_first() {
    let tables = Tables::usual().await;
    let (ours, plain) = (tables.ours(&[]).await, tables.plain().await);
    let as_written = tables.ours(&[("volley.reorder_joins", "false")]).await;
    for sql in BAD {
        let mut joined = vec![];
        for session in [&ours, &as_written] {
            let plan = decoded(session, &whole(session, sql).await.stages[0], 0);
            let rows = collect(Arc::clone(plan.children()[0]), session.task_ctx()).await.unwrap();
            assert_eq!(sorted(&rows), plain_rows(&plain, sql).await, "{sql}");
            let given = all::<HashJoinExec>(&plan).iter().map(|join| join.metrics().unwrap().output_rows().unwrap()).sum::<usize>();
            joined.push(given);
        }
        assert!(joined[0] * 2 < joined[1], "{sql}: joins gave {joined:?} rows");
    }
}

#[tokio::test]
async fn rows_and_columns_stay() {
    let tables = Tables::usual().await;
    let (ours, cut, plain) = (tables.ours(&[]).await, tables.ours(CUT).await, tables.plain().await);
    for sql in BAD.iter().chain(OTHERS) {
        let expected = plain_rows(&plain, sql).await;
        assert_eq!(cut_rows(&cut, sql).await, expected, "{sql}");
        assert_eq!(cut_rows(&ours, sql).await, expected, "{sql}");
        let columns = plain.sql(sql).await.unwrap().schema().as_arrow().clone();
        assert_eq!(whole(&ours, sql).await.schema.fields(), columns.fields(), "{sql}");
    }
}
