//! DataFusion Distributed as a peer: a coordinator, and workers that are child processes of one thread each.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::Parser;
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::{DistributedExt, SessionStateBuilderExt, Worker, WorkerResolver};
use peer_protocol::Flags;
use peer_protocol::children::{Children, end_with_parent, free_port, listens};
use peer_protocol::protocol::Ready;
use peer_protocol::session::{answer, register, runtime};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use url::Url;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What Cargo.toml pins: the crate has no constant for it.
const VERSION: &str = "4.0.0";

/// DataFusion Distributed behind the line protocol: as many workers of one thread as --threads says.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Partitions of each task, which is a worker's part of a stage. With 1, DataFusion plans no exchange, so that nothing is distributed.
    #[arg(long, default_value_t = 2)]
    partitions: usize,
}

/// The role of a child.
#[derive(Debug, Parser)]
struct WorkerArguments {
    #[arg(long)]
    port: u16,
}

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => work(&WorkerArguments::parse_from(std::env::args().skip(1))),
        _ => coordinate(&Arguments::parse()),
    }
}

fn work(arguments: &WorkerArguments) -> Result<()> {
    end_with_parent();
    runtime(1)?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
        let server = Server::builder().add_service(Worker::default().into_worker_server());
        Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
    })
}

fn coordinate(arguments: &Arguments) -> Result<()> {
    let (workers, partitions) = (arguments.flags.threads(), arguments.partitions);
    let mut children = Children::default();
    let ports = (0..workers).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    for port in &ports {
        children.start(&["worker", "--port", &port.to_string()])?;
    }
    children.wait("every worker", || ports.iter().all(|port| listens(*port)))?;

    let urls = ports.iter().map(|port| Url::parse(&format!("http://{}:{port}", Ipv4Addr::LOCALHOST))).collect::<Result<_, _>>()?;
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_distributed_worker_resolver(Workers(urls))
        .with_distributed_planner()
        .build();
    let context = SessionContext::new_with_state(state);
    let runtime = runtime(1)?;
    runtime.block_on(register(&context, &arguments.flags.data))?;

    let engine = format!(
        "DataFusion Distributed {VERSION} on DataFusion {}, {workers} workers x 1 thread and a coordinator of 1 thread: \
         target_partitions={partitions} in each task",
        datafusion::DATAFUSION_VERSION
    );
    answer(&runtime, &context, &Ready { engine, pids: children.pids() })
}

/// The workers, which stay the same.
struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> DataFusionResult<Vec<Url>> {
        Ok(self.0.clone())
    }
}
