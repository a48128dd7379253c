//! What a scheduler is given.

use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use volley_sql::extension::Extensions;

use super::SchedulerError;
use crate::config::{Config, StateLocation};
use crate::store::{EtcdStore, FileStore, MemoryStore, StateStore, StoreError};

/// What a scheduler is made of beside its settings. What is not given is made as the settings say.
#[derive(Debug, Clone, Default)]
pub struct Components {
    /// Where state is kept.
    pub store: Option<Arc<dyn StateStore>>,
    /// What plans are made with: object stores, and caches of footers and statistics.
    pub runtime: Option<Arc<RuntimeEnv>>,
    /// A program's own functions, tables and operators.
    pub extensions: Extensions,
    /// Told the name of the scheduler that leads while this one stands by, which [`Scheduler::start`](super::Scheduler::start) waits for.
    pub standing_by: Option<fn(&str)>,
}

impl Components {
    /// The store, opened where none is given.
    pub(super) async fn store(&self, config: &Config) -> Result<Arc<dyn StateStore>, SchedulerError> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let folder = match &config.state {
            StateLocation::Memory => return Ok(Arc::new(MemoryStore::new())),
            StateLocation::Directory(folder) => folder.clone(),
            StateLocation::Etcd(location) => {
                let tell = self.standing_by.unwrap_or(|leader| tracing::info!(leader, "standing by"));
                let name = format!("the scheduler on {} (process {})", config.listen, std::process::id());
                return Ok(Arc::new(EtcdStore::open(location, &name, config.leader_timeout, tell).await?));
            }
        };
        let opened = tokio::task::spawn_blocking(move || FileStore::open(&folder)).await;
        let opened = opened.map_err(|error| StoreError::Interrupted { why: error.to_string() })?;
        Ok(Arc::new(opened?))
    }
}
