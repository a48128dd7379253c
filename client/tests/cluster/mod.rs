//! What an embedded cluster, which is the same scheduler and executors as everywhere, does with statements.

mod measures;
mod results;
mod waves;
mod writes;

use std::num::NonZeroUsize;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use volley_client::{EmbeddedCluster, EmbeddedOptions, FlightClient, JobSummary, Result};

const MIB: usize = 1 << 20;

/// A cluster whose plans are always cut, and a session on it.
async fn cluster(executors: usize, slots: usize) -> (EmbeddedCluster, FlightClient) {
    cluster_of(EmbeddedOptions {
        executors: NonZeroUsize::new(executors),
        slots: NonZeroUsize::new(slots),
        memory_bytes: Some(256 * MIB),
        ..Default::default()
    })
    .await
}

async fn cluster_of(options: EmbeddedOptions) -> (EmbeddedCluster, FlightClient) {
    let cluster = EmbeddedCluster::start(&options).await.unwrap();
    let client = FlightClient::connect(cluster.url()).await.unwrap();
    run(&client, "SET volley.fit = 'never'").await.unwrap();
    (cluster, client)
}

/// A statement's rows, and what its job did, if it had one.
async fn run(client: &FlightClient, sql: &str) -> Result<(Vec<RecordBatch>, Option<JobSummary>)> {
    let execution = client.execute(sql).await?;
    let rows = client.fetch(&execution).await?.try_collect().await?;
    let report = match execution.job() {
        Some(job) => client.job(job).await.ok().map(JobSummary::from),
        None => None,
    };
    Ok((rows, report))
}

async fn shown(client: &FlightClient, sql: &str) -> String {
    pretty_format_batches(&run(client, sql).await.unwrap().0).unwrap().to_string()
}

/// The text of an explanation: the last line's second column.
async fn explained(client: &FlightClient, sql: &str) -> String {
    let (rows, _) = run(client, sql).await.unwrap();
    let text = rows[0].column(1).as_string::<i32>();
    text.value(text.len() - 1).to_owned()
}
