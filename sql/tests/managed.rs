//! Managed tables: what is committed is read, once, whatever is repeated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use volley_proto::Remedy;
use volley_sql::catalog::{ClusterCatalog, MemoryTableStore, SessionCatalogs};
use volley_sql::statement::Statement;
use volley_sql::write::{CommitError, StagedFile, WriteSpec, remove_files};

use crate::support::{attempt, count, error, immediate, planned, session_with, stage};

fn catalog(session: &SessionContext) -> Arc<ClusterCatalog> {
    SessionCatalogs::cluster_of(&session.state()).unwrap()
}

async fn commit(session: &SessionContext, spec: &WriteSpec, files: &[StagedFile]) -> Result<(), CommitError> {
    catalog(session).commit(spec, spec.table.as_ref().unwrap(), files).await
}

/// A write from its text to its end.
async fn write(session: &SessionContext, sql: &str, id: &str) {
    let (spec, files) = stage(session, sql, id).await;
    commit(session, &spec, &files).await.unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

const TEN: &str = "SELECT value AS a FROM generate_series(1, 10)";

#[tokio::test]
async fn a_commit_that_is_repeated_changes_nothing() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let session = session_with(&store, warehouse.path()).await;
    let mut writes = vec![];
    for (id, sql) in
        [("j1", format!("CREATE TABLE t AS {TEN}")), ("j2", format!("INSERT INTO t {TEN}")), ("j3", "INSERT OVERWRITE t SELECT 7".into())]
    {
        let (spec, files) = stage(&session, &sql, id).await;
        for _ in 0..3 {
            commit(&session, &spec, &files).await.unwrap();
            // As after a crash between the commit and the end of its list.
            commit(&session_with(&store, warehouse.path()).await, &spec, &files).await.unwrap();
        }
        writes.push(count(&session_with(&store, warehouse.path()).await, "SELECT count(*) FROM t").await);
    }
    assert_eq!(writes, [10, 20, 1]);
}

#[tokio::test]
async fn rows_of_other_attempts_are_neither_read_nor_kept() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let session = session_with(&store, warehouse.path()).await;
    let sql = format!("CREATE TABLE t AS {TEN}");
    let (spec, staged) = stage(&session, &sql, "j1").await;
    let Statement::Write(statement) = planned(&session, &sql).await.unwrap() else { panic!() };
    attempt(&session, &statement.input, &spec).await;
    commit(&session, &spec, &staged).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM t").await, 10);
    let parquet = files(warehouse.path()).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    assert_eq!(parquet.count(), staged.len());
}

#[tokio::test]
async fn a_query_reads_the_version_that_it_was_planned_with() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let session = session_with(&store, warehouse.path()).await;
    write(&session, &format!("CREATE TABLE t AS {TEN}"), "j1").await;
    let before = session.sql("SELECT * FROM t").await.unwrap();
    write(&session, "INSERT OVERWRITE t SELECT 1", "j2").await;
    write(&session, "INSERT INTO t SELECT 2", "j3").await;
    assert_eq!(before.count().await.unwrap(), 10);
    assert_eq!(count(&session, "SELECT sum(a) FROM t").await, 3);
}

#[tokio::test]
async fn a_write_to_a_table_that_is_gone_is_refused() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let session = session_with(&store, warehouse.path()).await;
    write(&session, &format!("CREATE TABLE t AS {TEN}"), "j1").await;
    let (insert, inserted) = stage(&session, "INSERT INTO t SELECT 1", "j2").await;
    let (create, created) = stage(&session, "CREATE TABLE u AS SELECT 1 AS a", "j3").await;
    immediate(&session, "DROP TABLE t").await;
    write(&session, "CREATE TABLE t AS SELECT 5 AS a", "j4").await;
    write(&session, "CREATE TABLE u AS SELECT 6 AS a", "j5").await;
    for (spec, files, expected) in [(insert, inserted, "dropped or replaced"), (create, created, "exists already")] {
        let Err(CommitError::Refused(failure)) = commit(&session, &spec, &files).await else { panic!("{expected}") };
        assert!(failure.remedy == Remedy::Query && failure.message.contains(expected), "{failure}");
    }
    assert_eq!((count(&session, "SELECT sum(a) FROM t").await, count(&session, "SELECT sum(a) FROM u").await), (5, 6));
}

#[tokio::test]
async fn what_is_replaced_is_discarded_and_can_be_removed() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let session = session_with(&store, warehouse.path()).await;
    write(&session, &format!("CREATE TABLE t AS {TEN}"), "j1").await;
    write(&session, "INSERT OVERWRITE t SELECT 1", "j2").await;
    for discarded in store.discarded() {
        remove_files(&discarded.location, &discarded.files, &session.runtime_env()).await.unwrap();
    }
    assert_eq!(count(&session, "SELECT sum(a) FROM t").await, 1);
    assert_eq!(files(warehouse.path()).len(), 2, "a manifest and a file: {:?}", files(warehouse.path()));
    immediate(&session, "DROP TABLE t").await;
    let last = store.discarded().pop().unwrap();
    assert_eq!(last.files, Vec::<String>::new());
    remove_files(&last.location, &last.files, &session.runtime_env()).await.unwrap();
    assert_eq!(files(warehouse.path()), Vec::<PathBuf>::new());
    assert!(error(&session, "SELECT * FROM t").await.contains("not found"));
}

/// The session of a client that had the temporary tables `lost` under an earlier scheduler.
fn returned(session: &SessionContext, lost: &[(&str, &str)]) -> SessionContext {
    let lost = lost.iter().map(|(schema, name)| (schema.to_string(), name.to_string())).collect();
    let catalogs = SessionCatalogs::of_session(catalog(session), "s", lost);
    let state = SessionStateBuilder::new_from_existing(session.state()).with_catalog_list(Arc::new(catalogs)).build();
    SessionContext::new_with_state(state)
}

#[tokio::test]
async fn a_temporary_table_that_was_lost_is_named() {
    let (store, warehouse) = (Arc::new(MemoryTableStore::default()), tempfile::tempdir().unwrap());
    let cluster = session_with(&store, warehouse.path()).await;
    write(&cluster, &format!("CREATE TABLE t AS {TEN}"), "j1").await;
    let session = returned(&cluster, &[("public", "t"), ("public", "u")]);
    for sql in [
        "SELECT count(*) FROM t",
        "INSERT INTO t SELECT 1",
        "DELETE FROM t WHERE a = 1",
        "INSERT OVERWRITE t SELECT 1",
        "ALTER TABLE t RENAME TO v",
        "CREATE VIEW w AS SELECT * FROM t",
    ] {
        let said = error(&session, sql).await;
        assert!(said.contains("temporary table 't' was lost with the scheduler that it was made on: make it again"), "{sql}: {said}");
    }
    assert_eq!(SessionCatalogs::temporary_names(&session.state()).len(), 2);
    assert_eq!(count(&session, "SELECT count(*) FROM information_schema.tables WHERE table_name IN ('t', 'u')").await, 0);
    // Forgotten, the name means the cluster's table again, which is still there.
    immediate(&session, "DROP TABLE t").await;
    immediate(&session, "DROP TABLE u").await;
    assert_eq!(count(&session, "SELECT count(*) FROM t").await, 10);
    assert!(SessionCatalogs::temporary_names(&session.state()).is_empty());
}
