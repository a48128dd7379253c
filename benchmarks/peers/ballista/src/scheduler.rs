//! The scheduler process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use clap::Parser;
use peer_protocol::children::end_with_parent;
use tokio::runtime::Builder;

use crate::bytes;

#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    executors: usize,
    #[arg(long)]
    message_mib: u32,
}

/// Runs a scheduler for as long as the client lives.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    end_with_parent();
    let config = SchedulerConfig {
        external_host: Ipv4Addr::LOCALHOST.to_string(),
        bind_port: arguments.port,
        min_ready_executors: arguments.executors,
        grpc_server_max_decoding_message_size: bytes(arguments.message_mib),
        grpc_server_max_encoding_message_size: bytes(arguments.message_mib),
        grpc_client_max_message_size: bytes(arguments.message_mib),
        ..SchedulerConfig::default()
    };
    // The runtime of Ballista's own program.
    let runtime = Builder::new_multi_thread().enable_all().thread_stack_size(32 * 1024 * 1024).build();
    runtime.context("can't start threads")?.block_on(async {
        let cluster = BallistaCluster::new_from_config(&config).await?;
        Ok(start_server(cluster, SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)), Arc::new(config)).await?)
    })
}

/// Asks a scheduler whether all its executors are there.
pub(crate) fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
