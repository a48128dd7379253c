//! The cluster's catalog of tables, kept in a [`StateStore`]: one key for each entry.

use std::sync::Arc;

use async_trait::async_trait;
use volley_proto::Failure;
use volley_sql::catalog::{Discarded, TableEntry, TableStore};

use super::{StateStore, StoreError, blocking};

const PREFIX: &str = "tables/";
const DISCARDED: &str = "discarded/";

/// A [`TableStore`] over a [`StateStore`].
#[derive(Debug, Clone)]
pub struct StoredTables {
    store: Arc<dyn StateStore>,
}

impl StoredTables {
    /// What the keys of [`Discarded`] files begin with.
    pub(crate) const DISCARDED: &str = DISCARDED;

    /// The catalog in `store`.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl TableStore for StoredTables {
    async fn list(&self) -> Result<Vec<TableEntry>, Failure> {
        let entries = blocking(&self.store, |store| store.list(PREFIX)).await.map_err(failure)?;
        entries.iter().map(|(_, found)| TableEntry::decode(&found.value)).collect()
    }

    async fn put(&self, entry: TableEntry, replace: bool) -> Result<bool, Failure> {
        let (key, value) = (key(&entry.schema, &entry.name), entry.encode()?);
        blocking(&self.store, move |store| retry(|| put(store, &key, &value, replace))).await.map_err(failure)
    }

    async fn swap(&self, old: Option<&TableEntry>, new: &TableEntry) -> Result<bool, Failure> {
        let (key, value, old) = (key(&new.schema, &new.name), new.encode()?, old.cloned());
        blocking(&self.store, move |store| {
            let found = store.get(&key)?;
            let is_old = match (&found, &old) {
                (None, None) => true,
                // Entries are compared, not bytes: an older build may have written the same entry in another form.
                (Some(found), Some(old)) => TableEntry::decode(&found.value).is_ok_and(|found| found == *old),
                _ => false,
            };
            if !is_old {
                return Ok(false);
            }
            match store.compare_and_swap(&key, found.map(|found| found.version), Some(&value)) {
                Ok(_) => Ok(true),
                Err(StoreError::Conflict { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
        .map_err(failure)
    }

    async fn remove(&self, schema: &str, name: &str) -> Result<bool, Failure> {
        let key = key(schema, name);
        blocking(&self.store, move |store| retry(|| remove(store, &key))).await.map_err(failure)
    }

    async fn discard(&self, discarded: Discarded) -> Result<(), Failure> {
        let key = format!("{DISCARDED}{}", uuid::Uuid::new_v4().simple());
        let value = serde_json::to_vec(&discarded).map_err(|error| Failure::internal(error.to_string()))?;
        blocking(&self.store, move |store| store.compare_and_swap(&key, None, Some(&value))).await.map(drop).map_err(failure)
    }
}

fn put(store: &dyn StateStore, key: &str, value: &[u8], replace: bool) -> Result<bool, StoreError> {
    let found = store.get(key)?.map(|found| found.version);
    if found.is_some() && !replace {
        return Ok(false);
    }
    store.compare_and_swap(key, found, Some(value)).map(|_| true)
}

fn remove(store: &dyn StateStore, key: &str) -> Result<bool, StoreError> {
    match store.get(key)? {
        None => Ok(false),
        Some(found) => store.compare_and_swap(key, Some(found.version), None).map(|_| true),
    }
}

/// Decides anew as long as somebody else writes the key in between.
fn retry<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match attempt() {
            Err(StoreError::Conflict { .. }) => {}
            result => return result,
        }
    }
}

/// Both names are escaped, so that a slash in one can't make two tables share a key.
fn key(schema: &str, name: &str) -> String {
    let escape = |name: &str| name.replace('%', "%25").replace('/', "%2f");
    format!("{PREFIX}{}/{}", escape(schema), escape(name))
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Key { .. } => Failure::query("the name of the table or its schema is too long for the catalog"),
        StoreError::Io { .. } => Failure::resources(format!("the catalog can't be written: {error}")),
        other => Failure::internal(format!("the catalog: {other}")),
    }
}
