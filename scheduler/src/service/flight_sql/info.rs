//! FlightInfos: one endpoint without a location, which means the connection that asked.

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use datafusion::arrow::datatypes::Schema;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;
use volley_proto::client::ResultTicket;
use volley_proto::{JobId, SessionId};

use super::service::FlightSql;
use crate::service::status;

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

    /// The ticket of a result: signed, and complete in itself.
    pub(super) fn ticket(&self, id: JobId, holder: &SessionId) -> Vec<u8> {
        let ticket = ResultTicket { term: self.term, job: id, session: holder.clone() };
        let handle = self.results.key.sign_ticket(&ticket);
        TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec()
    }

    /// The result that a statement handle is of. A ticket may be used by another connection, or program, of the same user.
    pub(super) fn open_ticket(&self, handle: &[u8], metadata: &MetadataMap) -> Result<JobId, Status> {
        let ticket: ResultTicket = self.results.key.open_ticket(handle).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.sessions.may_have(&ticket.session, metadata) {
            return Err(Status::permission_denied(format!("the result of {} belongs to another user", ticket.job)));
        }
        Ok(ticket.job)
    }
}
