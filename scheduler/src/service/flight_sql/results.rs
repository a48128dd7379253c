//! DoGet: the rows of an accepted statement.

use arrow_flight::sql::TicketStatementQuery;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::service::{FlightSql, Frames};
use crate::results::frames;

impl FlightSql {
    /// The rows behind a ticket, from row 0. Rows come as tasks end; dropping the stream cancels what still runs.
    pub(super) fn read_result(&self, ticket: &TicketStatementQuery, metadata: &MetadataMap) -> Result<Response<Frames>, Status> {
        let id = self.open_ticket(&ticket.statement_handle, metadata)?;
        let gone = || Status::not_found(format!("the result of {id} was read already, was closed or has expired: run the statement again"));
        let entry = self.results.get(id).ok_or_else(gone)?;
        Ok(Response::new(frames(self.results.read_for_client(&entry))))
    }
}
