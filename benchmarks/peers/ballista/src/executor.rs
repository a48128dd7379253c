//! An executor of one virtual core.

use std::fs::{remove_dir, remove_dir_all};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use clap::Parser;
use peer_protocol::{PeerError, Result, end_with_parent, role_arguments, say};

use crate::MESSAGE_BYTES;

/// The role of a child that is an executor.
pub(crate) const ROLE: &str = "executor";

/// Ballista's executor
#[derive(Debug, Parser)]
struct Flags {
    /// The scheduler's port
    #[arg(long)]
    scheduler: u16,
    /// Folder of its own for shuffles and spills, in one that all executors share
    #[arg(long)]
    work_dir: PathBuf,
    /// The part of the machine's memory that its operators may take
    #[arg(long)]
    memory: f64,
}

/// Works until the client is gone. The line that it says means only that it runs: the scheduler knows when it is there.
pub(crate) fn run() -> Result<()> {
    let Flags { scheduler, work_dir, memory } = Flags::parse_from(role_arguments());
    let shown = work_dir.to_str().ok_or_else(|| PeerError::new(work_dir.display().to_string(), "its name is no UTF-8"))?.to_owned();
    std::fs::create_dir_all(&work_dir).map_err(PeerError::at(shown.clone()))?;
    let config = ExecutorProcessConfig {
        port: free_port()?,
        grpc_port: free_port()?,
        scheduler_host: Ipv4Addr::LOCALHOST.to_string(),
        scheduler_port: scheduler,
        vcores: 1,
        work_dir: Some(shown),
        memory_pool_fraction: memory,
        grpc_max_decoding_message_size: MESSAGE_BYTES,
        grpc_max_encoding_message_size: MESSAGE_BYTES,
        ..ExecutorProcessConfig::default()
    };
    end_with_parent(move || remove(&work_dir));
    say("started")?;
    // As many threads as Ballista's own program has; those that run tasks are others, one for each virtual core.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(PeerError::at("starting the executor's threads"))?;
    runtime.block_on(start_executor_process(Arc::new(config))).map_err(PeerError::at("working"))
}

/// The client removes the folder of all executors, but not where it is killed: then the last executor does.
fn remove(work_dir: &Path) {
    drop(remove_dir_all(work_dir));
    if let Some(shared) = work_dir.parent() {
        // It fails while others have their folders there.
        drop(remove_dir(shared));
    }
}

/// A port that nobody has at this moment. An executor has to know its ports before it listens, since it tells them to the scheduler.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(PeerError::at("a free port"))?;
    Ok(listener.local_addr().map_err(PeerError::at("a free port"))?.port())
}
