//! Where the cluster's tables are kept: as the text that made them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use volley_proto::Failure;

use super::managed::ManagedTable;
use crate::stores::StoreAccess;

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
    /// Where its rows are, of a table whose files belong to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedTable>,
    /// How to get into the store of its files, where the statement said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<StoreAccess>,
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
            managed: None,
            access: None,
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

/// Files of a managed table that no statement reads which begins from now on; those that run may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// URL of the table's directory, ending in `/`.
    pub location: String,
    /// Paths within it; empty for the whole directory.
    pub files: Vec<String>,
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

    /// Puts `new` in the place of `old` (`None`: where no entry has its name); `false`, and nothing is changed, where the store holds another
    /// entry there by now.
    async fn swap(&self, old: Option<&TableEntry>, new: &TableEntry) -> Result<bool, Failure>;

    /// Removes an entry; `false` where there was none.
    async fn remove(&self, schema: &str, name: &str) -> Result<bool, Failure>;

    /// Keeps in mind that files are to be removed when nobody reads them any more. It is looked up then whether an entry still has the
    /// directory, since this is noted before the entry goes.
    async fn discard(&self, discarded: Discarded) -> Result<(), Failure>;
}

/// A store that lives as long as its process.
#[derive(Debug, Default)]
pub struct MemoryTableStore {
    entries: Mutex<BTreeMap<(String, String), TableEntry>>,
    discarded: Mutex<Vec<Discarded>>,
}

impl MemoryTableStore {
    /// What was discarded so far.
    pub fn discarded(&self) -> Vec<Discarded> {
        self.discarded.lock().clone()
    }
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

    async fn swap(&self, old: Option<&TableEntry>, new: &TableEntry) -> Result<bool, Failure> {
        let key = (new.schema.clone(), new.name.clone());
        let mut entries = self.entries.lock();
        let is_old = entries.get(&key) == old;
        if is_old {
            entries.insert(key, new.clone());
        }
        Ok(is_old)
    }

    async fn remove(&self, schema: &str, name: &str) -> Result<bool, Failure> {
        Ok(self.entries.lock().remove(&(schema.to_owned(), name.to_owned())).is_some())
    }

    async fn discard(&self, discarded: Discarded) -> Result<(), Failure> {
        self.discarded.lock().push(discarded);
        Ok(())
    }
}
