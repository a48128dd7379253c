//! Changes of the cluster's catalog. Each is durable when it returns, and seen by every statement that begins after that.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, TableProvider};
use tokio::sync::OnceCell;
use volley_proto::Failure;

use super::cluster::{ClusterCatalog, Slot, insert};
use super::store::{Discarded, EntryKind, TableEntry};
use super::{DEFAULT_CATALOG, DEFAULT_SCHEMA};

impl ClusterCatalog {
    /// Adds a table or view, whose provider may be known already. `false`, and nothing is changed, where the name is taken and
    /// `replace` is not set.
    pub async fn create(&self, entry: TableEntry, provider: Option<Arc<dyn TableProvider>>, replace: bool) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        self.require_schema(&entry.schema)?;
        if let (Some(old), true) = (self.entry(&entry.schema, &entry.name), replace) {
            self.discard(&old).await?;
        }
        if !self.store.put(entry.clone(), replace).await? {
            return Ok(false);
        }
        let provider = match entry.kind {
            EntryKind::Table => OnceCell::new_with(provider),
            EntryKind::View | EntryKind::Schema => OnceCell::new(),
        };
        insert(&mut self.schemas.write(), entry, |entry| Arc::new(Slot { entry: Some(entry), provider }));
        Ok(true)
    }

    /// Removes a table or view; `false` where there is none of that kind and name.
    pub async fn drop_entry(&self, kind: EntryKind, schema: &str, name: &str) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        let Some(slot) = self.slot(schema, name) else {
            return Ok(false);
        };
        match &slot.entry {
            Some(entry) if entry.kind != kind => {
                let is = entry.kind;
                return Err(Failure::query(format!("'{schema}.{name}' is a {is}: use DROP {}", is.to_string().to_uppercase())));
            }
            Some(entry) => {
                self.discard(entry).await?;
                self.store.remove(schema, name).await?;
            }
            None => {}
        }
        if let Some(names) = self.schemas.write().get_mut(schema) {
            names.remove(name);
        }
        Ok(true)
    }

    /// Gives a table or view another name; `false` where there is none of that name. After a crash in between it has both names until one of
    /// them is dropped, and its rows stay as long as it has one.
    pub async fn rename(&self, from: (&str, &str), to: (&str, &str)) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        let Some(entry) = self.entry(from.0, from.1) else {
            return Ok(false);
        };
        self.require_schema(to.0)?;
        if self.slot(to.0, to.1).is_some() {
            return Err(Failure::query(format!("'{}.{}' exists already: DROP TABLE removes it", to.0, to.1)));
        }
        let renamed = TableEntry { schema: to.0.to_owned(), name: to.1.to_owned(), ..entry };
        if !self.store.put(renamed.clone(), false).await? {
            return Err(Failure::query(format!("'{}.{}' exists already: DROP TABLE removes it", to.0, to.1)));
        }
        self.store.remove(from.0, from.1).await?;
        let mut schemas = self.schemas.write();
        if let Some(names) = schemas.get_mut(from.0) {
            names.remove(from.1);
        }
        insert(&mut schemas, renamed, |entry| Arc::new(Slot { entry: Some(entry), provider: OnceCell::new() }));
        Ok(true)
    }

    /// Adds a schema; `false` where it exists.
    pub async fn create_schema(&self, name: &str) -> Result<bool, Failure> {
        let _changing = self.changing.lock().await;
        if self.schema(name).is_some() || !self.store.put(TableEntry::schema(name), false).await? {
            return Ok(false);
        }
        self.schemas.write().entry(name.to_owned()).or_default();
        Ok(true)
    }

    /// Removes a schema, with what is in it if `cascade`; `false` where there is none.
    pub async fn drop_schema(&self, name: &str, cascade: bool) -> Result<bool, Failure> {
        if name == DEFAULT_SCHEMA {
            return Err(Failure::query(format!("schema '{DEFAULT_SCHEMA}' can't be dropped")));
        }
        let _changing = self.changing.lock().await;
        let Some(names) = self.schemas.read().get(name).map(|names| names.keys().cloned().collect::<Vec<_>>()) else {
            return Ok(false);
        };
        if let (Some(first), false) = (names.first(), cascade) {
            let rest = names.len() - 1;
            return Err(Failure::query(format!(
                "schema '{name}' holds '{first}' and {rest} more; DROP SCHEMA {name} CASCADE drops them too"
            )));
        }
        for table in names {
            if let Some(entry) = self.entry(name, &table) {
                self.discard(&entry).await?;
            }
            self.store.remove(name, &table).await?;
        }
        self.store.remove(name, "").await?;
        self.schemas.write().remove(name);
        Ok(true)
    }

    /// Notes that the files below a directory are to be removed when nobody uses it any more.
    pub async fn discard_later(&self, location: &str) -> Result<(), Failure> {
        self.store.discard(Discarded { location: location.to_owned(), files: vec![] }).await
    }

    /// Notes that no statement which begins from now on reads what belongs to an entry.
    pub(super) async fn discard(&self, entry: &TableEntry) -> Result<(), Failure> {
        match &entry.managed {
            Some(table) => self.store.discard(Discarded { location: table.location.clone(), files: vec![] }).await,
            None => Ok(()),
        }
    }

    pub(super) fn require_schema(&self, schema: &str) -> Result<(), Failure> {
        match self.schema(schema) {
            Some(_) => Ok(()),
            None if self.is_temporary => Ok(()),
            None => Err(Failure::query(format!("schema '{DEFAULT_CATALOG}.{schema}' does not exist; CREATE SCHEMA makes it"))),
        }
    }
}
