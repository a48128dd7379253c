//! Expressions that are long or deep.

use super::{cluster, lives, session, show, value};

/// Beyond what protobuf nests and what common stacks hold; the time to plan grows with the square.
const TERMS: usize = 1_000;

/// A chain of terms, each made from its number.
fn chain(operator: &str, term: impl Fn(usize) -> String) -> String {
    (0..TERMS).map(term).collect::<Vec<_>>().join(operator)
}

fn nested(levels: usize, before: &str, innermost: &str, after: impl Fn(usize) -> String) -> String {
    (0..levels).fold(innermost.to_owned(), |inner, level| format!("{before}{inner}{}", after(level)))
}

/// Queries over the five regions, whose keys are 0 to 4, and their answers.
fn queries() -> Vec<(&'static str, String, &'static str)> {
    let from = "FROM tpch.sf0_01.region";
    let mixed = format!("r_regionkey{}", [" + 1", " - 1"].repeat(TERMS / 2)[..TERMS - 1].concat());
    let case = (0..100).fold("-1".to_owned(), |inner, level| format!("CASE WHEN r_regionkey = {level} THEN {level} ELSE {inner} END"));
    let operators = [" + 1)", " * 1)", " - 1)", " % 9)"];
    let parentheses = nested(200, "(", "r_regionkey", |level| operators[level % 4].to_owned());
    vec![
        ("a sum", format!("SELECT sum({}) AS s {from}", chain(" + ", |_| "r_regionkey".into())), "10000"),
        ("OR", format!("SELECT count(*) {from} WHERE {}", chain(" OR ", |term| format!("r_regionkey + {term} = 3"))), "4"),
        ("AND", format!("SELECT count(*) {from} WHERE {}", chain(" AND ", |term| format!("r_regionkey + {term} <> 3"))), "1"),
        (
            "||",
            format!("SELECT sum(length({})) AS s {from}", chain(" || ", |term| if term == 0 { "r_name".into() } else { "'a'".into() })),
            "5029",
        ),
        ("mixed + and -", format!("SELECT sum({mixed}) AS s {from}"), "15"),
        ("nested CASE", format!("SELECT sum({case}) AS s {from}"), "10"),
        ("nested parentheses", format!("SELECT sum({parentheses}) AS s {from}"), "10"),
        ("nested calls", format!("SELECT sum({}) AS s {from}", nested(100, "abs(", "r_regionkey", |_| ")".into())), "10"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_deep_expressions_are_answered_in_every_mode() {
    let cluster = cluster().await;
    for fit in ["auto", "never"] {
        let session = session(&cluster).await;
        show(&session, &format!("SET volley.fit = '{fit}'")).await.unwrap();
        for (what, sql, answer) in queries() {
            assert_eq!(value(&session, &sql).await.as_deref(), Ok(answer), "{what}, fit = {fit}");
            for mode in ["EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN VERBOSE"] {
                let shown = show(&session, &format!("{mode} {sql}")).await;
                let plan = shown.unwrap_or_else(|error| panic!("{mode} {what}, fit = {fit}: {error}"));
                assert!(plan.contains("region"), "{mode} {what}, fit = {fit}");
                lives(&cluster).await;
            }
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_terms_are_answered_and_what_is_too_long_is_refused() {
    let cluster = cluster().await;
    let session = session(&cluster).await;
    show(&session, "SET volley.planning_timeout_ms = 280000").await.unwrap();
    let terms = |count: usize| {
        format!("SELECT sum(r_regionkey{}) AS s FROM tpch.sf0_01.region", [" + 1", " - 1"].repeat(count / 2)[..count - 1].concat())
    };
    assert_eq!(value(&session, &terms(5_000)).await.as_deref(), Ok("15"));
    lives(&cluster).await;
    let error = value(&session, &terms(12_345)).await.unwrap_err();
    assert!(error.starts_with("an expression of 12,345 terms; the limit is 6,000 (line 1, column 12)"), "{error}");
    lives(&cluster).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nests_too_deep_is_refused() {
    let cluster = cluster().await;
    let session = session(&cluster).await;
    let (open, close) = ("(".repeat(1_000), ")".repeat(1_000));
    let subqueries = nested(1_000, "SELECT * FROM (", "SELECT 1 AS a", |_| ") AS t".into());
    let scalars = nested(1_000, "SELECT (", "SELECT 1", |_| ") AS a".into());
    for (sql, message) in [
        (format!("SELECT {open}1{close}"), "the statement is nested more than 256 levels deep"),
        (format!("SELECT * FROM {open}tpch.sf1.region{close}"), "the statement is nested more than 256 levels deep"),
        (subqueries, "the statement is nested more than 256 levels deep"),
        (scalars, "the statement is nested more than 256 levels deep"),
        (format!("{}SELECT 1", "EXPLAIN ".repeat(100_000)), "an EXPLAIN can't be explained"),
        (format!("SELECT CAST(1 AS {}INT{})", "ARRAY<".repeat(50_000), ">".repeat(50_000)), "a type of more than 20 levels"),
        (vec!["SELECT 1"; 50_000].join(" UNION ALL "), "a statement of more than 1,000 set operations"),
    ] {
        let error = show(&session, &sql).await.unwrap_err();
        assert!(error.starts_with(message), "{}: {error}", &sql[..100]);
        lives(&cluster).await;
    }
    cluster.shutdown().await.unwrap();
}
