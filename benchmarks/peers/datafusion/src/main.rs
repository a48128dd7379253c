//! Plain DataFusion as a peer.

use anyhow::Result;
use clap::Parser;
use datafusion::DATAFUSION_VERSION;
use datafusion::prelude::{SessionConfig, SessionContext};
use peer_protocol::Flags;
use peer_protocol::protocol::Ready;
use peer_protocol::session::{answer, register, runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plain DataFusion behind the line protocol.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Partitions of a query's plan [default: as many as threads].
    #[arg(long)]
    partitions: Option<usize>,
}

fn main() -> Result<()> {
    let Arguments { flags, partitions } = Arguments::parse();
    let threads = flags.threads();
    let partitions = partitions.unwrap_or(threads);
    let runtime = runtime(threads)?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    runtime.block_on(register(&context, &flags.data))?;
    let engine = format!("DataFusion {DATAFUSION_VERSION}, {threads} threads: target_partitions={partitions}");
    answer(&runtime, &context, &Ready { engine, pids: vec![std::process::id()] })
}
