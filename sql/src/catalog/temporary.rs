//! Tables of one session alone, before those of the cluster.
//!
//! They are a catalog of their own, of the same kind as the cluster's, that is kept in memory and whose files are in a directory of the
//! session's. A name means the session's table where it has one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::TableType;

use super::ClusterCatalog;

/// The catalog `volley` of a session that has tables of its own.
#[derive(Debug)]
pub(super) struct WithTemporary {
    pub(super) temporary: Arc<ClusterCatalog>,
    pub(super) cluster: Arc<ClusterCatalog>,
}

impl CatalogProvider for WithTemporary {
    fn schema_names(&self) -> Vec<String> {
        self.cluster.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let cluster = self.cluster.schema(name)?;
        match self.temporary.schema(name) {
            Some(temporary) => Some(Arc::new(SchemaWithTemporary { temporary, cluster })),
            None => Some(cluster),
        }
    }
}

/// One of its schemas.
#[derive(Debug)]
struct SchemaWithTemporary {
    temporary: Arc<dyn SchemaProvider>,
    cluster: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for SchemaWithTemporary {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.cluster.table_names();
        names.extend(self.temporary.table_names());
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.temporary.table_exist(name) {
            return self.temporary.table(name).await;
        }
        self.cluster.table(name).await
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if self.temporary.table_exist(name) {
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
        self.temporary.table_exist(name) || self.cluster.table_exist(name)
    }
}
