//! Tables of one session alone, before those of the cluster.
//!
//! They are a catalog of their own, of the same kind as the cluster's, that is kept in memory and whose files are in a directory of the
//! session's. A name means the session's table where it has one, and is an error where that ended with an earlier scheduler: the cluster's
//! table of that name is not the one that was meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::TableType;

use super::ClusterCatalog;

/// What is said of a table that ended with an earlier scheduler.
pub(crate) fn lost_table(name: &str) -> String {
    format!("temporary table '{name}' was lost with the scheduler that it was made on: make it again, or DROP TABLE {name} to forget it")
}

/// The catalog `volley` of a session that has tables of its own.
#[derive(Debug)]
pub(super) struct WithTemporary {
    pub(super) temporary: Arc<ClusterCatalog>,
    /// Schema and name of tables that ended with an earlier scheduler.
    pub(super) lost: BTreeSet<(String, String)>,
    pub(super) cluster: Arc<ClusterCatalog>,
}

impl CatalogProvider for WithTemporary {
    fn schema_names(&self) -> Vec<String> {
        self.cluster.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let cluster = self.cluster.schema(name)?;
        let lost: BTreeSet<_> = self.lost.iter().filter(|(schema, _)| schema == name).map(|(_, table)| table.clone()).collect();
        match self.temporary.schema(name) {
            None if lost.is_empty() => Some(cluster),
            temporary => Some(Arc::new(SchemaWithTemporary { temporary, lost, cluster })),
        }
    }
}

/// One of its schemas.
#[derive(Debug)]
struct SchemaWithTemporary {
    temporary: Option<Arc<dyn SchemaProvider>>,
    lost: BTreeSet<String>,
    cluster: Arc<dyn SchemaProvider>,
}

impl SchemaWithTemporary {
    /// The schema that holds the session's table of this name.
    fn holder(&self, name: &str) -> Option<&Arc<dyn SchemaProvider>> {
        self.temporary.as_ref().filter(|temporary| temporary.table_exist(name))
    }
}

#[async_trait]
impl SchemaProvider for SchemaWithTemporary {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.cluster.table_names();
        names.retain(|name| !self.lost.contains(name));
        names.extend(self.temporary.iter().flat_map(|temporary| temporary.table_names()));
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.holder(name) {
            Some(temporary) => temporary.table(name).await,
            None if self.lost.contains(name) => Err(DataFusionError::Plan(lost_table(name))),
            None => self.cluster.table(name).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if self.holder(name).is_some() || self.lost.contains(name) {
            return Ok(Some(TableType::Temporary));
        }
        self.cluster.table_type(name).await
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.cluster.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.cluster.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.holder(name).is_some() || self.lost.contains(name) || self.cluster.table_exist(name)
    }
}
