//! Rows of an embedded cluster come while they are produced: no executor can be lost apart from the client.

use futures::TryStreamExt;
use volley_proto::wire::client::v1::JobState;

use super::{cluster, run, shown};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_of_a_large_result_come_before_its_job_ends() {
    let (cluster, client) = cluster(1, 1).await;
    let execution = client.execute("SELECT * FROM tpch.sf1.lineitem").await.unwrap();
    let mut rows = client.fetch(&execution).await.unwrap();
    let first = rows.try_next().await.unwrap().expect("a first batch");
    assert!(first.num_rows() > 0);
    let report = client.job(execution.job().unwrap()).await.unwrap();
    assert_eq!(report.state(), JobState::Running);
    assert!(report.stages.last().is_some_and(|root| root.tasks_done < root.tasks), "{report:?}");
    client.cancel(&execution).await.unwrap();
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_the_same_sealed_and_eager() {
    let (cluster, client) = cluster(2, 1).await;
    assert!(shown(&client, "SHOW volley.results").await.contains("eager"));
    let sql =
        "SELECT l_orderkey, l_linenumber, l_comment FROM tpch.sf0_01.lineitem WHERE l_quantity < 10 ORDER BY l_orderkey, l_linenumber";
    let eager = shown(&client, sql).await;
    run(&client, "SET volley.results = 'sealed'").await.unwrap();
    assert_eq!(shown(&client, sql).await, eager);
    assert!(eager.lines().count() > 1000);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_mid_result_is_the_querys_own() {
    let (cluster, client) = cluster(1, 1).await;
    // The last rows of the series divide by zero.
    let sql = "SELECT value, 1 / (value - 3000000) AS x FROM generate_series(1, 3000000)";
    let error = run(&client, sql).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("divide by zero"), "{error}");
    cluster.shutdown().await.unwrap();
}
