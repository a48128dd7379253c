//! The catalogs of one session.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Schema and name of tables of its own that ended with an earlier scheduler.
    lost: RwLock<BTreeSet<(String, String)>>,
    own: RwLock<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl SessionCatalogs {
    /// The catalogs of a new session of a cluster.
    pub fn new(cluster: Arc<ClusterCatalog>) -> Self {
        Self { cluster, temporary: None, lost: RwLock::default(), own: RwLock::default() }
    }

    /// The catalogs of a session that may have tables of its own, and has this name. `lost` are schema and name of those that it had
    /// under an earlier scheduler.
    pub fn of_session(cluster: Arc<ClusterCatalog>, session: &str, lost: BTreeSet<(String, String)>) -> Self {
        let temporary = cluster.temporary(session);
        Self { temporary, lost: RwLock::new(lost), ..Self::new(cluster) }
    }

    /// Schema and name of the session's own tables, those that were lost among them.
    pub fn temporary_names(state: &SessionState) -> BTreeSet<(String, String)> {
        let Some(catalogs) = state.catalog_list().downcast_ref::<Self>() else { return BTreeSet::new() };
        let own = catalogs.temporary.iter().flat_map(|own| own.entries()).map(|entry| (entry.schema, entry.name));
        own.chain(catalogs.lost.read().iter().cloned()).collect()
    }

    /// Whether the session had a table of this name under an earlier scheduler.
    pub(crate) fn is_lost(state: &SessionState, schema: &str, name: &str) -> bool {
        let catalogs = state.catalog_list().downcast_ref::<Self>();
        catalogs.is_some_and(|catalogs| catalogs.lost.read().contains(&(schema.to_owned(), name.to_owned())))
    }

    /// Forgets such a table.
    pub(crate) fn forget_lost(state: &SessionState, schema: &str, name: &str) {
        if let Some(catalogs) = state.catalog_list().downcast_ref::<Self>() {
            catalogs.lost.write().remove(&(schema.to_owned(), name.to_owned()));
        }
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
            let lost = self.lost.read().clone();
            return Some(match self.temporary.clone().filter(|temporary| !temporary.is_empty() || !lost.is_empty()) {
                Some(temporary) => Arc::new(WithTemporary { temporary, lost, cluster }),
                None => cluster,
            });
        }
        let suite = name.parse::<Suite>().ok()?;
        Some(Arc::new(GeneratedCatalog::new(suite)))
    }
}
