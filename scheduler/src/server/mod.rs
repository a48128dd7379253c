//! A scheduler from start to shutdown: everything is made, wired and taken down here.

mod components;
mod handle;
mod parts;
mod run;

use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use volley_proto::Failure;

use crate::config::{Config, StateLocation};
use crate::net::{self, ListenError};
use crate::sessions::UsersError;
use crate::store::{StateStore, StoreError};

pub use components::Components;
pub use handle::SchedulerHandle;
use handle::report;
use parts::Parts;
use run::{Listeners, Probes};

/// Why a scheduler can't start.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The state can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog can't be read.
    #[error("the catalog can't be read: {0}")]
    Catalog(Failure),
    /// The session that all sessions are made from can't be made.
    #[error("the session template can't be made: {0}")]
    Session(#[from] datafusion::error::DataFusionError),
    /// The file of users can't be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The system has no thread or no random number for us.
    #[error("can't {action}: {source}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler;

impl Scheduler {
    /// Starts a scheduler in this process, on the current tokio runtime. It accepts connections when this returns.
    pub async fn start(config: Config, components: Components) -> Result<SchedulerHandle, SchedulerError> {
        let stop = CancellationToken::new();
        // Whatever comes of a start that fails or is given up, nothing stays behind.
        let guard = stop.clone().drop_guard();
        let mut listener = net::listen("--listen", config.listen).await?;
        let probes = match config.http {
            Some(http) => Some(Probes::serve(net::listen("--http", http).await?, stop.clone())),
            None => None,
        };
        let store = if matches!(config.state, StateLocation::Etcd(_)) {
            // Who stands by does not listen, so that clients and executors find the one that leads.
            drop(listener);
            let store = components.store(&config).await?;
            listener = net::listen("--listen", config.listen).await?;
            store
        } else {
            components.store(&config).await?
        };
        let begun = Self::begin(config, components, Arc::clone(&store), Listeners::new(listener, probes), stop).await;
        match begun {
            Ok(scheduler) => {
                guard.disarm();
                Ok(scheduler)
            }
            Err(error) => {
                // Another scheduler may do better.
                report("the state store", tokio::task::spawn_blocking(move || store.close()).await);
                Err(error)
            }
        }
    }

    /// Reads the state, goes on with what is in it, and serves.
    async fn begin(
        config: Config,
        components: Components,
        store: Arc<dyn StateStore>,
        listeners: Listeners,
        stop: CancellationToken,
    ) -> Result<SchedulerHandle, SchedulerError> {
        let address = listeners.address(&config)?;
        let parts = Parts::open(&config, components, store, stop).await?;
        Ok(parts.run(&config, address, listeners))
    }
}
