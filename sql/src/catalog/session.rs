//! The catalogs of one session.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList};
use datafusion::execution::context::SessionState;
use parking_lot::RwLock;

use super::generated::{GeneratedCatalog, Suite};
use super::{ClusterCatalog, DEFAULT_CATALOG};

/// What a session sees: the cluster's catalog, the generated ones, and those registered in the session itself.
#[derive(Debug)]
pub struct SessionCatalogs {
    cluster: Arc<ClusterCatalog>,
    own: RwLock<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl SessionCatalogs {
    /// The catalogs of a new session of a cluster.
    pub fn new(cluster: Arc<ClusterCatalog>) -> Self {
        Self { cluster, own: RwLock::default() }
    }

    /// The cluster's catalog.
    pub fn cluster(&self) -> &Arc<ClusterCatalog> {
        &self.cluster
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
            return Some(Arc::clone(&self.cluster) as Arc<dyn CatalogProvider>);
        }
        let suite = name.parse::<Suite>().ok()?;
        Some(Arc::new(GeneratedCatalog::new(suite)))
    }
}
