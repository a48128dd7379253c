//! Tables and views of the cluster: made by DDL, kept as DDL, made again after a restart.

use std::path::Path;
use std::sync::Arc;

use volley_sql::catalog::{MemoryTableStore, TableEntry, TableStore};

use crate::support::{count, error, immediate, rows, session, session_over, write};

async fn parquet(dir: &Path, name: &str, sql: &str) {
    let session = session();
    write(&session, &format!("COPY ({sql}) TO '{}/{name}'", dir.display()), "w").await;
}

#[tokio::test]
async fn tables_and_views_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    parquet(dir.path(), "a.parquet", "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'").await;
    std::fs::write(dir.path().join("c.csv"), "1;one\n2;two\n3;three\n").unwrap();
    let store = Arc::new(MemoryTableStore::default());
    let session = session_over(&store).await;
    for sql in [
        format!("CREATE EXTERNAL TABLE a STORED AS PARQUET LOCATION '{at}/a.parquet'"),
        format!(
            "CREATE EXTERNAL TABLE c (id BIGINT NOT NULL, \"Name\" VARCHAR) STORED AS CSV WITH ORDER (id ASC) \
             OPTIONS ('format.delimiter' ';', 'format.has_header' 'false') LOCATION '{at}/c.csv'"
        ),
        "CREATE VIEW v AS SELECT a.b, c.\"Name\" FROM a JOIN c ON a.a = c.id".into(),
        "CREATE SCHEMA s".into(),
        "CREATE VIEW s.w AS SELECT count(*) AS n FROM v".into(),
    ] {
        immediate(&session, &sql).await;
    }
    let again = session_over(&store).await;
    for session in [&session, &again] {
        let joined = rows(session, "SELECT * FROM v ORDER BY b").await;
        assert!(joined.contains("| x | one  |") && joined.contains("| y | two  |"), "{joined}");
        assert_eq!(count(session, "SELECT n FROM s.w").await, 2);
        assert_eq!(count(session, "SELECT max(id) FROM c").await, 3);
    }
    for entry in store.list().await.unwrap() {
        assert_eq!(TableEntry::decode(&entry.encode().unwrap()).unwrap(), entry);
    }
    immediate(&again, "DROP VIEW v").await;
    assert!(error(&session_over(&store).await, "SELECT * FROM v").await.contains("table 'v' not found"));
}

