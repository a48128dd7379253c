//! A worker: a gRPC server that runs its share of each stage, on one thread.

use std::net::Ipv4Addr;

use datafusion_distributed::Worker;
use peer_protocol::{PeerError, Result, end_with_parent, say};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// The role of a child that is a worker.
pub(crate) const ROLE: &str = "worker";

/// Serves until the coordinator is gone. The line that it says is its port.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_name("worker").build();
    runtime.map_err(PeerError::at("starting the worker's thread"))?.block_on(serve())
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(PeerError::at("listening on a free port"))?;
    let port = listener.local_addr().map_err(PeerError::at("the worker's port"))?.port();
    end_with_parent(|| {});
    say(port)?;
    // `Server::serve` would do the same with a fixed port: small messages are not to wait for acknowledgements.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder().add_service(Worker::default().into_worker_server()).serve_with_incoming(incoming).await;
    served.map_err(PeerError::at("serving"))
}
