//! PollFlightInfo: a statement is accepted with the first poll, and each later one waits a little for progress. The endpoint appears
//! when all rows are there.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::{Any, Command};
use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use volley_proto::JobId;

use super::info::Accepted;
use super::service::FlightSql;
use crate::jobs::{Job, Phase};
use crate::results::Source;
use crate::service::status;
use crate::state::JobSummary;

/// How long a poll waits for the rows.
const PATIENCE: Duration = Duration::from_secs(1);

impl FlightSql {
    /// Accepts a statement, or says how far one has come.
    pub(super) async fn poll(&self, request: Request<FlightDescriptor>) -> Result<PollInfo, Status> {
        let metadata = request.metadata().clone();
        let any = Any::decode(request.get_ref().cmd.clone());
        if let Ok(Ok(Command::TicketStatementQuery(ticket))) = any.map(Command::try_from) {
            let id = self.open_ticket(&ticket.statement_handle, request.metadata())?.job;
            let session = self.sessions.of(request.metadata());
            let (schema, job) = self.source(id)?;
            let accepted = Accepted { id, schema, written: None };
            let info = self.accepted_info(&accepted, &session.holder, request.into_inner())?;
            return self.progress(job, info, &metadata).await;
        }
        let accepted = self.flight_info(request).await?.into_inner();
        let ticket = accepted.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref());
        let job = match ticket.map(|ticket| self.job_of_ticket(&ticket.ticket, &metadata)) {
            Some(Ok(id)) => self.source(id)?.1,
            // A metadata command: its answer is there at once.
            _ => None,
        };
        self.progress(job, accepted, &metadata).await
    }

    async fn progress(&self, job: Option<Arc<Job>>, info: FlightInfo, metadata: &MetadataMap) -> Result<PollInfo, Status> {
        let Some(job) = job else { return complete(info) };
        self.results.touch(job.id);
        match tokio::time::timeout(PATIENCE, job.wait_sealed()).await {
            Ok(Ok(())) => complete(self.located_info(info, metadata).await?),
            Ok(Err(failure)) => Err(status::of_failure(&failure, Some(job.id))),
            Err(_) => {
                let id = job.id;
                let summary = self.inbox.ask(move |cluster| cluster.job(id)).await;
                let progress = summary.ok().flatten().map_or(0.0, |summary| share_done(&summary));
                let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone()).unwrap_or_default();
                let next = FlightDescriptor::new_cmd(ticket.ticket);
                let poll = PollInfo::new().with_info(FlightInfo { endpoint: Vec::new(), ..info }).with_descriptor(next);
                poll.try_with_progress(progress).map_err(|error| status::internal("the progress can't be told", error))
            }
        }
    }

    /// The schema of a result that is not closed, and its job if it has one.
    fn source(&self, id: JobId) -> Result<(datafusion::arrow::datatypes::SchemaRef, Option<Arc<Job>>), Status> {
        let gone = || Status::not_found(format!("the result of {id} was read already, was closed or has expired: run the statement again"));
        let entry = self.results.get(id).ok_or_else(gone)?;
        match &entry.source {
            Source::Batches { schema, .. } => Ok((Arc::clone(schema), None)),
            Source::Job(job) => match (job.plan(), job.phase()) {
                (Some(planned), _) => Ok((Arc::clone(&planned.schema), Some(Arc::clone(job)))),
                (None, Phase::Ended(outcome)) => Err(status::of_failure(&crate::jobs::failure(&outcome), Some(id))),
                (None, _) => Err(gone()),
            },
        }
    }
}

fn complete(info: FlightInfo) -> Result<PollInfo, Status> {
    PollInfo::new().with_info(info).try_with_progress(1.0).map_err(|error| status::internal("the progress can't be told", error))
}

/// Share of the job's tasks that are done.
fn share_done(summary: &JobSummary) -> f64 {
    if summary.tasks == 0 { 0.0 } else { f64::from(summary.tasks_sealed) / f64::from(summary.tasks) }
}
