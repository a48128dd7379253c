//! FlightInfos: one endpoint without a location, which means the connection that asked; or, where a session wants it, one for each root
//! task with the executor that holds its rows.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use datafusion::arrow::datatypes::Schema;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;
use volley_proto::client::ResultTicket;
use volley_proto::{JobId, SessionId};
use volley_sql::options::ResultEndpoints;

use super::service::FlightSql;
use super::statements::CancelOnDrop;
use crate::results::{Located, Source};
use crate::service::status;

/// The location that means the connection that asked, as Flight names it.
const HERE: &str = "arrow-flight-reuse-connection://?";

/// An answer whose rows wait to be read.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    /// The result's id.
    pub(super) id: JobId,
    /// The schema of its stream.
    pub(super) schema: datafusion::arrow::datatypes::SchemaRef,
    /// Rows that were written, where it was a write; 0 for other changes, `None` for a query.
    pub(super) written: Option<u64>,
}

/// A FlightInfo of a result, or of a metadata command that is its own ticket.
pub(super) fn flight_info(schema: &Schema, ticket: impl Into<bytes::Bytes>, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.into()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(|error| status::internal("the schema can't be encoded", error))?;
    Ok(info.with_endpoint(endpoint).with_descriptor(descriptor).with_total_records(-1).with_total_bytes(-1))
}

impl FlightSql {
    /// The FlightInfo of an accepted statement. Its metadata names the job.
    pub(super) fn accepted_info(
        &self,
        accepted: &Accepted,
        holder: &SessionId,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let info = flight_info(&accepted.schema, self.ticket(accepted.id, holder), descriptor)?;
        Ok(info.with_app_metadata(accepted.id.to_string()))
    }

    /// The FlightInfo with endpoints on executors, if the session wants them and the result can be read in parts; it is complete then.
    pub(super) async fn located_info(&self, info: FlightInfo, metadata: &MetadataMap) -> Result<FlightInfo, Status> {
        let options = self.sessions.of(metadata).options();
        if options.result_endpoints == ResultEndpoints::Scheduler {
            return Ok(info);
        }
        let [FlightEndpoint { ticket: Some(ticket), .. }] = info.endpoint.as_slice() else { return Ok(info) };
        // Commands for metadata are their own tickets.
        let Ok(ticket) = self.ticket_of_endpoint(&ticket.ticket, metadata) else { return Ok(info) };
        let Some(entry) = self.results.get(ticket.job) else { return Ok(info) };
        let Source::Job(job) = &entry.source else { return Ok(info) };
        let guard = CancelOnDrop::new(&self.inbox, job.id);
        let parts = guard.over(self.results.parts(&entry, job)).await.map_err(|failure| status::of_failure(&failure, Some(job.id)))?;
        let Some(parts) = parts else { return Ok(info) };
        // In seconds since the Unix epoch.
        let expires = (SystemTime::now() + self.results.expiry).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let endpoint = parts.into_iter().map(|located| self.endpoint(&ticket, located, expires)).collect();
        Ok(FlightInfo { endpoint, ordered: true, ..info })
    }

    /// The endpoint of a part: its ticket is good at the executor and here.
    fn endpoint(&self, whole: &ResultTicket, located: Located, expires: i64) -> FlightEndpoint {
        let ticket = self.sign(&ResultTicket { part: Some(located.part), ..whole.clone() });
        let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
        endpoint.expiration_time.get_or_insert_default().seconds = expires;
        match located.address {
            Some(address) => endpoint.with_location(format!("grpc+tcp://{address}")).with_location(HERE),
            None => endpoint,
        }
    }

    /// The ticket of a result: signed, and complete in itself.
    pub(super) fn ticket(&self, id: JobId, holder: &SessionId) -> Vec<u8> {
        self.sign(&ResultTicket { term: self.term, job: id, session: holder.clone(), part: None })
    }

    fn sign(&self, ticket: &ResultTicket) -> Vec<u8> {
        let handle = self.results.key.sign_ticket(ticket);
        TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec()
    }

    /// The result that a statement handle is of. A ticket may be used by another connection, or program, of the same user.
    pub(super) fn open_ticket(&self, handle: &[u8], metadata: &MetadataMap) -> Result<ResultTicket, Status> {
        let ticket: ResultTicket = self.results.key.open_ticket(handle).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.sessions.may_have(&ticket.session, metadata) {
            return Err(Status::permission_denied(format!("the result of {} belongs to another user", ticket.job)));
        }
        Ok(ticket)
    }

    /// What the ticket of an endpoint says, where it is one of a statement.
    pub(super) fn ticket_of_endpoint(&self, ticket: &[u8], metadata: &MetadataMap) -> Result<ResultTicket, Status> {
        let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("the ticket can't be read: {error}"));
        let any = Any::decode(ticket).map_err(|error| wrong(&error))?;
        match Command::try_from(any).map_err(|error| wrong(&error))? {
            Command::TicketStatementQuery(ticket) => self.open_ticket(&ticket.statement_handle, metadata),
            other => Err(Status::invalid_argument(format!("{} is no statement that runs", other.type_url()))),
        }
    }
}
