//! Tables that exist in the scheduler alone: joined, copied and inserted like others.

use volley_sql::exchange::run_in_memory;
use volley_sql::planner::plan_write;
use volley_sql::statement::Statement;
use volley_sql::write::{Committed, StagedFile, begin, commit};

use super::{CLUSTER, CUT, Tables, cut_rows};
use crate::support::{count, immediate, planned};

#[tokio::test]
async fn tables_of_the_session_join_others() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let sql = "SELECT c.column_name, v.x FROM information_schema.columns c JOIN (VALUES ('n', 1), ('k', 2), ('z', 3)) v(name, x) \
               ON c.column_name = v.name WHERE c.table_name = 't'";
    assert_eq!(cut_rows(&session, sql).await, ["|k|2|", "|n|1|"]);
    let sql = "SELECT i.table_name, count(*) FROM t, information_schema.tables i WHERE i.table_name IN ('t', 'd') GROUP BY i.table_name";
    assert_eq!(cut_rows(&session, sql).await, ["|d|4000|", "|t|4000|"]);
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_name = 'edges' UNION ALL SELECT s FROM t WHERE n < 2";
    assert_eq!(cut_rows(&session, sql).await, ["|edges|", "|s0|", "|s1|"]);
}

#[tokio::test]
async fn tables_of_the_session_are_written() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let at = tables.dir.path().join("copied");
    std::fs::create_dir(&at).unwrap();
    let at = at.display();
    let rows = "SELECT table_name, column_name FROM information_schema.columns WHERE table_name IN ('t', 'd')";
    let copied = write(&session, &format!("COPY ({rows}) TO '{at}/' STORED AS PARQUET"), "w1").await;
    assert_eq!(copied.rows, 5);
    immediate(&session, &format!("CREATE EXTERNAL TABLE copied STORED AS PARQUET LOCATION '{at}/'")).await;
    assert_eq!(write(&session, &format!("INSERT INTO copied {rows}"), "w2").await.rows, 5);
    assert_eq!(count(&session, "SELECT count(*) FROM copied WHERE column_name = 'k'").await, 4);
}

/// A write from its statement to its commit, cut into tasks.
async fn write(session: &datafusion::prelude::SessionContext, sql: &str, id: &str) -> Committed {
    let Statement::Write(statement) = planned(session, sql).await.unwrap() else { panic!("{sql} is no write") };
    let spec = statement.target.spec(id);
    begin(&spec, &session.runtime_env()).await.unwrap();
    let graph = plan_write(&session.state(), &statement.input, spec.clone(), CLUSTER).await.unwrap();
    let staged = run_in_memory(&session.state(), &graph).await.unwrap();
    let files: Vec<StagedFile> = staged.iter().flat_map(|batch| StagedFile::from_batch(batch).unwrap()).collect();
    commit(&spec, &files, &session.runtime_env()).await.unwrap()
}
