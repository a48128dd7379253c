//! The files of a write become part of a table: one entry of its log.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Utc;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, EagerSnapshot, LogicalFileView, Transaction};
use deltalake_core::protocol::{DeltaOperation as LogOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError};
use volley_proto::Failure;

use super::delta_error;
use super::files::vector_of;
use super::log::DeltaLog;
use super::provider::shape;
use super::values::partition_text;
use crate::fail_point;
use crate::write::{self, CommitError, DeltaOperation, DeltaWrite, StagedFile, WriteSpec};

/// The version of the one transaction that each write is to the table.
const TRANSACTION_VERSION: i64 = 1;

/// Publishes the files of a write and names them in the table's log. A second call with the same files, after a crash in the first or after
/// its end, ends in the same state: the entry carries the name of the write.
pub async fn commit(spec: &WriteSpec, delta: &DeltaWrite, files: &[StagedFile], runtime: &RuntimeEnv) -> Result<(), CommitError> {
    // A file without rows says no more than how many were changed.
    let files: Vec<StagedFile> = files.iter().filter(|file| file.rows > 0).cloned().collect();
    let files = files.as_slice();
    write::commit(spec, files, runtime).await?;
    let log = DeltaLog::new(&spec.url, None, runtime)?;
    let named = name_files(&log, spec, delta, files).await;
    if let Err(CommitError::Refused(_)) = &named {
        let published: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        if !published.is_empty() {
            write::remove_files(&spec.url, &published, runtime).await?;
        }
    }
    named
}

async fn name_files(log: &DeltaLog, spec: &WriteSpec, delta: &DeltaWrite, files: &[StagedFile]) -> Result<(), CommitError> {
    let table = log.load(None).await?;
    let snapshot = table.snapshot().map_err(delta_error)?.snapshot();
    let store = log.store();
    let seen = snapshot.transaction_version(store.as_ref(), &delta.transaction).await.map_err(delta_error)?;
    if seen.is_some() {
        return Ok(());
    }
    if shape(snapshot) != delta.shape {
        let (url, version) = (log.url(), delta.version);
        return Err(CommitError::Refused(Failure::query(format!(
            "the Delta Lake table at '{url}' has other columns or settings than at version {version}, which this statement was planned for: \
             nothing was written, run it again"
        ))));
    }
    let mut properties =
        CommitProperties::default().with_application_transaction(Transaction::new(&delta.transaction, TRANSACTION_VERSION));
    if delta.operation == DeltaOperation::Merge {
        // Rows that somebody added meanwhile were compared with nothing: they may be the ones that were missing.
        if snapshot.version() != delta.version {
            return Err(changed_meanwhile(log.url(), delta));
        }
        properties = properties.with_max_retries(0);
    }
    let actions = actions(log.url(), snapshot, spec, delta, files)?;
    let operation = operation(spec, delta.operation);
    let entry = CommitBuilder::from(properties).with_actions(actions);
    match entry.build(Some(snapshot), Arc::clone(store), operation).await {
        Ok(_) => {
            fail_point("log-entry-written");
            Ok(())
        }
        Err(error) => Err(not_named(log, delta, error).await),
    }
}

/// An error of the library does not say whether the entry is there.
async fn not_named(log: &DeltaLog, delta: &DeltaWrite, error: DeltaTableError) -> CommitError {
    let is_refused = match &error {
        // A merge is tried once: somebody else's entry came first.
        DeltaTableError::Transaction { source: TransactionError::MaxCommitAttempts(_) } if delta.operation == DeltaOperation::Merge => true,
        DeltaTableError::Transaction { source } => !matches!(
            source,
            TransactionError::ObjectStore { .. } | TransactionError::MaxCommitAttempts(_) | TransactionError::LogStoreError { .. }
        ),
        _ => false,
    };
    let why = error.to_string();
    match (is_refused, was_named(log, delta).await) {
        (true, Ok(false)) => CommitError::Refused(Failure::query(format!(
            "the Delta Lake table at '{}' was changed while the write ran, none of its rows are kept, run it again: {why}",
            log.url()
        ))),
        _ => CommitError::Failed(delta_error(error)),
    }
}

async fn was_named(log: &DeltaLog, delta: &DeltaWrite) -> Result<bool> {
    let table: DeltaTable = log.load(None).await?;
    let snapshot = table.snapshot().map_err(delta_error)?.snapshot();
    let seen = snapshot.transaction_version(log.store().as_ref(), &delta.transaction).await.map_err(delta_error)?;
    Ok(seen.is_some())
}

/// What the entry says: which files are new, and which are gone.
fn actions(
    url: &ListingTableUrl,
    snapshot: &EagerSnapshot,
    spec: &WriteSpec,
    delta: &DeltaWrite,
    files: &[StagedFile],
) -> Result<Vec<Action>, CommitError> {
    let new = files.iter().map(|file| Ok(Action::Add(add(snapshot, spec, file)?)));
    let mut actions = new.collect::<Result<Vec<_>>>()?;
    let active: HashMap<String, LogicalFileView> = snapshot.log_data().iter().map(|view| (view.path().into_owned(), view)).collect();
    match delta.operation {
        DeltaOperation::Append => {}
        DeltaOperation::Overwrite => actions.extend(active.values().map(|view| Action::Remove(view.remove_action(true)))),
        DeltaOperation::Delete | DeltaOperation::Update | DeltaOperation::Merge => {
            for file in &delta.rewritten {
                let Some(view) = active.get(&file.path).filter(|view| vector_of(view) == file.vector) else {
                    return Err(changed_meanwhile(url, delta));
                };
                actions.push(Action::Remove(view.remove_action(true)));
            }
        }
    }
    Ok(actions)
}

fn changed_meanwhile(url: &ListingTableUrl, delta: &DeltaWrite) -> CommitError {
    CommitError::Refused(Failure::query(format!(
        "the Delta Lake table at '{url}' was changed by somebody else since version {}, which this statement read: nothing was changed, run it again",
        delta.version
    )))
}

fn add(snapshot: &EagerSnapshot, spec: &WriteSpec, file: &StagedFile) -> Result<Add> {
    let schema = snapshot.arrow_schema();
    let missing = || DataFusionError::Internal(format!("file '{}' was staged without what the log says of it", file.path));
    let details = file.details.as_ref().ok_or_else(missing)?;
    let values = spec.partition_by.iter().zip(&details.partition).map(|(name, value)| {
        let data_type = schema.field_with_name(name)?.data_type();
        Ok((name.clone(), value.as_deref().map(|text| partition_text(text, data_type))))
    });
    Ok(Add {
        path: file.path.clone(),
        partition_values: values.collect::<Result<_>>()?,
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(details.statistics.to_string()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

fn operation(spec: &WriteSpec, operation: DeltaOperation) -> LogOperation {
    let write = |mode| LogOperation::Write {
        mode,
        partition_by: Some(spec.partition_by.clone()).filter(|columns| !columns.is_empty()),
        predicate: None,
    };
    match operation {
        DeltaOperation::Append => write(SaveMode::Append),
        DeltaOperation::Overwrite => write(SaveMode::Overwrite),
        DeltaOperation::Delete => LogOperation::Delete { predicate: None },
        DeltaOperation::Update => LogOperation::Update { predicate: None },
        DeltaOperation::Merge => LogOperation::Merge {
            predicate: None,
            merge_predicate: None,
            matched_predicates: vec![],
            not_matched_predicates: vec![],
            not_matched_by_source_predicates: vec![],
        },
    }
}
