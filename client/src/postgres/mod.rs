//! PostgreSQL's wire protocol in front of a scheduler, so that psql, drivers and BI tools connect.
//!
//! ```text
//! psql ──PostgreSQL──> Gateway ──Flight SQL──> scheduler
//! ```
//!
//! Each connection has a session of its own at the scheduler, over the same interface as every other client, so that settings, cancelling,
//! restarts and reports are as for those. What a statement is for decides where it is run ([`session`]): PostgreSQL's settings, transactions
//! and [`catalog`] are answered here, all else goes to the cluster.

mod cancel;
mod catalog;
mod connection;
mod encode;
mod error;
mod flight;
mod parameters;
mod prepared;
mod running;
mod session;
mod settings;
mod socket;
mod startup;
mod statement;
mod transaction;
mod types;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use pgwire::messages::PgWireBackendMessage;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::cancel::Connections;
use self::connection::Connection;
use self::error::{Refusal, Stop, state};
use crate::error::{ClientError, Result};

/// Most connections at once.
const MOST_CONNECTIONS: usize = 1000;
/// After an error of the listener, until it is asked again: what is wrong, such as too many open files, may pass.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// How long connections may take to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// A listener for PostgreSQL's clients. [`Gateway::shutdown`] ends it in order; dropping it ends it at once.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

impl Gateway {
    /// Listens at `address`, port 0 for any free one, for clients of the scheduler at `url`.
    ///
    /// # Errors
    /// [`ClientError::Cluster`] where it can't listen there: the port is taken, or the address is not this machine's.
    pub async fn start(address: SocketAddr, url: &str) -> Result<Self> {
        let failed = |error: io::Error| ClientError::Cluster(format!("can't listen for PostgreSQL clients on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopping = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, url.into(), stopping.clone()));
        Ok(Self { address, stopping, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more clients, and tells those that are there to leave; what they run is cancelled.
    pub async fn shutdown(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(LEAVE_WITHIN, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.serving.abort();
    }
}

/// Takes clients until told to stop, then waits for those that are there.
async fn serve(listener: TcpListener, url: Arc<str>, stopping: CancellationToken) {
    let (connections, places) = (Arc::new(Connections::default()), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = serving.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (url, connections, stopping) = (Arc::clone(&url), Arc::clone(&connections), stopping.clone());
                let place = Arc::clone(&places).try_acquire_owned().ok();
                serving.spawn(async move {
                    converse(stream, &url, &connections, place.is_some(), stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no PostgreSQL client can be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    drop(listener);
    while serving.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, url: &str, connections: &Arc<Connections>, has_place: bool, stopping: CancellationToken) {
    // Answers are gathered already.
    let _ = stream.set_nodelay(true);
    let (mut socket, gone) = socket::messages(stream);
    let greeted = tokio::select! {
        () = stopping.cancelled() => return,
        greeted = tokio::time::timeout(startup::STARTUP_TIMEOUT, startup::greet(&mut socket, url, connections)) => greeted,
    };
    let refused = match greeted {
        Ok(Ok(Some((session, named)))) if has_place => return Connection::new(socket, session, named).serve(gone, stopping).await,
        Ok(Ok(Some(_))) => Refusal::new(state::TOO_MANY_CLIENTS, "sorry, too many clients already"),
        Ok(Err(Stop::Refused(refusal))) => *refusal,
        Ok(Ok(None) | Err(Stop::Gone)) | Err(_) => return,
    };
    // It may have left already.
    let _ = socket.send(PgWireBackendMessage::ErrorResponse(refused.into_info("FATAL").into())).await;
}
