//! The coordinator: plans queries, has the workers run their stages, and runs the last stage itself.

use std::num::NonZeroUsize;

use clap::Parser;
use datafusion::DATAFUSION_VERSION;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::{DistributedExt, SessionStateBuilderExt, WorkerResolver};
use peer_datafusion::Session;
use peer_protocol::{Child, Hello, PeerArgs, PeerError, Result, find_tables, serve_stdio};
use url::Url;

use crate::worker;

/// datafusion-distributed with one process of one thread for each of `--threads`, as a peer of `volley-bench compare`
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerArgs,
    /// Partitions of a stage in each worker; as many as there are workers where not given
    #[arg(long, value_name = "N")]
    partitions: Option<NonZeroUsize>,
}

/// The workers of one machine, which neither come nor go.
struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> DataFusionResult<Vec<Url>> {
        Ok(self.0.clone())
    }
}

/// Starts the workers and answers questions.
pub(crate) fn run() -> Result<()> {
    let Flags { peer, partitions } = Flags::parse();
    let workers = peer.threads.get();
    let partitions = partitions.unwrap_or(peer.threads).get();
    let tables = find_tables(&peer.data)?;
    let children = (0..workers).map(|_| Child::start::<&str>(worker::ROLE, [])).collect::<Result<Vec<_>>>()?;
    let urls = children.iter().map(url).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().thread_name("coordinator").build();
    let runtime = runtime.map_err(PeerError::at(format!("starting {workers} threads")))?;
    let session = runtime.block_on(Session::open(context(Workers(urls), partitions), &tables))?;
    let engine = format!(
        "datafusion-distributed 4.0 (DataFusion {DATAFUSION_VERSION}), {workers} worker processes of 1 thread, {partitions} partitions in each, \
         coordinator with {workers} threads in a process of its own, everything else as by default (16 MiB a partition, lz4, broadcast joins, \
         static task counts)"
    );
    let pids = children.iter().map(Child::id).chain([std::process::id()]).collect();
    serve_stdio(&runtime, session, &Hello { engine, pids })
}

fn url(worker: &Child) -> Result<Url> {
    Url::parse(&format!("http://127.0.0.1:{}", worker.said())).map_err(PeerError::at(format!("the worker's port {:?}", worker.said())))
}

fn context(workers: Workers, partitions: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions);
    let state = SessionStateBuilder::new().with_default_features().with_config(config);
    SessionContext::from(state.with_distributed_planner().with_distributed_worker_resolver(workers).build())
}
