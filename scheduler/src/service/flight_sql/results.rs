//! DoGet: the rows of an accepted statement.

use arrow_flight::sql::TicketStatementQuery;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use volley_proto::client::ResultTicket;

use super::service::{FlightSql, Frames};
use crate::results::frames;

impl FlightSql {
    /// The rows behind a ticket, of a result or a part of one, from row 0. Rows come as tasks end; dropping the stream cancels what still runs.
    pub(super) fn read_result(&self, ticket: &TicketStatementQuery, metadata: &MetadataMap) -> Result<Response<Frames>, Status> {
        let ResultTicket { job: id, part, .. } = self.open_ticket(&ticket.statement_handle, metadata)?;
        let gone = || Status::not_found(format!("the result of {id} was read already, was closed or has expired: run the statement again"));
        let entry = self.results.get(id).ok_or_else(gone)?;
        Ok(Response::new(match part {
            Some(part) => self.results.read_part(entry, part.task)?,
            None => frames(self.results.read_for_client(&entry)),
        }))
    }
}
