//! What no query should be made of, on an embedded cluster: an answer or one clear error, and the cluster lives.

mod deep;
mod files;
mod limits;

use std::num::NonZeroUsize;
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use volley_client::{EmbeddedCluster, EmbeddedOptions, FlightClient};

/// Long enough for a busy machine, short enough to tell a hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// Two executors of one slot.
async fn cluster() -> EmbeddedCluster {
    let memory = 256 << 20;
    EmbeddedCluster::start(&EmbeddedOptions {
        executors: NonZeroUsize::new(2),
        slots: NonZeroUsize::new(1),
        memory_bytes: Some(memory),
        ..Default::default()
    })
    .await
    .unwrap()
}

async fn session(cluster: &EmbeddedCluster) -> FlightClient {
    FlightClient::connect(cluster.url()).await.unwrap()
}

/// The rows of a statement as text, or its error.
async fn show(session: &FlightClient, sql: &str) -> Result<String, String> {
    let rows = async {
        let execution = session.execute(sql).await?;
        session.fetch(&execution).await?.try_collect::<Vec<_>>().await
    };
    let rows = tokio::time::timeout(PATIENCE, rows).await.unwrap_or_else(|_| panic!("no answer: {}", &sql[..sql.len().min(200)]));
    Ok(pretty_format_batches(&rows.map_err(|error| error.to_string())?).unwrap().to_string())
}

/// The one value of a statement.
async fn value(session: &FlightClient, sql: &str) -> Result<String, String> {
    let shown = show(session, sql).await?;
    let cell = shown.lines().nth(3).unwrap_or_default();
    Ok(cell.trim_matches(['|', ' ']).to_owned())
}

/// The cluster still answers, in a session of its own.
async fn lives(cluster: &EmbeddedCluster) {
    assert_eq!(value(&session(cluster).await, "SELECT 1").await.unwrap(), "1");
}
