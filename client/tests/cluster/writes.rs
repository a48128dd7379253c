//! A write that is decided is completed, and its client is told not to repeat it.

use std::fs;
use std::time::Duration;

use tonic::Code;
use volley_client::ClientError;

use super::{cluster, run, shown};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_yet_is_published_later() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.parquet");
    let (cluster, client) = cluster(1, 1).await;
    let location = target.display();
    let copy = format!("COPY (SELECT sum(value % 7) AS s FROM generate_series(1, 30000000)) TO '{location}' STORED AS PARQUET");
    let staged = || fs::read_dir(folder.path()).unwrap().next().is_some();
    let obstruct = async {
        while !staged() {
            tokio::task::yield_now().await;
        }
        // A directory with something in it stands where the file is to go: no rename can replace that.
        fs::create_dir(&target).unwrap();
        fs::write(target.join("in the way"), "").unwrap();
    };
    let (written, ()) = tokio::join!(run(&client, &copy), obstruct);
    let error = written.unwrap_err();
    let ClientError::Query { code, message } = error else { panic!("{error}") };
    assert_eq!(code, Code::FailedPrecondition, "{message}");
    assert!(message.contains("the write is decided") && message.contains("do not run the statement again"), "{message}");

    let again = run(&client, &format!("COPY (SELECT 1 AS s) TO '{location}/' STORED AS PARQUET")).await.unwrap_err().to_string();
    assert!(again.contains("is decided but not published yet"), "it would be replaced by the late one: {again}");

    fs::remove_dir_all(&target).unwrap();
    let published = async {
        while !target.is_file() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.expect("it is published soon");
    run(&client, &format!("CREATE EXTERNAL TABLE written STORED AS PARQUET LOCATION '{location}'")).await.unwrap();
    assert!(shown(&client, "SELECT s FROM written").await.contains("89999997"));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["out.parquet"], "nothing staged is left");
    cluster.shutdown().await.unwrap();
}
