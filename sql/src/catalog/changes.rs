//! Changes of the cluster's catalog. Each is durable when it returns, and seen by every statement that begins after that.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, TableProvider};
use datafusion::error::DataFusionError;
use tokio::sync::OnceCell;
use volley_proto::Failure;

use super::cluster::{ClusterCatalog, Slot, insert};
use super::managed::{ManagedTable, Manifest, ManifestFile, decode_columns};
use super::store::{Discarded, EntryKind, TableEntry};
use super::{DEFAULT_CATALOG, DEFAULT_SCHEMA};
use crate::fail_point;
use crate::write::{StagedFile, TableCreation, TableWrite, WriteMode, WriteSpec, complete_uploads, keep};

/// Why the files of a write are not in their table.
#[derive(Debug)]
pub enum CommitError {
    /// They never will be: the table is another one by now, or none.
    Refused(Failure),
    /// They may be when it is tried again.
    Failed(DataFusionError),
}

impl From<DataFusionError> for CommitError {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        Self::Failed(DataFusionError::External(Box::new(failure)))
    }
}

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

    /// Whether a write that makes a table has anything to do; an error where it may not be made.
    pub fn admits(&self, table: &TableWrite) -> Result<bool, Failure> {
        let TableWrite { schema, name, create, .. } = table;
        let Some(create) = create else {
            return Ok(true);
        };
        self.require_schema(schema)?;
        match self.slot(schema, name).map(|slot| slot.entry.clone()) {
            None => Ok(true),
            Some(_) if create.if_not_exists => Ok(false),
            Some(Some(entry)) if create.or_replace && entry.kind == EntryKind::Table => Ok(true),
            Some(entry) => Err(taken(entry.as_ref(), schema, name)),
        }
    }

    /// Makes the staged files of a write part of its table, which it makes or gives a new version. A second call with the same files, after a
    /// crash in the first or after its end, ends in the same state, as long as no other write replaced the table's rows meanwhile.
    pub async fn commit(&self, spec: &WriteSpec, table: &TableWrite, files: &[StagedFile]) -> Result<(), CommitError> {
        complete_uploads(spec, files, &self.runtime).await?;
        {
            let _changing = self.changing.lock().await;
            while !self.try_commit(spec, table, files).await? {
                // Another scheduler changed the entry.
                self.reload().await?;
            }
        }
        fail_point("all-published");
        keep(spec, files, &self.runtime).await?;
        Ok(())
    }

    /// `false` where the entry in the store is not the one that is known here.
    async fn try_commit(&self, spec: &WriteSpec, table: &TableWrite, files: &[StagedFile]) -> Result<bool, CommitError> {
        let TableWrite { schema, name, id, create, .. } = table;
        let old = self.entry(schema, name);
        let base = match (old.as_ref().and_then(|entry| entry.managed.as_ref()), create) {
            (Some(managed), Some(_)) if managed.id == *id => return Ok(true),
            (Some(managed), None) if managed.id == *id => Some(managed),
            (_, Some(_)) => {
                match self.admits(table) {
                    Ok(true) => {}
                    Ok(false) => return Err(CommitError::Refused(taken(old.as_ref(), schema, name))),
                    Err(failure) => return Err(CommitError::Refused(failure)),
                }
                None
            }
            (_, None) => {
                let message = format!("table '{schema}.{name}' was dropped or replaced while the write ran: none of its rows are kept");
                return Err(CommitError::Refused(Failure::query(message)));
            }
        };
        let Some((manifest, replaced)) = self.next_manifest(spec, base, create.as_ref(), files).await? else {
            return Ok(true);
        };
        let version = base.map_or(1, |managed| managed.version + 1);
        let path = format!("versions/v{version}-{}.json", spec.id);
        manifest.write(&spec.url, &path, &self.runtime).await?;
        fail_point("one-published");
        let managed = ManagedTable { id: id.clone(), location: spec.url.clone(), version, manifest: path };
        let Some(entry) = new_entry(old.as_ref(), table, managed) else {
            return Err(CommitError::Refused(Failure::internal(format!("the write makes no table '{schema}.{name}'"))));
        };
        if !self.store.swap(old.as_ref(), &entry).await? {
            return Ok(false);
        }
        insert(&mut self.schemas.write(), entry, |entry| Arc::new(Slot { entry: Some(entry), provider: OnceCell::new() }));
        match (base, &old) {
            (Some(base), _) => {
                let files = replaced.into_iter().map(|file| file.path).chain([base.manifest.clone()]).collect();
                self.store.discard(Discarded { location: base.location.clone(), files }).await?;
            }
            (None, Some(old)) => self.discard(old).await?,
            (None, None) => {}
        }
        Ok(true)
    }

    /// The table's next version, and the files that are not in it any more; `None` where it has this write's files already.
    async fn next_manifest(
        &self,
        spec: &WriteSpec,
        base: Option<&ManagedTable>,
        create: Option<&TableCreation>,
        files: &[StagedFile],
    ) -> Result<Option<(Manifest, Vec<ManifestFile>)>, DataFusionError> {
        let mut manifest = match (base, create) {
            (Some(base), _) => Manifest::read(base, &self.runtime).await?,
            (None, Some(create)) => Manifest::empty(decode_columns(&create.columns)?.as_ref()),
            (None, None) => return Ok(None),
        };
        let within = spec.staging.strip_prefix(&spec.url).unwrap_or_default();
        let path = |file: &StagedFile| format!("{within}{}", file.staged);
        let new: Vec<_> = files.iter().map(|file| ManifestFile { path: path(file), rows: file.rows, bytes: file.bytes }).collect();
        let is_done = !new.is_empty() && new.iter().all(|file| manifest.files.contains(file));
        if is_done {
            return Ok(None);
        }
        let replaced = match spec.mode {
            WriteMode::Append => vec![],
            WriteMode::Overwrite => std::mem::take(&mut manifest.files),
        };
        manifest.files.extend(new);
        Ok(Some((manifest, replaced)))
    }

    /// Notes that the files below a directory are to be removed when nobody uses it any more.
    pub async fn discard_later(&self, location: &str) -> Result<(), Failure> {
        self.store.discard(Discarded { location: location.to_owned(), files: vec![] }).await
    }

    /// Notes that no statement which begins from now on reads what belongs to an entry.
    async fn discard(&self, entry: &TableEntry) -> Result<(), Failure> {
        match &entry.managed {
            Some(table) => self.store.discard(Discarded { location: table.location.clone(), files: vec![] }).await,
            None => Ok(()),
        }
    }

    fn require_schema(&self, schema: &str) -> Result<(), Failure> {
        match self.schema(schema) {
            Some(_) => Ok(()),
            None if self.is_temporary => Ok(()),
            None => Err(Failure::query(format!("schema '{DEFAULT_CATALOG}.{schema}' does not exist; CREATE SCHEMA makes it"))),
        }
    }
}

fn new_entry(old: Option<&TableEntry>, table: &TableWrite, managed: ManagedTable) -> Option<TableEntry> {
    match (&table.create, old) {
        (Some(create), _) => Some(TableEntry {
            kind: EntryKind::Table,
            schema: table.schema.clone(),
            name: table.name.clone(),
            ddl: create.ddl.clone(),
            default_catalog: create.default_catalog.clone(),
            default_schema: create.default_schema.clone(),
            managed: Some(managed),
        }),
        (None, old) => Some(TableEntry { managed: Some(managed), ..old?.clone() }),
    }
}

fn taken(entry: Option<&TableEntry>, schema: &str, name: &str) -> Failure {
    let kind = entry.map_or(EntryKind::Table, |entry| entry.kind);
    let hint = if kind == EntryKind::Table { "CREATE OR REPLACE TABLE replaces it, DROP TABLE removes it" } else { "DROP VIEW removes it" };
    Failure::query(format!("{kind} '{schema}.{name}' exists already; {hint}"))
}
