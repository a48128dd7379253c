//! The scheduler: a gRPC server on a free port.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use clap::Parser;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use peer_protocol::{PeerError, Result, end_with_parent, role_arguments, say};
use tokio::net::TcpListener;

use crate::MESSAGE_BYTES;

/// The role of the child that is the scheduler.
pub(crate) const ROLE: &str = "scheduler";
/// The stack of its threads is as large as in Ballista's own program.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Ballista's scheduler
#[derive(Debug, Parser)]
struct Flags {
    /// Executors without which it is not ready
    #[arg(long)]
    executors: usize,
}

/// Serves until the client is gone. The line that it says is its port.
pub(crate) fn run() -> Result<()> {
    let Flags { executors } = Flags::parse_from(role_arguments());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build();
    runtime.map_err(PeerError::at("starting the scheduler's threads"))?.block_on(serve(executors))
}

async fn serve(executors: usize) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(PeerError::at("listening on a free port"))?;
    let port = listener.local_addr().map_err(PeerError::at("the scheduler's port"))?.port();
    let config = SchedulerConfig {
        min_ready_executors: executors,
        external_host: Ipv4Addr::LOCALHOST.to_string(),
        bind_port: port,
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(PeerError::at("the scheduler's state"))?;
    let scheduler = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, Arc::new(config)).await;
    let scheduler = scheduler.map_err(PeerError::at("starting the scheduler"))?;
    end_with_parent(|| {});
    say(port)?;
    start_grpc_service_with_listener(listener, scheduler).await.map_err(PeerError::at("serving"))
}
