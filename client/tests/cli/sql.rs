//! `volley sql` on an embedded cluster.

use super::program::{volley, volley_reading};

#[test]
fn statements_run_in_the_order_in_which_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.sql");
    std::fs::write(&file, "-- the second\nSELECT 2 AS n;\nSELECT 'three;' AS n").unwrap();
    let file = file.to_str().unwrap();
    let ended = volley(&["sql", "-c", "SELECT 1 AS n", "-f", file, "-c", "SELECT 4 AS n; SELECT 5 AS n", "--format", "csv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out, "n\n1\nn\n2\nn\nthree;\nn\n4\nn\n5\n");
    assert!(ended.err.starts_with("embedded cluster: 1 executor, "), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[test]
fn statements_come_from_standard_input() {
    let ended = volley_reading(&["sql", "--format", "ndjson"], "SELECT 1 AS a, NULL AS b;\n");
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "{\"a\":1,\"b\":null}\n"), "{}", ended.err);
}

#[test]
fn a_table_is_for_people() {
    let ended = volley(&["sql", "-c", "SELECT * FROM (VALUES (1, 'x'), (2, NULL)) AS t(id, name) ORDER BY id"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out, "+----+------+\n| id | name |\n+----+------+\n| 1  | x    |\n| 2  | NULL |\n+----+------+\n");
}

#[test]
fn the_first_failure_ends_the_run_with_its_place_in_the_text() {
    let ended = volley(&["sql", "-c", "SELECT 1 AS one", "-c", "SELECT nme FROM tpch.sf0_01.nation", "-c", "SELECT 3", "--format", "csv"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "one\n1\n"));
    assert!(ended.err.contains("nme") && ended.err.contains('^'), "{}", ended.err);
}

#[test]
fn a_table_made_by_one_statement_is_seen_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "k,v\na,1\nb,2\na,3\n").unwrap();
    let place = folder.path().join("t.csv");
    let create = format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", place.display());
    let query = "SELECT k, sum(v) AS total FROM t GROUP BY k ORDER BY k";
    let ended = volley(&[
        "sql",
        "-c",
        &create,
        "-c",
        "SET volley.fit = 'never'",
        "-c",
        query,
        "--format",
        "tsv",
        "--executors",
        "2",
        "--slots",
        "1",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out, "k\ttotal\na\t4\nb\t2\n");
}

#[test]
fn generated_tables_are_there_from_the_start() {
    let ended = volley(&["sql", "-c", "SELECT count(*) AS rows FROM tpch.sf0_01.lineitem", "--format", "json"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "[{\"rows\":60175}]\n"), "{}", ended.err);
}

#[test]
fn a_state_directory_keeps_tables_for_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let at = ["sql", "--state-dir", state.to_str().unwrap(), "--format", "csv", "-c"];
    let ended = volley(&[&at[..], &["CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 10)"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let ended = volley(&[&at[..], &["INSERT INTO t VALUES (90); SELECT sum(a) AS s FROM t"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.ends_with("s\n145\n"), "{}", ended.out);
}
