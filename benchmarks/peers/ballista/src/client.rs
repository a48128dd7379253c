//! The client: plans queries, has the scheduler run them, and fetches the rows from the executors.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::BALLISTA_VERSION;
use clap::Parser;
use datafusion::DATAFUSION_VERSION;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use peer_datafusion::Session;
use peer_protocol::{Hello, PeerArgs, PeerError, Result, find_tables, serve_stdio};

use crate::MESSAGE_BYTES;
use crate::cluster::Cluster;

/// Ballista with an executor of one virtual core for each of `--threads`, as a peer of `volley-bench compare`
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerArgs,
    /// Folder for a folder of shuffles and spills, which is removed at the end; the system's temporary folder where not given
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Partitions of a shuffle; as many as Ballista chooses by default where not given
    #[arg(long, value_name = "N")]
    partitions: Option<NonZeroUsize>,
}

/// Starts the cluster and answers questions.
pub(crate) fn run() -> Result<()> {
    let Flags { peer, work_dir, partitions } = Flags::parse();
    let executors = peer.threads.get();
    let tables = find_tables(&peer.data)?;
    let cluster = Cluster::start(executors, work_dir.as_deref())?;
    let mut config = SessionConfig::new_with_ballista().with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize);
    if let Some(partitions) = partitions {
        config = config.with_target_partitions(partitions.get());
    }
    let engine = format!(
        "Ballista {BALLISTA_VERSION} (DataFusion {DATAFUSION_VERSION}), {executors} executor processes of 1 vcore and a scheduler process, \
         {} partitions, work dir {}, gRPC messages up to {} MiB, 70 % of memory over all executors, everything else as by default \
         (push-staged, adaptive planner)",
        config.target_partitions(),
        cluster.folder().display(),
        MESSAGE_BYTES >> 20,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("client").build();
    let runtime = runtime.map_err(PeerError::at("starting the client's threads"))?;
    let session = runtime.block_on(async {
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        let context = SessionContext::remote_with_state(&cluster.url(), state).await.map_err(PeerError::at(cluster.url()))?;
        Session::open(context, &tables).await
    })?;
    let pids = cluster.pids().chain([std::process::id()]).collect();
    serve_stdio(&runtime, session, &Hello { engine, pids })
}
