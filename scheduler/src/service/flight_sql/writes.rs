//! Writes: the tasks stage files that no reader sees, then they are published, once ([`crate::commits`]).

use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use futures::TryStreamExt;
use volley_proto::{Failure, JobId, Remedy};
use volley_sql::diagnostics::failure_of;
use volley_sql::statement::{WriteStatement, write_result_schema};
use volley_sql::write::{StagedFile, abort, begin};

use super::service::FlightSql;
use super::statements::{Call, CallError, CallResult, CancelOnDrop};
use crate::commits::{CommitList, NotPublished};
use crate::planning::Work;
use crate::results::Source;

impl FlightSql {
    /// Runs a write to its end: the job's id and the rows written. A client that hangs up meanwhile cancels it, unless its files are
    /// being published by then.
    pub(super) async fn write(&self, call: &Call, state: SessionState, write: WriteStatement) -> CallResult<(JobId, u64)> {
        let id = self.job_ids.next().map_err(|error| (Failure::internal(error.to_string()), None))?;
        let guard = CancelOnDrop::new(&self.inbox, id);
        let (this, call) = (self.clone(), call.clone());
        // A task of its own: it has to clean up also when nobody waits for it any more.
        let running = tokio::spawn(async move { this.run_write(id, &call, state, write).await });
        let ended = guard.over(running).await;
        let rows = ended.map_err(|error| (Failure::internal(format!("the write panicked: {error}")), Some(id)))??;
        Ok((id, rows))
    }

    async fn run_write(&self, id: JobId, call: &Call, state: SessionState, write: WriteStatement) -> CallResult<u64> {
        let failed = |failure: Failure| (failure, Some(id));
        let spec = write.target.spec(id.to_string());
        let runtime = Arc::clone(state.runtime_env());
        self.commits.check(&spec).map_err(failed)?;
        begin(&spec, &runtime).await.map_err(|error| failed(failure_of(&error)))?;
        self.submit_as(id, call, state, Work::Write(write.input, spec.clone()));
        let staged = match self.collect(id).await {
            Ok(rows) => rows.iter().map(StagedFile::from_batch).collect::<Result<Vec<_>, _>>().map_err(|error| failure_of(&error)),
            Err(failure) => Err(failure),
        };
        match staged {
            Ok(files) => self.publish(id, CommitList { spec, files: files.into_iter().flatten().collect() }).await,
            Err(failure) => {
                if let Err(error) = abort(&spec, &runtime).await {
                    tracing::warn!(%id, %error, "what a failed write had staged was not removed");
                }
                Err(failed(failure).into())
            }
        }
    }

    async fn publish(&self, id: JobId, list: CommitList) -> CallResult<u64> {
        let rows = list.files.iter().map(|file| file.rows).sum();
        match self.commits.publish(id, list).await {
            Ok(()) => Ok(rows),
            Err(NotPublished::Refused(failure)) => Err((failure, Some(id)).into()),
            Err(NotPublished::Later(message)) => Err(CallError::Unfinished(message)),
        }
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

/// The answer to a write: how many rows.
pub(super) fn count_result(rows: u64) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    let schema = write_result_schema();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(UInt64Array::from(vec![rows]))]);
    let batch = batch.map_err(|error| Failure { remedy: Remedy::Internal, message: DataFusionError::from(error).to_string() })?;
    Ok((schema, vec![batch]))
}
