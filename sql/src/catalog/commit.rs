//! How the files of a write become part of a managed table.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use tokio::sync::OnceCell;
use volley_proto::Failure;

use super::cluster::{ClusterCatalog, Slot, insert};
use super::managed::{ManagedTable, Manifest, ManifestFile, decode_columns};
use super::store::{Discarded, EntryKind, TableEntry};
use crate::fail_point;
use crate::write::{CommitError, StagedFile, TableCreation, TableWrite, WriteMode, WriteSpec, complete_files, keep};

impl ClusterCatalog {
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
        let files = self.make_part(spec, table, files).await?;
        keep(spec, &files, &self.runtime).await?;
        Ok(())
    }

    /// As [`Self::commit`], where nobody would call it again: an error means that the files are not part of the table.
    pub async fn commit_once(&self, spec: &WriteSpec, table: &TableWrite, files: &[StagedFile]) -> Result<(), CommitError> {
        let files = self.make_part(spec, table, files).await?;
        if let Err(error) = keep(spec, &files, &self.runtime).await {
            tracing::warn!(place = spec.staging, %error, "what a write had staged beside its files was not removed");
        }
        Ok(())
    }

    /// Makes files part of their table, and says which: all that have rows.
    async fn make_part(&self, spec: &WriteSpec, table: &TableWrite, files: &[StagedFile]) -> Result<Vec<StagedFile>, CommitError> {
        // A file without rows says no more than how many were changed.
        let files: Vec<StagedFile> = files.iter().filter(|file| file.rows > 0).cloned().collect();
        complete_files(spec, &files, &self.runtime).await?;
        {
            let _changing = self.changing.lock().await;
            while !self.try_commit(spec, table, &files).await? {
                // Another scheduler changed the entry.
                self.reload().await?;
            }
        }
        fail_point("all-published");
        Ok(files)
    }

    /// `false` where the entry in the store is not the one that is known here.
    async fn try_commit(&self, spec: &WriteSpec, table: &TableWrite, files: &[StagedFile]) -> Result<bool, CommitError> {
        let old = self.entry(&table.schema, &table.name);
        let current = old.as_ref().and_then(|entry| entry.managed.as_ref()).filter(|managed| managed.id == table.id);
        let base = match (current, &table.create) {
            (Some(managed), Some(_)) => return self.note_replaced(spec, managed).await,
            (None, Some(_)) => {
                match self.admits(table) {
                    Ok(true) => {}
                    Ok(false) => return Err(CommitError::Refused(taken(old.as_ref(), &table.schema, &table.name))),
                    Err(failure) => return Err(CommitError::Refused(failure)),
                }
                None
            }
            (Some(managed), None) => Some(managed),
            (None, None) => {
                let (schema, name) = (&table.schema, &table.name);
                let message = format!("table '{schema}.{name}' was dropped or replaced while the write ran: none of its rows are kept");
                return Err(CommitError::Refused(Failure::query(message)));
            }
        };
        // A repeated commit may find later versions, which others made of this write's.
        let Some(mut manifest) = self.next_manifest(spec, base, table.create.as_ref(), files).await? else {
            return match base {
                Some(managed) => self.note_replaced(spec, managed).await,
                None => Ok(true),
            };
        };
        if let (Some(expected), Some(managed)) = (table.base, base)
            && managed.version != expected
        {
            let (schema, name) = (&table.schema, &table.name);
            let message =
                format!("table '{schema}.{name}' was changed by somebody else while the statement ran: nothing was changed, run it again");
            return Err(CommitError::Refused(Failure::query(message)));
        }
        if let (None, Some(replaced)) = (base, old.as_ref().and_then(|entry| entry.managed.as_ref())) {
            manifest.replaces = Some(Discarded { location: replaced.location.clone(), files: vec![] });
        }
        let version = base.map_or(1, |managed| managed.version + 1);
        let path = manifest_path(version, spec);
        manifest.write(&spec.url, &path, &self.runtime).await?;
        fail_point("one-published");
        let managed = ManagedTable { id: table.id.clone(), location: spec.url.clone(), version, manifest: path };
        let Some(entry) = new_entry(old.as_ref(), table, managed) else {
            let message = format!("the write makes no table '{}.{}'", table.schema, table.name);
            return Err(CommitError::Refused(Failure::internal(message)));
        };
        if !self.store.swap(old.as_ref(), &entry).await? {
            return Ok(false);
        }
        insert(&mut self.schemas.write(), entry, |entry| Arc::new(Slot { entry: Some(entry), provider: OnceCell::new() }));
        if let Some(replaced) = manifest.replaces {
            self.store.discard(replaced).await?;
        }
        Ok(true)
    }

    /// Notes what a version replaced that is there already, for a commit that ended between the two.
    async fn note_replaced(&self, spec: &WriteSpec, managed: &ManagedTable) -> Result<bool, CommitError> {
        if managed.manifest == manifest_path(managed.version, spec)
            && let Some(replaced) = Manifest::read(managed, &self.runtime).await?.replaces
        {
            self.store.discard(replaced).await?;
        }
        Ok(true)
    }

    /// The table's next version; `None` where it has this write's files already.
    async fn next_manifest(
        &self,
        spec: &WriteSpec,
        base: Option<&ManagedTable>,
        create: Option<&TableCreation>,
        files: &[StagedFile],
    ) -> Result<Option<Manifest>, DataFusionError> {
        let mut manifest = match (base, create) {
            (Some(base), _) => Manifest::read(base, &self.runtime).await?,
            (None, Some(create)) => Manifest::empty(decode_columns(&create.columns)?.as_ref()),
            (None, None) => return Ok(None),
        };
        let within = spec.staging.strip_prefix(&spec.url).unwrap_or_default();
        let path = |file: &StagedFile| format!("{within}{}", file.staged);
        let new: Vec<_> = files.iter().map(|file| ManifestFile { path: path(file), rows: file.rows, bytes: file.bytes }).collect();
        let has_files = !new.is_empty() && new.iter().all(|file| manifest.files.contains(file));
        let is_done = has_files || base.is_some_and(|base| base.manifest == manifest_path(base.version, spec));
        if is_done {
            return Ok(None);
        }
        let replaced = match spec.mode {
            WriteMode::Append => vec![],
            WriteMode::Overwrite => std::mem::take(&mut manifest.files),
        };
        manifest.files.extend(new);
        manifest.replaces = base.map(|base| Discarded {
            location: base.location.clone(),
            files: replaced.into_iter().map(|file| file.path).chain([base.manifest.clone()]).collect(),
        });
        Ok(Some(manifest))
    }
}

/// Where the manifest of a version is that a write made.
fn manifest_path(version: u64, spec: &WriteSpec) -> String {
    format!("versions/v{version}-{}.json", spec.id)
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
            access: None,
        }),
        (None, old) => Some(TableEntry { managed: Some(managed), ..old?.clone() }),
    }
}

fn taken(entry: Option<&TableEntry>, schema: &str, name: &str) -> Failure {
    let kind = entry.map_or(EntryKind::Table, |entry| entry.kind);
    let hint = if kind == EntryKind::Table { "CREATE OR REPLACE TABLE replaces it, DROP TABLE removes it" } else { "DROP VIEW removes it" };
    Failure::query(format!("{kind} '{schema}.{name}' exists already; {hint}"))
}
