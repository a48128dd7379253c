//! Limits of time.

use volley_client::FlightClient;

use super::{PATIENCE, cluster, lives, session, show, value};

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_take_too_long_to_plan_fail_and_others_go_on() {
    let cluster = cluster().await;
    let session = session(&cluster).await;
    show(&session, "SET volley.planning_timeout_ms = 1").await.unwrap();
    let slow = format!("SELECT sum({}) FROM tpch.sf0_01.region", vec!["r_regionkey"; 2_000].join(" + "));
    let failed = futures::future::join_all((0..20).map(|_| show(&session, &slow))).await;
    for result in failed {
        let error = result.unwrap_err();
        let expected = error.starts_with("planning took longer than 1ms: simplify the statement, or raise volley.planning_timeout_ms")
            || error.starts_with("too many statements are being planned");
        assert!(expected, "{error}");
    }
    lives(&cluster).await;
    created_or_not(&session).await;
    cluster.shutdown().await.unwrap();
}

/// A view that was not made in time is not made later.
async fn created_or_not(session: &FlightClient) {
    let slow = format!("CREATE VIEW late AS SELECT sum({}) AS s FROM tpch.sf0_01.region", vec!["r_regionkey"; 2_000].join(" + "));
    show(session, &slow).await.unwrap_err();
    // The threads end what nobody waits for, and up to then none may be free within the millisecond that this has.
    let set = async { while show(session, "SET volley.planning_timeout_ms = 60000").await.is_err() {} };
    tokio::time::timeout(PATIENCE, set).await.unwrap();
    let error = value(session, "SELECT s FROM late").await.unwrap_err();
    assert!(error.contains("table 'late' not found"), "{error}");
}