#[tokio::test]
async fn names_are_taken_kept_and_replaced_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    parquet(dir.path(), "a.parquet", "SELECT 1 AS a").await;
    parquet(dir.path(), "b.parquet", "SELECT 2 AS b").await;
    let session = session();
    let create = |how: &str, file: &str| format!("CREATE {how} STORED AS PARQUET LOCATION '{at}/{file}.parquet'");
    immediate(&session, &create("EXTERNAL TABLE t", "a")).await;
    let shown = error(&session, &create("EXTERNAL TABLE t", "b")).await;
    assert!(shown.contains("table 'public.t' exists already; CREATE OR REPLACE replaces it, DROP TABLE removes it"), "{shown}");
    immediate(&session, &create("EXTERNAL TABLE IF NOT EXISTS t", "b")).await;
    assert_eq!(count(&session, "SELECT a FROM t").await, 1);
    immediate(&session, &create("OR REPLACE EXTERNAL TABLE t", "b")).await;
    assert_eq!(count(&session, "SELECT b FROM t").await, 2);
    immediate(&session, "CREATE VIEW v AS SELECT b FROM t").await;
    immediate(&session, &create("OR REPLACE EXTERNAL TABLE t", "a")).await;
    assert!(error(&session, "SELECT * FROM v").await.contains("unknown column 'b'"));
    immediate(&session, "CREATE OR REPLACE VIEW v AS SELECT a FROM t").await;
    let shown = error(&session, "CREATE OR REPLACE VIEW v AS SELECT a FROM v").await;
    assert!(shown.contains("view 'public.v' would read itself"), "{shown}");
    let shown = error(&session, "DROP TABLE v").await;
    assert!(shown.contains("'public.v' is a view: use DROP VIEW"), "{shown}");
    let shown = error(&session, "DROP VIEW w").await;
    assert!(shown.contains("view 'public.w' does not exist"), "{shown}");
    let shown = error(&session, "DROP SCHEMA nothing").await;
    assert!(shown.contains("schema 'nothing' does not exist"), "{shown}");
    let shown = error(&session, "CREATE VIEW s.v AS SELECT 1 AS a").await;
    assert!(shown.contains("schema 'volley.s' does not exist"), "{shown}");
    immediate(&session, "CREATE SCHEMA s").await;
    immediate(&session, "CREATE SCHEMA IF NOT EXISTS s").await;
    let shown = error(&session, "CREATE SCHEMA s").await;
    assert!(shown.contains("schema 's' exists already"), "{shown}");
    immediate(&session, "CREATE VIEW s.v AS SELECT 1 AS a").await;
    let shown = error(&session, "DROP SCHEMA s").await;
    assert!(shown.contains("schema 's' holds 'v'"), "{shown}");
    immediate(&session, "DROP SCHEMA s CASCADE").await;
    immediate(&session, "DROP TABLE t").await;
    immediate(&session, "DROP TABLE IF EXISTS t").await;
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::write(dir.path().join("bad.parquet"), "not parquet at all").unwrap();
    std::fs::create_dir(dir.path().join("many")).unwrap();
    for good in ["a", "b", "d"] {
        parquet(dir.path(), &format!("many/{good}.parquet"), "SELECT 1 AS a").await;
    }
    std::fs::write(dir.path().join("many/c.parquet"), "not parquet at all").unwrap();
    let mut shown = String::new();
    for (format, place) in [
        ("PARQUET", "none.parquet"),
        ("PARQUET", "none/"),
        ("PARQUET", "empty/"),
        ("CSV", "none.csv"),
        ("PARQUET", "bad.parquet"),
        ("PARQUET", "many/"),
        ("ORC", "none.orc"),
    ] {
        let sql = format!("CREATE EXTERNAL TABLE t STORED AS {format} LOCATION '{at}/{place}'");
        shown.push_str(&error(&session, &sql).await.replace(&at, "DIR").replace(at.trim_start_matches('/'), "DIR"));
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);

    parquet(dir.path(), "a.parquet", "SELECT 1 AS a").await;
    immediate(&session, &format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{at}/a.parquet'")).await;
    std::fs::remove_file(dir.path().join("a.parquet")).unwrap();
    let gone = error(&session, "SELECT * FROM t").await;
    assert!(gone.contains("table 't': no file at") && gone.contains("a.parquet"), "{gone}");

    std::fs::create_dir(dir.path().join("d")).unwrap();
    parquet(dir.path(), "d/a.parquet", "SELECT 1 AS a").await;
    immediate(&session, &format!("CREATE EXTERNAL TABLE d STORED AS PARQUET LOCATION '{at}/d/'")).await;
    std::fs::remove_dir_all(dir.path().join("d")).unwrap();
    let gone = error(&session, "SELECT * FROM d").await;
    assert!(gone.contains(&format!("table 'd': no folder at 'file://{at}/d/'")), "{gone}");
}

#[tokio::test]
async fn directories_patterns_and_hive_partitions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    write(&session, &format!("COPY (SELECT * FROM tpch.sf0_01.nation) TO '{at}/n/' STORED AS PARQUET PARTITIONED BY (n_regionkey)"), "w1")
        .await;
    immediate(&session, &format!("CREATE EXTERNAL TABLE n STORED AS PARQUET PARTITIONED BY (n_regionkey) LOCATION '{at}/n/'")).await;
    assert_eq!(count(&session, "SELECT count(*) FROM n").await, 25);
    assert_eq!(count(&session, "SELECT count(n_name) FROM n WHERE n_regionkey = '3'").await, 5);
    for part in ["x1", "x2", "y1"] {
        parquet(dir.path(), &format!("{part}.parquet"), "SELECT 1 AS a").await;
    }
    immediate(&session, &format!("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '{at}/x*.parquet'")).await;
    assert_eq!(count(&session, "SELECT count(a) FROM x").await, 2);
    assert_eq!(count(&session, &format!("SELECT count(a) FROM '{at}/y1.parquet'")).await, 1);
    assert_eq!(count(&session, &format!("SELECT count(a) FROM '{at}/*.parquet'")).await, 3);
}

#[tokio::test]
async fn a_file_written_after_the_first_query_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    parquet(dir.path(), "1.parquet", "SELECT 1 AS a").await;
    immediate(&session, &format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{at}/'")).await;
    assert_eq!(count(&session, "SELECT count(a) FROM t").await, 1);
    parquet(dir.path(), "2.parquet", "SELECT 2 AS a").await;
    assert_eq!(count(&session, "SELECT count(a) FROM t").await, 2);
    parquet(dir.path(), "2.parquet", "SELECT 2 AS a UNION ALL SELECT 3").await;
    assert_eq!(count(&session, "SELECT count(*) FROM t").await, 3);
}
