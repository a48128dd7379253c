//! Writes: the tasks stage files that no reader sees, then they are published, once ([`crate::commits`]).

use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use volley_proto::{Failure, JobId, Remedy};
use volley_sql::catalog::{ClusterCatalog, SessionCatalogs};
use volley_sql::diagnostics::failure_of;
use volley_sql::fail_point;
use volley_sql::statement::{WriteStatement, write_result_schema};
use volley_sql::write::{StagedFile, WriteSpec, rows_of};

use super::ingest;
use super::service::FlightSql;
use super::statements::{Call, CallError, CallResult, CancelOnDrop, without_session};
use crate::commits::{CommitList, NotPublished};
use crate::planning::Work;
use crate::results::Source;

/// Where the rows of a write come from.
pub(super) enum Rows {
    /// From the tasks of a job.
    Tasks,
    /// From the client, through this plan.
    Sent(Arc<dyn ExecutionPlan>),
}

impl FlightSql {
    /// Runs a write to its end: the job's id and the rows written. A client that hangs up meanwhile cancels it, unless its files are
    /// being published by then.
    pub(super) async fn write(&self, call: &Call, state: SessionState, write: WriteStatement) -> CallResult<(JobId, u64)> {
        let id = self.job_ids.next().map_err(|error| (Failure::internal(error.to_string()), None))?;
        let guard = CancelOnDrop::new(&self.inbox, id);
        let (this, call) = (self.clone(), call.clone());
        // A task of its own: it has to clean up also when nobody waits for it any more.
        let running = tokio::spawn(async move { this.run_write(id, &call, state, write, Rows::Tasks).await });
        let ended = guard.over(running).await;
        let rows = ended.map_err(|error| (Failure::internal(format!("the write panicked: {error}")), Some(id)))??;
        Ok((id, rows))
    }

    /// Writes rows that the client sends: their number.
    pub(super) async fn write_sent(&self, call: &Call, state: SessionState, write: WriteStatement, rows: Rows) -> CallResult<u64> {
        let id = self.job_ids.next().map_err(|error| (Failure::internal(error.to_string()), None))?;
        self.run_write(id, call, state, write, rows).await
    }

    async fn run_write(&self, id: JobId, call: &Call, state: SessionState, write: WriteStatement, rows: Rows) -> CallResult<u64> {
        let failed = |failure: Failure| (failure, Some(id));
        let spec = write.target.spec(id.to_string());
        let own = self.own_tables(call, &state, &spec).await.map_err(failed)?;
        if !self.commits.begin(id, &spec, own.as_deref()).await.map_err(failed)? {
            return Ok(0);
        }
        let staged = match rows {
            Rows::Sent(rows) => ingest::stage(rows, &state, &spec).await,
            Rows::Tasks if write.has_no_rows() => Ok(vec![]),
            Rows::Tasks => self.stage(id, call, state, write, &spec).await,
        };
        if staged.is_ok() {
            fail_point("task-sealed");
        }
        match (staged, own) {
            // The files hold what is there already.
            (Ok(files), _) if spec.change.is_some() && rows_of(&spec, &files) == 0 => {
                self.commits.abort(id, &spec).await;
                Ok(0)
            }
            (Ok(files), None) => self.publish(id, CommitList { spec, files }).await,
            (Ok(files), Some(own)) => {
                let published = self.commits.publish_own(id, &spec, &files, &own).await;
                self.sessions.keep(&call.session).await;
                published.map_err(|failure| failed(failure).into())
            }
            (Err(failure), _) => {
                self.commits.abort(id, &spec).await;
                Err(failed(failure).into())
            }
        }
    }

    /// The catalog of the session's own tables, where a write goes to one of them.
    async fn own_tables(&self, call: &Call, state: &SessionState, spec: &WriteSpec) -> Result<Option<Arc<ClusterCatalog>>, Failure> {
        if !spec.table.as_ref().is_some_and(|table| table.temporary) {
            return Ok(None);
        }
        if !call.session.keyed {
            return Err(without_session());
        }
        let (own, cluster) = (SessionCatalogs::temporary_of(state), SessionCatalogs::cluster_of(state));
        let (Some(own), Some(cluster)) = (own, cluster) else {
            return Err(Failure::internal("the session has no catalogs"));
        };
        if let Some(location) = own.warehouse().filter(|_| own.is_empty()) {
            cluster.discard_later(location).await?;
        }
        Ok(Some(own))
    }

    /// Runs the tasks of a write: the files of its committed attempts.
    async fn stage(
        &self,
        id: JobId,
        call: &Call,
        state: SessionState,
        write: WriteStatement,
        spec: &WriteSpec,
    ) -> Result<Vec<StagedFile>, Failure> {
        self.submit_as(id, call, state, Work::Write(write.input, Box::new(spec.clone())), false);
        let rows = self.collect(id).await?;
        let files = rows.iter().map(StagedFile::from_batch).collect::<Result<Vec<_>, _>>();
        Ok(files.map_err(|error| failure_of(&error))?.into_iter().flatten().collect())
    }

    async fn publish(&self, id: JobId, list: CommitList) -> CallResult<u64> {
        let rows = rows_of(&list.spec, &list.files);
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
