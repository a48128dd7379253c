//! The gRPC face: arrow-flight dispatches Flight SQL's commands, and this wrapper adds what it leaves out: PollFlightInfo,
//! GetSchema, the kind of a prepared statement, and the cookie that gives a client a session. No call but a handshake comes past it without
//! saying who it is from, where that is asked for.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedSubstraitPlanRequest, Any, Command, CommandStatementSubstraitPlan,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::client::Statement;

use super::service::{FlightSql, refuse_transaction};
use super::substrait;
use crate::sessions::new_cookie;

/// The name of the action that prepares a statement.
const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";
/// The name of the action that prepares a Substrait plan.
const CREATE_PREPARED_SUBSTRAIT_PLAN: &str = "CreatePreparedSubstraitPlan";
/// Actions that arrow-flight lists and that are not answered.
const UNSUPPORTED: [&str; 4] = ["BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint"];

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

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.admit(&request)?;
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, self.flight_info(request).await)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, self.inner.poll(request).await.map(Response::new))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, self.inner.schema(request).await.map(Response::new))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, FlightService::do_get(self.inner.as_ref(), request).await)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        with_cookie(cookie, FlightService::do_put(self.inner.as_ref(), request).await)
    }

    async fn do_exchange(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        self.admit(&request)?;
        Err(Status::unimplemented("DoExchange is for executors: the scheduler answers DoGet"))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        self.admit(&request)?;
        let cookie = new_cookie(request.metadata());
        let answer = match request.get_ref().r#type.as_str() {
            CREATE_PREPARED_STATEMENT | CREATE_PREPARED_SUBSTRAIT_PLAN => self.prepare(request).await,
            _ => FlightService::do_action(self.inner.as_ref(), request).await,
        };
        with_cookie(cookie, answer)
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        self.admit(&request)?;
        let all = FlightService::list_actions(self.inner.as_ref(), request).await?;
        let answered =
            |action: &Result<ActionType, Status>| !action.as_ref().is_ok_and(|action| UNSUPPORTED.contains(&action.r#type.as_str()));
        Ok(all.map(|actions| actions.filter(move |action| std::future::ready(answered(action))).boxed()))
    }
}

impl FlightSqlEndpoint {
    /// Refuses a request that does not say who it is from, where that is asked for.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.inner.sessions.admit(request.metadata())
    }

    /// Accepts a statement, and waits for its end where the session wants endpoints on executors.
    async fn flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let metadata = request.metadata().clone();
        let info = self.inner.flight_info(request).await?.into_inner();
        self.inner.located_info(info, &metadata).await.map(Response::new)
    }

    /// Prepares a statement: here and not through arrow-flight, whose answer has no field for the kind of the statement.
    async fn prepare(&self, request: Request<Action>) -> Answer<<Self as FlightService>::DoActionStream> {
        let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("the request can't be read: {error}"));
        let any = Any::decode(request.get_ref().body.clone()).map_err(|error| wrong(&error))?;
        let statement = match Command::try_from(any).map_err(|error| wrong(&error))? {
            Command::ActionCreatePreparedStatementRequest(ActionCreatePreparedStatementRequest { query, transaction_id }) => {
                refuse_transaction(transaction_id.as_ref())?;
                Statement::Sql(query)
            }
            Command::ActionCreatePreparedSubstraitPlanRequest(ActionCreatePreparedSubstraitPlanRequest { plan, transaction_id }) => {
                substrait::statement(CommandStatementSubstraitPlan { plan, transaction_id })?
            }
            other => return Err(wrong(&format_args!("it holds {}", other.type_url()))),
        };
        let prepared = self.inner.prepare(statement, request.metadata()).await?;
        let body = Any { type_url: super::prepared::RESULT_TYPE_URL.into(), value: prepared.encode_to_vec().into() };
        Ok(Response::new(stream::iter([Ok(arrow_flight::Result::new(body.encode_to_vec()))]).boxed()))
    }
}
