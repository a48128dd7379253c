//! Where the cluster's tables are kept: as the text that made them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use volley_proto::Failure;

/// What an entry of the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A schema; its entry has no name and no DDL.
    Schema,
    /// A table over files.
    Table,
    /// A view.
    View,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schema => "schema",
            Self::Table => "table",
            Self::View => "view",
        })
    }
}

/// One table, view or schema of the cluster's catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// What it is.
    pub kind: EntryKind,
    /// The schema that it is in.
    pub schema: String,
    /// Its name; empty for a schema.
    pub name: String,
    /// The statement that makes it, with absolute locations; empty for a schema.
    pub ddl: String,
    /// Catalog that names without one meant when it was made.
    pub default_catalog: String,
    /// Schema that names without one meant when it was made.
    pub default_schema: String,
}

impl TableEntry {
    /// The entry that makes a schema.
    pub fn schema(name: impl Into<String>) -> Self {
        Self {
            kind: EntryKind::Schema,
            schema: name.into(),
            name: String::new(),
            ddl: String::new(),
            default_catalog: super::DEFAULT_CATALOG.into(),
            default_schema: super::DEFAULT_SCHEMA.into(),
        }
    }

    /// The entry as bytes for a store.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(|error| Failure::internal(format!("catalog entry '{}': {error}", self.name)))
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(bytes).map_err(|error| Failure::internal(format!("the catalog holds an entry that can't be read: {error}")))
    }
}

/// Keeps the catalog's entries; the scheduler implements it over its state store.
///
/// An entry is identified by its schema and name. A call that returned is durable.
#[async_trait]
pub trait TableStore: fmt::Debug + Send + Sync {
    /// All entries.
    async fn list(&self) -> Result<Vec<TableEntry>, Failure>;

    /// Adds an entry. Where one of that name exists, replaces it if `replace`, else leaves it and returns `false`.
    async fn put(&self, entry: TableEntry, replace: bool) -> Result<bool, Failure>;

    /// Removes an entry; `false` where there was none.
    async fn remove(&self, schema: &str, name: &str) -> Result<bool, Failure>;
}

/// A store that lives as long as its process.
#[derive(Debug, Default)]
pub struct MemoryTableStore {
    entries: Mutex<BTreeMap<(String, String), TableEntry>>,
}

#[async_trait]
impl TableStore for MemoryTableStore {
    async fn list(&self) -> Result<Vec<TableEntry>, Failure> {
        Ok(self.entries.lock().values().cloned().collect())
    }

    async fn put(&self, entry: TableEntry, replace: bool) -> Result<bool, Failure> {
        let key = (entry.schema.clone(), entry.name.clone());
        let mut entries = self.entries.lock();
        let free = replace || !entries.contains_key(&key);
        if free {
            entries.insert(key, entry);
        }
        Ok(free)
    }

    async fn remove(&self, schema: &str, name: &str) -> Result<bool, Failure> {
        Ok(self.entries.lock().remove(&(schema.to_owned(), name.to_owned())).is_some())
    }
}
