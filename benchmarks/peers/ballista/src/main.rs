//! Ballista as a peer: a client, and child processes that are the scheduler and executors of one virtual core each.

mod executor;
mod scheduler;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::BALLISTA_VERSION;
use clap::Parser;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use peer_protocol::Flags;
use peer_protocol::children::{Children, free_port, listens};
use peer_protocol::protocol::Ready;
use peer_protocol::session::{answer, register, runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ballista behind the line protocol: as many executors of one virtual core as --threads says.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Where the executors' folder for shuffles and spills is made [default: the folder for temporary files].
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Partitions of a query's plan. The default is Ballista's.
    #[arg(long, default_value_t = 16)]
    partitions: usize,
    /// Largest gRPC message, in MiB, in all processes. Ballista's default, 16, fails TPC-H query 10 at scale 10.
    #[arg(long, default_value_t = 128)]
    message_mib: u32,
}

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("scheduler") => scheduler::run(scheduler::Arguments::parse_from(std::env::args().skip(1))),
        Some("executor") => executor::run(executor::Arguments::parse_from(std::env::args().skip(1))),
        _ => client(&Arguments::parse()),
    }
}

fn client(arguments: &Arguments) -> Result<()> {
    let Arguments { flags, work_dir, partitions, message_mib } = arguments;
    let executors = flags.threads();
    let place = work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let place = std::path::absolute(&place)?;
    // Dropped after the children, which write there.
    let folder = tempfile::Builder::new().prefix("ballista-").tempdir_in(&place);
    let folder = folder.with_context(|| format!("can't make a folder in {}", place.display()))?;
    let mut children = Children::default();
    let scheduler = start(&mut children, executors, folder.path(), *message_mib)?;

    let config = SessionConfig::new_with_ballista()
        .with_target_partitions(*partitions)
        .with_ballista_grpc_client_max_message_size(bytes(*message_mib) as usize);
    let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    let runtime = runtime(executors)?;
    let url = format!("df://{}:{scheduler}", Ipv4Addr::LOCALHOST);
    let context = runtime.block_on(SessionContext::remote_with_state(&url, state))?;
    runtime.block_on(register(&context, &flags.data))?;

    let engine = format!(
        "Ballista {BALLISTA_VERSION} on DataFusion {}, {executors} executors x 1 vcore, a scheduler and a client: target_partitions={partitions}, \
         gRPC messages of up to {message_mib} MiB, work dir in {}",
        datafusion::DATAFUSION_VERSION,
        place.display()
    );
    answer(&runtime, &context, &Ready { engine, pids: children.pids() })
}

/// Starts the scheduler, whose port it returns, and the executors.
fn start(children: &mut Children, executors: usize, folder: &std::path::Path, message_mib: u32) -> Result<u16> {
    let port = free_port()?;
    let (scheduler, message) = (port.to_string(), message_mib.to_string());
    children.start(&["scheduler", "--port", &scheduler, "--executors", &executors.to_string(), "--message-mib", &message])?;
    // An executor that finds no scheduler gives up.
    children.wait("the scheduler", || listens(port))?;
    for executor in 0..executors {
        let work_dir = folder.join(executor.to_string());
        std::fs::create_dir(&work_dir)?;
        let work_dir = work_dir.to_str().context("the work dir is not Unicode")?;
        let (flight, grpc) = (free_port()?.to_string(), free_port()?.to_string());
        children.start(&[
            "executor",
            "--scheduler",
            &scheduler,
            "--flight-port",
            &flight,
            "--grpc-port",
            &grpc,
            "--work-dir",
            work_dir,
            "--message-mib",
            &message,
        ])?;
    }
    children.wait("every executor", || scheduler::is_ready(port).unwrap_or(false))?;
    Ok(port)
}

/// MiB as the bytes that gRPC settings take.
fn bytes(mib: u32) -> u32 {
    mib.saturating_mul(1024 * 1024)
}
