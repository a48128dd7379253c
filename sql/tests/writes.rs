//! Writes: exactly the rows, once, and nothing left behind.

use std::path::{Path, PathBuf};

use volley_sql::statement::Statement;
use volley_sql::write::{WriteSpec, abort, begin, commit};

use crate::support::{attempt, count, immediate, planned, rows, session, stage, write};

/// All files and directories below a directory, hidden ones too.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            found.push(path.strip_prefix(dir).unwrap().display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn hidden(dir: &Path) -> Vec<String> {
    tree(dir).into_iter().filter(|path| path.contains(".volley") || path.contains("publish")).collect()
}

#[tokio::test]
async fn formats_hold_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    let query = "SELECT l_orderkey, l_comment, l_quantity, l_shipdate FROM tpch.sf0_01.lineitem";
    for (id, target, options) in [
        ("w1", "p.parquet", ""),
        ("w2", "c.csv", ""),
        ("w3", "j.json", ""),
        ("w4", "p/", "STORED AS PARQUET OPTIONS ('format.compression' 'zstd(3)')"),
        ("w5", "c/", "STORED AS CSV OPTIONS ('format.compression' 'gzip', 'format.has_header' 'true')"),
        ("w6", "j", "STORED AS JSON"),
    ] {
        let committed = write(&session, &format!("COPY ({query}) TO '{at}/{target}' {options}"), id).await;
        assert_eq!(committed.rows, 60175, "{target}");
        assert!(committed.bytes > 100_000, "{target}: {committed:?}");
        let single = target.contains('.');
        assert_eq!(committed.files == 1, single, "{target}: {committed:?}");
        let ddl = match id {
            "w5" => format!("STORED AS CSV OPTIONS ('format.compression' 'gzip') LOCATION '{at}/{target}'"),
            _ => format!(
                "STORED AS {} LOCATION '{at}/{target}'",
                match &target[..1] {
                    "p" => "PARQUET",
                    "c" => "CSV",
                    _ => "JSON",
                }
            ),
        };
        immediate(&session, &format!("CREATE EXTERNAL TABLE {id} {ddl}")).await;
        assert_eq!(count(&session, &format!("SELECT count(l_comment) FROM {id}")).await, 60175, "{target}");
        let total = "SELECT sum(l_orderkey) AS k, sum(cast(l_quantity AS BIGINT)) AS q, max(cast(l_shipdate AS DATE)) AS d FROM";
        assert_eq!(
            rows(&session, &format!("{total} {id}")).await,
            rows(&session, &format!("{total} tpch.sf0_01.lineitem")).await,
            "{target}"
        );
    }
    assert_eq!(hidden(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn only_committed_attempts_are_published() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    for target in ["t/", "one.parquet"] {
        let sql = format!("COPY (SELECT l_orderkey FROM tpch.sf0_01.lineitem) TO '{at}/{target}' STORED AS PARQUET");
        let Statement::Write(statement) = planned(&session, &sql).await.unwrap() else { panic!() };
        let spec = statement.target.spec("j1");
        assert_eq!(WriteSpec::decode(&spec.encode()).unwrap(), spec);
        begin(&spec, &session.runtime_env()).await.unwrap();
        let _lost = attempt(&session, &statement.input, &spec).await;
        let won = attempt(&session, &statement.input, &spec).await;
        let _speculative = attempt(&session, &statement.input, &spec).await;
        assert!(!dir.path().join(target.trim_end_matches('/')).exists(), "{target} is visible before its commit");
        let committed = commit(&spec, &won, &session.runtime_env()).await.unwrap();
        assert_eq!(commit(&spec, &won, &session.runtime_env()).await.unwrap(), committed, "a second commit changes nothing");
        assert_eq!(count(&session, &format!("SELECT count(l_orderkey) FROM '{at}/{target}'")).await, 60175, "{target}");
        assert_eq!(hidden(dir.path()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_commit_that_stopped_in_the_middle_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    std::fs::create_dir(dir.path().join("t")).unwrap();
    let (spec, files) =
        stage(&session, &format!("COPY (SELECT l_orderkey FROM tpch.sf0_01.lineitem) TO '{at}/t/' STORED AS PARQUET"), "j1").await;
    assert!(files.len() > 1);
    std::fs::rename(dir.path().join("t/.volley-staging-j1").join(&files[0].staged), dir.path().join("t").join(&files[0].path)).unwrap();
    commit(&spec, &files, &session.runtime_env()).await.unwrap();
    assert_eq!(count(&session, &format!("SELECT count(l_orderkey) FROM '{at}/t/'")).await, 60175);
    assert_eq!(hidden(dir.path()), Vec::<String>::new());

    let (spec, files) =
        stage(&session, &format!("COPY (SELECT l_orderkey FROM tpch.sf0_01.lineitem) TO '{at}/new/' STORED AS PARQUET"), "j2").await;
    let staging = dir.path().join(".volley-staging-j2");
    std::fs::create_dir(staging.join("publish")).unwrap();
    std::fs::rename(staging.join(&files[0].staged), staging.join("publish").join(&files[0].path)).unwrap();
    commit(&spec, &files, &session.runtime_env()).await.unwrap();
    assert_eq!(count(&session, &format!("SELECT count(l_orderkey) FROM '{at}/new/'")).await, 60175);
    assert_eq!(hidden(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn an_abort_leaves_nothing_and_stops_late_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    for (target, options) in [("new/", "STORED AS PARQUET"), ("x.csv", ""), ("g/", "STORED AS CSV OPTIONS ('format.compression' 'gzip')")] {
        let sql = format!("COPY (SELECT l_orderkey FROM tpch.sf0_01.lineitem) TO '{at}/{target}' {options}");
        let (spec, _) = stage(&session, &sql, "j1").await;
        abort(&spec, &session.runtime_env()).await.unwrap();
        abort(&spec, &session.runtime_env()).await.unwrap();
        assert_eq!(tree(dir.path()), Vec::<String>::new(), "{target}");

        let Statement::Write(statement) = planned(&session, &sql).await.unwrap() else { panic!() };
        let input = session.state().create_physical_plan(&statement.input).await.unwrap();
        let late = volley_sql::write::StagedWriteExec::try_new(input, spec, 0).unwrap();
        datafusion::physical_plan::collect(std::sync::Arc::new(late), session.task_ctx()).await.unwrap_err();
        assert_eq!(tree(dir.path()), Vec::<String>::new(), "{target}: a late attempt left something");
    }
}

#[tokio::test]
async fn inserts_append_and_overwrite() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    immediate(
        &session,
        &format!(
            "CREATE EXTERNAL TABLE t (a BIGINT, b VARCHAR, d DATE) STORED AS CSV PARTITIONED BY (b) \
             OPTIONS ('format.delimiter' '|') LOCATION '{at}/t/'"
        ),
    )
    .await;
    let inserted = write(&session, "INSERT INTO t VALUES (1, '2020-01-01', 'x'), (2, '2020-01-02', 'y'), (3, NULL, 'w')", "i1").await;
    assert_eq!((inserted.rows, inserted.files), (3, 3));
    assert_eq!(count(&session, "SELECT count(*) FROM t").await, 3);
    write(&session, "INSERT INTO t (b, a) SELECT 'x', 10", "i2").await;
    let shown = rows(&session, "SELECT a, d, b FROM t WHERE b = 'x' ORDER BY a").await;
    assert!(shown.contains("| 1  | 2020-01-01 | x |") && shown.contains("| 10 |            | x |"), "{shown}");
    write(&session, "INSERT OVERWRITE t SELECT 7, NULL, 'z'", "i3").await;
    assert_eq!(count(&session, "SELECT sum(a) FROM t").await, 7);
    assert_eq!(hidden(dir.path()), Vec::<String>::new());
    assert!(tree(dir.path()).iter().any(|path| path.starts_with("t/b=z/i3-00000-")), "{:?}", tree(dir.path()));
}

#[tokio::test]
async fn many_partition_values_do_not_keep_many_files_open() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    let sql = format!(
        "COPY (SELECT l_orderkey, l_partkey % 300 AS p FROM tpch.sf0_01.lineitem) TO '{at}/t/' STORED AS PARQUET PARTITIONED BY (p)"
    );
    let committed = write(&session, &sql, "w").await;
    assert_eq!(committed.rows, 60175);
    immediate(&session, &format!("CREATE EXTERNAL TABLE t STORED AS PARQUET PARTITIONED BY (p) LOCATION '{at}/t/'")).await;
    assert_eq!(count(&session, "SELECT count(l_orderkey) FROM t").await, 60175);
    assert_eq!(count(&session, "SELECT count(DISTINCT p) FROM t").await, 300);
}

#[tokio::test]
async fn an_empty_result_still_makes_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let session = session();
    for file in ["e.parquet", "e.csv"] {
        let committed = write(&session, &format!("COPY (SELECT n_name FROM tpch.sf1.nation WHERE false) TO '{at}/{file}'"), file).await;
        assert_eq!((committed.files, committed.rows), (1, 0));
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("e.csv")).unwrap(), "n_name\n");
    assert_eq!(count(&session, &format!("SELECT count(*) FROM '{at}/e.parquet'")).await, 0);
}

#[tokio::test]
async fn ordered_rows_stay_in_order_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let session = session();
    let file = dir.path().join("o.csv");
    write(&session, &format!("COPY (SELECT o_orderkey FROM tpch.sf0_01.orders ORDER BY o_orderkey DESC) TO '{}'", file.display()), "w")
        .await;
    let text = std::fs::read_to_string(file).unwrap();
    let keys: Vec<i64> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
    assert_eq!(keys.len(), 15000);
    assert!(keys.is_sorted_by(|a, b| a >= b));
}
