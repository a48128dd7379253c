//! The Flight service of an executor.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, TicketStatementQuery};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::client::ResultTicket;
use volley_proto::shuffle::ExchangeTicket;

use super::feeder::Feeder;
use super::result::send_result;
use crate::exchange::Exchange;
use crate::exchange::entry::Access;

/// Messages that wait for the transport. Encoding stays that far ahead of it and no further.
const MESSAGES_AHEAD: usize = 4;

type Messages<T> = BoxStream<'static, Result<T, Status>>;

/// Serves the outputs of one executor to whoever has a ticket signed by its cluster.
#[derive(Debug, Clone)]
pub struct ExchangeFlightService {
    exchange: Arc<Exchange>,
}

impl ExchangeFlightService {
    pub(in crate::exchange) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    fn access(&self) -> Result<Access, Status> {
        let executor = &self.exchange.config.executor;
        let none = || Status::unavailable(format!("executor {executor} is not yet registered with a scheduler"));
        self.exchange.access().ok_or_else(none)
    }

    /// The ticket, if it is genuine and meant for this life of this executor.
    fn open(&self, ticket: &[u8]) -> Result<ExchangeTicket, Status> {
        let access = self.access()?;
        let ticket = access.key.open_ticket(ticket).map_err(|e| Status::permission_denied(e.to_string()))?;
        self.check(&access, ticket)
    }

    /// The ticket of a client for a part of a result, which is one of Flight SQL's statements; `None` where it is something else.
    fn open_part(&self, ticket: &Bytes) -> Result<Option<ExchangeTicket>, Status> {
        let Ok(any) = Any::decode(ticket.clone()) else { return Ok(None) };
        let Ok(Some(statement)) = any.unpack::<TicketStatementQuery>() else { return Ok(None) };
        let access = self.access()?;
        let opened: ResultTicket =
            access.key.open_ticket(&statement.statement_handle).map_err(|e| Status::permission_denied(e.to_string()))?;
        match opened.part.and_then(|part| part.exchange) {
            Some(ticket) => self.check(&access, ticket).map(Some),
            None => Err(Status::invalid_argument("the ticket is for the scheduler: its rows are not on an executor")),
        }
    }

    /// The ticket, if it is meant for this life of this executor.
    fn check(&self, access: &Access, ticket: ExchangeTicket) -> Result<ExchangeTicket, Status> {
        let config = &self.exchange.config;
        if ticket.executor != config.executor || ticket.incarnation != config.incarnation {
            let (executor, incarnation) = (&ticket.executor, ticket.incarnation);
            return Err(Status::failed_precondition(format!(
                "the ticket is for executor {executor} in incarnation {incarnation}, and this is {} in incarnation {}",
                config.executor, config.incarnation
            )));
        }
        if ticket.term < access.term {
            // The reader may hear of the new term any moment: it is welcome to ask again.
            let (term, newer) = (ticket.term, access.term);
            return Err(Status::unavailable(format!("the ticket is of {term}, and executor {} knows {newer}", config.executor)));
        }
        Ok(ticket)
    }
}

#[tonic::async_trait]
impl FlightService for ExchangeFlightService {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let request = request.into_inner();
        let of_client = self.open_part(&request.ticket)?;
        let is_of_client = of_client.is_some();
        let ticket = match of_client {
            Some(ticket) => ticket,
            None => self.open(&request.ticket)?,
        };
        if ticket.selections.is_empty() {
            return Err(Status::invalid_argument("the ticket selects nothing: a DoGet needs at least one attempt and partition"));
        }
        let (sender, messages) = mpsc::channel(MESSAGES_AHEAD);
        // It ends when it has sent everything, or when nobody listens any more.
        drop(tokio::spawn(send_result(Arc::clone(&self.exchange), ticket, is_of_client, sender)));
        Ok(Response::new(ReceiverStream::new(messages).boxed()))
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let descriptor = first.as_ref().and_then(|first| first.flight_descriptor.as_ref());
        let Some((first, descriptor)) = first.as_ref().zip(descriptor) else {
            return Err(Status::invalid_argument("the first message of an exchange has no descriptor: its command is to be the ticket"));
        };
        let ticket = self.open(&descriptor.cmd)?;
        let mut feeder = Feeder::new(Arc::clone(&self.exchange), ticket);
        feeder.handle(first)?;
        let (sender, messages) = mpsc::channel(MESSAGES_AHEAD);
        // It ends when the reader ends its side or stops listening.
        drop(tokio::spawn(feeder.run(requests, sender)));
        Ok(Response::new(ReceiverStream::new(messages).boxed()))
    }

    async fn handshake(&self, _request: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(not_here("Handshake"))
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(not_here("ListFlights"))
    }

    async fn get_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(not_here("GetFlightInfo"))
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(not_here("PollFlightInfo"))
    }

    async fn get_schema(&self, _request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(not_here("GetSchema"))
    }

    async fn do_put(&self, _request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(not_here("DoPut"))
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(not_here("DoAction"))
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(not_here("ListActions"))
    }
}

fn not_here(method: &str) -> Status {
    Status::unimplemented(format!("an executor does not answer {method}: connect to the scheduler"))
}
