//! An executor process.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use clap::Parser;
use peer_protocol::children::end_with_parent;
use tokio::runtime::Builder;

use crate::bytes;

#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    #[arg(long)]
    scheduler: u16,
    #[arg(long)]
    flight_port: u16,
    #[arg(long)]
    grpc_port: u16,
    #[arg(long)]
    work_dir: String,
    #[arg(long)]
    message_mib: u32,
}

/// Runs an executor of one virtual core for as long as the client lives.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    end_with_parent();
    let config = ExecutorProcessConfig {
        port: arguments.flight_port,
        grpc_port: arguments.grpc_port,
        scheduler_host: Ipv4Addr::LOCALHOST.to_string(),
        scheduler_port: arguments.scheduler,
        vcores: 1,
        work_dir: Some(arguments.work_dir),
        grpc_max_decoding_message_size: bytes(arguments.message_mib),
        grpc_max_encoding_message_size: bytes(arguments.message_mib),
        ..ExecutorProcessConfig::default()
    };
    // The runtime of Ballista's own program. It serves shuffles; tasks run in another, of as many threads as virtual cores.
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.context("can't start threads")?.block_on(start_executor_process(Arc::new(config)))?;
    Ok(())
}
