//! Writes: the tasks stage files that no reader sees, then they are published here, once.
//!
//! The list of files is in the state store before the first of them is published, and leaves it after the last: a scheduler that
//! dies in between publishes the rest when it starts again ([`roll_forward`]).

use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use volley_proto::{Failure, JobId, Remedy};
use volley_sql::diagnostics::failure_of;
use volley_sql::statement::{WriteStatement, write_result_schema};
use volley_sql::write::{StagedFile, WriteSpec, abort, begin, commit};

use super::service::FlightSql;
use super::statements::{Call, CallResult, CancelOnDrop};
use crate::planning::Work;
use crate::results::Source;
use crate::store::{StateStore, StoreError, blocking};

const COMMITS: &str = "writes/";

/// What is to be published.
#[derive(Debug, Serialize, Deserialize)]
struct CommitList {
    spec: WriteSpec,
    files: Vec<StagedFile>,
}

impl FlightSql {
    /// Runs a write to its end: the job's id and the rows written. A client that hangs up meanwhile cancels it, unless its files are
    /// being published by then.
    pub(super) async fn write(&self, call: &Call, state: SessionState, write: WriteStatement) -> CallResult<(JobId, u64)> {
        let id = self.job_ids.next().map_err(|error| (Failure::internal(error.to_string()), None))?;
        let guard = CancelOnDrop::new(&self.inbox, id);
        let (this, call) = (self.clone(), call.clone());
        // A task of its own: it has to clean up also when nobody waits for it any more.
        let running = tokio::spawn(async move { this.run_write(id, &call, state, write).await });
        let ended = guard.over(running).await.map_err(|error| Failure::internal(format!("the write panicked: {error}")));
        let rows = ended.and_then(|written| written).map_err(|failure| (failure, Some(id)))?;
        Ok((id, rows))
    }

    async fn run_write(&self, id: JobId, call: &Call, state: SessionState, write: WriteStatement) -> Result<u64, Failure> {
        let spec = write.target.spec(id.to_string());
        let runtime = Arc::clone(state.runtime_env());
        begin(&spec, &runtime).await.map_err(|error| failure_of(&error))?;
        self.submit_as(id, call, state, Work::Write(write.input, spec.clone()));
        let staged = match self.collect(id).await {
            Ok(rows) => rows.iter().map(StagedFile::from_batch).collect::<Result<Vec<_>, _>>().map_err(|error| failure_of(&error)),
            Err(failure) => Err(failure),
        };
        match staged {
            Ok(files) => self.publish(id, &runtime, CommitList { spec, files: files.into_iter().flatten().collect() }).await,
            Err(failure) => {
                if let Err(error) = abort(&spec, &runtime).await {
                    tracing::warn!(%id, %error, "what a failed write had staged was not removed");
                }
                Err(failure)
            }
        }
    }

    async fn publish(&self, id: JobId, runtime: &RuntimeEnv, list: CommitList) -> Result<u64, Failure> {
        let key = format!("{COMMITS}{id}");
        let value = serde_json::to_vec(&list).map_err(|error| Failure::internal(error.to_string()))?;
        let stored = |error: StoreError| Failure::resources(format!("the commit can't be written down: {error}"));
        let version = blocking(&self.store, {
            let key = key.clone();
            move |store| store.compare_and_swap(&key, None, Some(&value))
        })
        .await
        .map_err(stored)?;
        commit(&list.spec, &list.files, runtime).await.map_err(|error| failure_of(&error))?;
        if let Err(error) = blocking(&self.store, move |store| store.compare_and_swap(&key, Some(version), None)).await {
            // Publishing again changes nothing, so the list does no harm.
            tracing::warn!(%id, %error, "the list of a finished commit was not removed");
        }
        Ok(list.files.iter().map(|file| file.rows).sum())
    }

    /// All rows of a job, decoded: for the few rows that are meant for the scheduler itself.
    async fn collect(&self, id: JobId) -> Result<Vec<RecordBatch>, Failure> {
        let job = self.jobs.get(id).ok_or_else(|| Failure::internal("the job is not known"))?;
        self.results.add(id, Source::Job(Arc::clone(&job)));
        let entry = self.results.get(id).ok_or_else(|| Failure::internal("the result is not known"))?;
        let frames = self.results.read(&entry).map_err(|status| FlightError::Tonic(Box::new(status)));
        let rows: Result<Vec<_>, FlightError> = FlightRecordBatchStream::new_from_flight_data(frames).try_collect().await;
        match rows {
            Ok(rows) => Ok(rows),
            Err(error) => Err(job.failure().unwrap_or_else(|| Failure::internal(error.to_string()))),
        }
    }
}

/// Publishes what an earlier scheduler had begun to publish. What can't be published now stays for the next start.
pub(crate) async fn roll_forward(store: &Arc<dyn StateStore>, runtime: &RuntimeEnv) -> Result<(), StoreError> {
    for (key, found) in blocking(store, |store| store.list(COMMITS)).await? {
        let list: CommitList =
            serde_json::from_slice(&found.value).map_err(|error| StoreError::Value { key: key.clone(), why: error.to_string() })?;
        match commit(&list.spec, &list.files, runtime).await {
            Ok(_) => {
                tracing::info!(key, url = list.spec.url, files = list.files.len(), "a commit was completed after a restart");
                blocking(store, move |store| store.compare_and_swap(&key, Some(found.version), None)).await?;
            }
            Err(error) => tracing::error!(key, url = list.spec.url, %error, "a commit could not be completed after a restart"),
        }
    }
    Ok(())
}

/// The answer to a write: how many rows.
pub(super) fn count_result(rows: u64) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    let schema = write_result_schema();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(UInt64Array::from(vec![rows]))]);
    let batch = batch.map_err(|error| Failure { remedy: Remedy::Internal, message: DataFusionError::from(error).to_string() })?;
    Ok((schema, vec![batch]))
}
