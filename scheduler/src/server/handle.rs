//! A scheduler that runs, and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use volley_proto::Term;

use super::SchedulerError;
use crate::driver::Inbox;
use crate::executors::Executors;
use crate::state::Cluster;
use crate::store::{StateStore, StoreError};

/// A scheduler that runs. Dropped, it stops at once; [`SchedulerHandle::shutdown`] lets streams end.
#[derive(Debug)]
pub struct SchedulerHandle {
    pub(super) address: SocketAddr,
    pub(super) http: Option<SocketAddr>,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) inbox: Inbox,
    pub(super) executors: Arc<Executors>,
    pub(super) stop: CancellationToken,
    /// Stops the driver alone; cancelled with `stop`.
    pub(super) halt: CancellationToken,
    pub(super) grace: Duration,
    pub(super) driver: JoinHandle<()>,
    pub(super) server: JoinHandle<Result<(), tonic::transport::Error>>,
    pub(super) probes: Option<JoinHandle<io::Result<()>>>,
    pub(super) housekeeping: JoinHandle<()>,
}

impl SchedulerHandle {
    /// Where clients and executors connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes are answered.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// This start's term.
    pub fn term(&self) -> Term {
        self.store.term()
    }

    /// Executors that take tasks at this moment.
    pub async fn live_executors(&self) -> usize {
        let live = |cluster: &Cluster| cluster.executors().iter().filter(|executor| executor.state.takes_tasks()).count();
        self.inbox.ask(live).await.unwrap_or(0)
    }

    /// Stops: no new connection is taken, open streams get some time to end, then everything is down.
    pub async fn shutdown(mut self) -> Result<(), SchedulerError> {
        // The driver holds the journal, whose last records are on disk when it is gone. What waits for them is said to executors, which
        // may be leaving too and would keep what nobody needs any more.
        self.halt.cancel();
        report("the driver", (&mut self.driver).await);
        self.stop.cancel();
        self.executors.close_all();
        if tokio::time::timeout(self.grace, &mut self.server).await.is_err() {
            self.server.abort();
        }
        report("housekeeping", (&mut self.housekeeping).await);
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
        let store = Arc::clone(&self.store);
        report("the state store", tokio::task::spawn_blocking(move || store.close()).await);
        Ok(())
    }

    /// Waits until the scheduler ends by itself, which is an error.
    pub async fn join(&mut self) -> Result<(), SchedulerError> {
        let ended = |source| SchedulerError::System { action: "go on serving", source };
        let deposed = self.store.deposed();
        tokio::select! {
            () = deposed.cancelled() => {
                // At once: what it would still say to executors and clients is not for it to say.
                self.stop.cancel();
                self.executors.close_all();
                Err(StoreError::Deposed { leader: None }.into())
            }
            result = &mut self.server => match result {
                Ok(served) => served.map_err(|error| ended(io::Error::other(error))),
                Err(error) => Err(ended(io::Error::other(error))),
            },
            result = &mut self.driver => Err(ended(io::Error::other(format!("the driver ended: {result:?}")))),
        }
    }
}

impl Drop for SchedulerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.executors.close_all();
        self.server.abort();
    }
}

/// Says what ended badly.
pub(super) fn report(what: &str, end: Result<(), tokio::task::JoinError>) {
    if let Err(error) = end
        && !error.is_cancelled()
    {
        tracing::error!(%error, "{what} did not end well");
    }
}
