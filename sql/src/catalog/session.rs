//! The catalogs of one session.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList};
use datafusion::execution::context::SessionState;
use parking_lot::RwLock;

use super::generated::{GeneratedCatalog, Suite};
use super::temporary::WithTemporary;
use super::{ClusterCatalog, DEFAULT_CATALOG};

/// What a session sees: the cluster's catalog, the generated ones, and those registered in the session itself.
#[derive(Debug)]
pub struct SessionCatalogs {
    cluster: Arc<ClusterCatalog>,
    temporary: Option<Arc<ClusterCatalog>>,
    own: RwLock<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl SessionCatalogs {
    /// The catalogs of a new session of a cluster.
    pub fn new(cluster: Arc<ClusterCatalog>) -> Self {
        Self { cluster, temporary: None, own: RwLock::default() }
    }

    /// The catalogs of a session that may have tables of its own, and has this name.
    pub fn of_session(cluster: Arc<ClusterCatalog>, session: &str) -> Self {
        let temporary = cluster.temporary(session);
        Self { temporary, ..Self::new(cluster) }
    }

    /// The cluster's catalog.
    pub fn cluster(&self) -> &Arc<ClusterCatalog> {
        &self.cluster
    }

    /// The catalog of the session's own tables; `None` where it can have none.
    pub fn temporary_of(state: &SessionState) -> Option<Arc<ClusterCatalog>> {
        state.catalog_list().downcast_ref::<Self>()?.temporary.clone()
    }

    /// The cluster catalog of a session that [`crate::session::SessionBuilder`] made; `None` for another.
    pub fn cluster_of(state: &SessionState) -> Option<Arc<ClusterCatalog>> {
        state.catalog_list().downcast_ref::<Self>().map(|catalogs| Arc::clone(&catalogs.cluster))
    }
}

impl CatalogProviderList for SessionCatalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.own.write().insert(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.own.read().keys().cloned().collect();
        names.push(DEFAULT_CATALOG.to_owned());
        names.extend(Suite::ALL.iter().map(Suite::to_string));
        names.sort();
        names.dedup();
        names
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        if let Some(own) = self.own.read().get(name) {
            return Some(Arc::clone(own));
        }
        if name == DEFAULT_CATALOG {
            let cluster = Arc::clone(&self.cluster);
            return Some(match self.temporary.clone().filter(|temporary| !temporary.is_empty()) {
                Some(temporary) => Arc::new(WithTemporary { temporary, cluster }),
                None => cluster,
            });
        }
        let suite = name.parse::<Suite>().ok()?;
        Some(Arc::new(GeneratedCatalog::new(suite)))
    }
}
