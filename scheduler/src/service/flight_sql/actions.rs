//! Flight actions beyond prepared statements: cancelling, session options, and reports on jobs and executors.

use std::time::Duration;

use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, RenewFlightEndpointRequest};
use futures::{StreamExt, stream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use volley_proto::JobId;
use volley_proto::wire::client::v1::{CancelResult, ExecutorsRequest, JobRequest, JobsRequest};
use volley_proto::wire::flight as session_messages;
use volley_proto::wire::flight::session_option_value::OptionValue;
use volley_proto::wire::{action, flight};
use volley_sql::options;
use volley_sql::statement::Immediate;

use super::service::{Actions, FlightSql};
use crate::state::Event;

/// Flight's own actions that arrow-flight does not dispatch.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const RENEW_FLIGHT_ENDPOINT: &str = "RenewFlightEndpoint";
/// Session options that clients know by these names.
const CATALOG: &str = "catalog";
const SCHEMA: &str = "schema";
/// How long a cancellation waits for the job's end before it answers that it is on its way.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// The actions that are answered here, each with what it does.
pub(super) const NAMES: [(&str, &str); 9] = [
    (CANCEL_FLIGHT_INFO, "Cancels a statement. CancelFlightInfoRequest to CancelFlightInfoResult"),
    (RENEW_FLIGHT_ENDPOINT, "Keeps a result for longer. RenewFlightEndpointRequest to FlightEndpoint"),
    (action::SET_SESSION_OPTIONS, "Sets options of the session. SetSessionOptionsRequest to SetSessionOptionsResult"),
    (action::GET_SESSION_OPTIONS, "All options of the session. GetSessionOptionsRequest to GetSessionOptionsResult"),
    (action::CLOSE_SESSION, "Ends the session. CloseSessionRequest to CloseSessionResult"),
    (action::JOBS, "The newest jobs. volley.client.v1.JobsRequest to JobList"),
    (action::JOB_REPORT, "What a job did and does. volley.client.v1.JobRequest to JobReport"),
    (action::EXECUTORS, "The executors. volley.client.v1.ExecutorsRequest to ExecutorList"),
    (action::CANCEL, "Cancels a job. volley.client.v1.JobRequest to CancelResult"),
];

impl FlightSql {
    /// Answers an action that arrow-flight does not know.
    pub(super) async fn act(&self, request: Request<Action>) -> Result<Response<Actions>, Status> {
        let (metadata, _, Action { r#type, body }) = request.into_parts();
        match r#type.as_str() {
            CANCEL_FLIGHT_INFO => {
                let request: CancelFlightInfoRequest = decode(&body)?;
                let info = request.info.ok_or_else(|| Status::invalid_argument("the request has no FlightInfo"))?;
                let status = self.cancel_info(&info, &metadata).await?;
                answer(&CancelFlightInfoResult::new(status))
            }
            RENEW_FLIGHT_ENDPOINT => {
                let request: RenewFlightEndpointRequest = decode(&body)?;
                let endpoint = request.endpoint.ok_or_else(|| Status::invalid_argument("the request has no endpoint"))?;
                let ticket = endpoint.ticket.as_ref().ok_or_else(|| Status::invalid_argument("the endpoint has no ticket"))?;
                self.results.touch(self.job_of_ticket(&ticket.ticket, &metadata)?);
                answer(&endpoint)
            }
            action::SET_SESSION_OPTIONS => answer(&self.set_options(&metadata, decode(&body)?).await?),
            action::GET_SESSION_OPTIONS => {
                let _: session_messages::GetSessionOptionsRequest = decode(&body)?;
                answer(&self.get_options(&metadata))
            }
            action::CLOSE_SESSION => {
                let _: session_messages::CloseSessionRequest = decode(&body)?;
                use session_messages::close_session_result::Status as Closed;
                let closed = if self.sessions.close(&metadata).await { Closed::Closed } else { Closed::NotCloseable };
                answer(&session_messages::CloseSessionResult { status: closed.into() })
            }
            action::JOBS => {
                let request: JobsRequest = decode(&body)?;
                answer(&self.job_list(request.limit).await?)
            }
            action::JOB_REPORT => {
                let request: JobRequest = decode(&body)?;
                answer(&self.job_report(JobId(request.job)).await?)
            }
            action::EXECUTORS => {
                let _: ExecutorsRequest = decode(&body)?;
                answer(&self.executor_list().await?)
            }
            action::CANCEL => {
                let request: JobRequest = decode(&body)?;
                let id = JobId(request.job);
                self.cancel(id, "cancelled by request").await?;
                answer(&CancelResult { state: self.job_state(id)?.into() })
            }
            other => Err(Status::unimplemented(format!("there is no action '{other}': ListActions names those that there are"))),
        }
    }

    /// Cancels the statement of a FlightInfo.
    pub(super) async fn cancel_info(&self, info: &FlightInfo, metadata: &MetadataMap) -> Result<CancelStatus, Status> {
        let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref());
        let ticket = match ticket {
            Some(ticket) => ticket.ticket.clone(),
            None => info.flight_descriptor.as_ref().map(|descriptor| descriptor.cmd.clone()).unwrap_or_default(),
        };
        self.cancel(self.job_of_ticket(&ticket, metadata)?, "cancelled by request").await
    }

    /// Cancels a job and waits for its end.
    async fn cancel(&self, id: JobId, reason: &str) -> Result<CancelStatus, Status> {
        let Some(job) = self.jobs.get(id) else {
            // Results that needed no job can be let go all the same.
            self.results.close(id);
            return Ok(CancelStatus::NotCancellable);
        };
        if matches!(job.phase(), crate::jobs::Phase::Ended(_)) {
            self.results.close(id);
            return Ok(CancelStatus::NotCancellable);
        }
        self.inbox.send(Event::JobCancelled { job: id, reason: reason.to_owned() });
        let ended = tokio::time::timeout(CANCEL_WAIT, job.wait_ended()).await;
        self.results.close(id);
        Ok(if ended.is_ok() { CancelStatus::Cancelled } else { CancelStatus::Cancelling })
    }

    /// The result that the ticket of an endpoint is of.
    pub(super) fn job_of_ticket(&self, ticket: &[u8], metadata: &MetadataMap) -> Result<JobId, Status> {
        self.ticket_of_endpoint(ticket, metadata).map(|ticket| ticket.job)
    }

    async fn set_options(
        &self,
        metadata: &MetadataMap,
        request: flight::SetSessionOptionsRequest,
    ) -> Result<flight::SetSessionOptionsResult, Status> {
        use flight::set_session_options_result::{Error, ErrorValue};
        let session = self.sessions.of(metadata);
        if !session.keyed {
            return Err(Status::failed_precondition(
                "there is no session to set options in: let the client keep cookies, or send a bearer token",
            ));
        }
        let known: Vec<_> = options::entries(session.state().config_options()).into_iter().map(|(name, _)| name).collect();
        let mut errors = std::collections::BTreeMap::new();
        for (name, value) in request.session_options {
            let change = match (name.as_str(), text_of(value.option_value)) {
                (CATALOG, Some(catalog)) => Immediate::Use { catalog: Some(catalog), schema: None },
                (SCHEMA, Some(schema)) => Immediate::Use { catalog: None, schema: Some(schema) },
                (CATALOG, None) => Immediate::Reset { key: "datafusion.catalog.default_catalog".into() },
                (SCHEMA, None) => Immediate::Reset { key: "datafusion.catalog.default_schema".into() },
                (_, Some(value)) => Immediate::Set { key: name.clone(), value },
                (_, None) => Immediate::Reset { key: name.clone() },
            };
            if let Err(error) = change.run(&session.context).await {
                tracing::debug!(name, %error, "a session option was refused");
                let is_known = known.contains(&name.to_ascii_lowercase()) || matches!(name.as_str(), CATALOG | SCHEMA);
                let value = if is_known { ErrorValue::InvalidValue } else { ErrorValue::InvalidName };
                errors.insert(name, Error { value: value.into() });
            }
        }
        self.sessions.keep(&session).await;
        Ok(flight::SetSessionOptionsResult { errors })
    }

    fn get_options(&self, metadata: &MetadataMap) -> flight::GetSessionOptionsResult {
        let state = self.sessions.of(metadata).state();
        let names = &state.config_options().catalog;
        let own = [(CATALOG.to_owned(), Some(names.default_catalog.clone())), (SCHEMA.to_owned(), Some(names.default_schema.clone()))];
        let value = |text: String| flight::SessionOptionValue { option_value: Some(OptionValue::StringValue(text)) };
        let all = options::entries(state.config_options()).into_iter().chain(own);
        flight::GetSessionOptionsResult { session_options: all.filter_map(|(name, text)| Some((name, value(text?)))).collect() }
    }
}

/// An option's value as SET takes it; `None` unsets it.
fn text_of(value: Option<OptionValue>) -> Option<String> {
    Some(match value? {
        OptionValue::StringValue(text) => text,
        OptionValue::BoolValue(value) => value.to_string(),
        OptionValue::Int64Value(value) => value.to_string(),
        OptionValue::DoubleValue(value) => value.to_string(),
        OptionValue::StringListValue(list) => list.values.join(","),
    })
}

fn decode<M: Message + Default>(body: &bytes::Bytes) -> Result<M, Status> {
    M::decode(body.clone()).map_err(|error| Status::invalid_argument(format!("the request can't be read: {error}")))
}

fn answer(message: &impl Message) -> Result<Response<Actions>, Status> {
    let result = arrow_flight::Result::new(message.encode_to_vec());
    Ok(Response::new(stream::iter([Ok(result)]).boxed()))
}
