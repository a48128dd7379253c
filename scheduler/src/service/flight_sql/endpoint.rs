//! The gRPC face: arrow-flight dispatches Flight SQL's commands, and this wrapper adds what it leaves out: PollFlightInfo,
//! GetSchema, the kind of a prepared statement, and the cookie that gives a client a session.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, Any};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::service::FlightSql;
use crate::sessions::new_cookie;

/// The name of the action that prepares a statement.
const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";

/// The service as tonic serves it.
#[derive(Debug, Clone)]
pub(crate) struct FlightSqlEndpoint {
    inner: Arc<FlightSql>,
}

impl FlightSqlEndpoint {
    /// Serves `inner`.
    pub(crate) fn new(inner: FlightSql) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// Adds the cookie to an answer, refusals included, when the request had no key.
fn with_cookie<T>(cookie: Option<String>, mut answer: Answer<T>) -> Answer<T> {
    let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok()) else { return answer };
    let metadata: &mut MetadataMap = match &mut answer {
        Ok(response) => response.metadata_mut(),
        Err(status) => status.metadata_mut(),
    };
    metadata.insert("set-cookie", cookie);
    answer
}

#[tonic::async_trait]
impl FlightService for FlightSqlEndpoint {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        FlightService::handshake(self.inner.as_ref(), request).await
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, FlightService::get_flight_info(self.inner.as_ref(), request).await)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, self.inner.poll(request).await.map(Response::new))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, self.inner.schema(request).await.map(Response::new))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, FlightService::do_get(self.inner.as_ref(), request).await)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, FlightService::do_put(self.inner.as_ref(), request).await)
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented("DoExchange is for executors: the scheduler answers DoGet"))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let cookie = new_cookie(request.metadata());
        let answer = if request.get_ref().r#type == CREATE_PREPARED_STATEMENT {
            self.prepare(request).await
        } else {
            FlightService::do_action(self.inner.as_ref(), request).await
        };
        with_cookie(cookie, answer)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        FlightService::list_actions(self.inner.as_ref(), request).await
    }
}

impl FlightSqlEndpoint {
    /// Prepares a statement: here and not through arrow-flight, whose answer has no field for the kind of the statement.
    async fn prepare(&self, request: Request<Action>) -> Answer<<Self as FlightService>::DoActionStream> {
        let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("the request can't be read: {error}"));
        let any = Any::decode(request.get_ref().body.clone()).map_err(|error| wrong(&error))?;
        let query: Option<ActionCreatePreparedStatementRequest> = any.unpack().map_err(|error| wrong(&error))?;
        let query = query.ok_or_else(|| wrong(&format_args!("it holds {}", any.type_url)))?;
        let prepared = self.inner.prepare(query, request.metadata()).await?;
        let body = Any { type_url: super::prepared::RESULT_TYPE_URL.into(), value: prepared.encode_to_vec().into() };
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result::new(body.encode_to_vec()))]).boxed()))
    }
}
