//! Plain DataFusion in one process, as it is by default: the yardstick of the engines that are built on it.

use std::process::ExitCode;

use clap::Parser;
use datafusion::DATAFUSION_VERSION;
use datafusion::prelude::{SessionConfig, SessionContext};
use peer_datafusion::Session;
use peer_protocol::{Hello, PeerArgs, PeerError, Result, exit, find_tables, serve_stdio};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plain DataFusion as a peer of `volley-bench compare`
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerArgs,
}

fn main() -> ExitCode {
    exit(run(&Flags::parse().peer))
}

fn run(args: &PeerArgs) -> Result<()> {
    let threads = args.threads.get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().thread_name("datafusion").build();
    let runtime = runtime.map_err(PeerError::at(format!("starting {threads} threads")))?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
    let session = runtime.block_on(Session::open(context, &find_tables(&args.data)?))?;
    let engine = format!("DataFusion {DATAFUSION_VERSION}, {threads} threads and partitions, otherwise as by default");
    serve_stdio(&runtime, session, &Hello { engine, pids: vec![std::process::id()] })
}
