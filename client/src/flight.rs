//! The connection to a scheduler: Flight SQL for statements, Flight actions for the rest.
//!
//! One [`FlightClient`] is one session: it names the session in a cookie from the first request on, so that `SET` lasts, and
//! keeps every cookie that the scheduler sets. Clones share the connection and the session.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightData, FlightDescriptor, FlightInfo, IpcMessage, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use prost::Message;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::JobId;
use volley_proto::wire::client::v1::{
    CancelResult, ExecutorList, ExecutorReport, ExecutorsRequest, JobList, JobReport, JobRequest, JobState, JobsRequest, StatementPlan,
};
use volley_proto::wire::flight::{CloseSessionRequest, SetSessionOptionsRequest, SetSessionOptionsResult};
use volley_proto::wire::{STATEMENT_PLAN_TYPE_URL, action, flight};

use crate::dial;
use crate::error::{ClientError, Result, root_cause};
use crate::rows;

/// Larger than any message that a scheduler sends.
const MESSAGE_BYTES: usize = 1 << 30;
/// The cookie by which a scheduler knows a session.
const SESSION_COOKIE: &str = "volley_session";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";

/// Rows as they arrive.
pub type RowStream = BoxStream<'static, Result<RecordBatch>>;

/// A connection to a scheduler and the session on it.
#[derive(Debug, Clone)]
pub struct FlightClient {
    service: FlightServiceClient<Channel>,
    url: Arc<str>,
    cookies: Arc<Mutex<Cookies>>,
    authorization: Arc<Mutex<Option<AsciiMetadataValue>>>,
}

/// A statement that runs: what it gives, and where to fetch it.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Names and types of the result's columns; none where the statement gives no rows.
    pub schema: SchemaRef,
    info: FlightInfo,
}

impl Execution {
    /// The job, where the scheduler started one for the statement.
    pub fn job(&self) -> Option<JobId> {
        std::str::from_utf8(&self.info.app_metadata).ok()?.parse().ok()
    }
}

impl FlightClient {
    /// Connects to a scheduler: `http://host:port`, `grpc://host:port` or `host:port`; or to the one that answers of several, separated by
    /// commas.
    pub async fn connect(url: &str) -> Result<Self> {
        let broken = |reason: String| ClientError::Connection { url: url.to_owned(), reason };
        let channel = dial::connect(url).await.map_err(|error| broken(root_cause(&error)))?;
        let service = FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES);
        Ok(Self { service, url: url.into(), cookies: Arc::new(Mutex::new(Cookies::new_session())), authorization: Arc::default() })
    }

    /// The address that it is connected to, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement. What has effects (`CREATE`, `INSERT`, `SET`, ...) is done when this returns.
    pub async fn execute(&self, sql: &str) -> Result<Execution> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        self.flight_info(command.as_any().encode_to_vec()).await
    }

    /// Runs an encoded logical plan.
    pub async fn execute_plan(&self, plan: &StatementPlan) -> Result<Execution> {
        let any = Any { type_url: STATEMENT_PLAN_TYPE_URL.to_owned(), value: plan.encode_to_vec().into() };
        self.flight_info(any.encode_to_vec()).await
    }

    pub(crate) async fn flight_info(&self, command: Vec<u8>) -> Result<Execution> {
        let request = self.request(FlightDescriptor::new_cmd(command));
        let info = self.answer(self.service.clone().get_flight_info(request).await)?;
        let schema = if info.schema.is_empty() { Schema::empty() } else { decode_schema(&info.schema)? };
        Ok(Execution { schema: Arc::new(schema), info })
    }

    /// The columns that a query would give; `None` for a statement that gives no rows.
    pub async fn schema_of(&self, sql: &str) -> Result<Option<SchemaRef>> {
        let request = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
        let body = self.act(CREATE_PREPARED_STATEMENT, request.as_any().encode_to_vec()).await?;
        let prepared: ActionCreatePreparedStatementResult = decode_any(&body)?;
        if prepared.dataset_schema.is_empty() {
            return Ok(None);
        }
        let schema = decode_schema(&prepared.dataset_schema)?;
        Ok(if schema.fields().is_empty() { None } else { Some(Arc::new(schema)) })
    }

    /// Fetches the rows of a statement. Dropping the stream cancels what still runs. A scheduler that goes away and comes back with its
    /// state meanwhile costs a pause.
    pub async fn fetch(&self, execution: &Execution) -> Result<RowStream> {
        let mut streams = Vec::with_capacity(execution.info.endpoint.len());
        for endpoint in &execution.info.endpoint {
            let ticket = endpoint.ticket.clone().ok_or_else(|| ClientError::Protocol("an endpoint without a ticket".into()))?;
            streams.push(rows::read(self.clone(), ticket).await?);
        }
        Ok(futures::stream::iter(streams).flatten().boxed())
    }

    /// The frames behind a ticket.
    pub(crate) async fn do_get(&self, ticket: Ticket) -> Result<Streaming<FlightData>> {
        self.answer(self.service.clone().do_get(self.request(ticket)).await)
    }

    /// Cancels a statement that runs. Unlike dropping its stream, which gives it some seconds of grace, this is at once.
    pub async fn cancel(&self, execution: &Execution) -> Result<()> {
        let request = CancelFlightInfoRequest { info: Some(execution.info.clone()) };
        self.act(CANCEL_FLIGHT_INFO, request.encode_to_vec()).await.map(drop)
    }

    /// Sets options of the session by Flight's own action. Refused options are an error that names them.
    pub async fn set_options(&self, options: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let value = |text| flight::SessionOptionValue { option_value: Some(flight::session_option_value::OptionValue::StringValue(text)) };
        let session_options = options.into_iter().map(|(name, text)| (name, value(text))).collect();
        let result: SetSessionOptionsResult = self.call(action::SET_SESSION_OPTIONS, &SetSessionOptionsRequest { session_options }).await?;
        let mut refused: Vec<_> = result.errors.into_keys().collect();
        refused.sort_unstable();
        if refused.is_empty() {
            return Ok(());
        }
        let message = format!("the scheduler does not take the session option {}", refused.join(", "));
        Err(ClientError::Query { code: tonic::Code::InvalidArgument, message })
    }

    /// What a job does and did.
    pub async fn job(&self, job: JobId) -> Result<JobReport> {
        self.call(action::JOB_REPORT, &JobRequest { job: job.0 }).await
    }

    /// The newest jobs; 0 for all that the scheduler remembers.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobReport>> {
        self.call::<JobList>(action::JOBS, &JobsRequest { limit }).await.map(|list| list.jobs)
    }

    /// The executors that the scheduler knows.
    pub async fn executors(&self) -> Result<Vec<ExecutorReport>> {
        self.call::<ExecutorList>(action::EXECUTORS, &ExecutorsRequest {}).await.map(|list| list.executors)
    }

    /// Cancels a job; gives its state after that.
    pub async fn cancel_job(&self, job: JobId) -> Result<JobState> {
        let result: CancelResult = self.call(action::CANCEL, &JobRequest { job: job.0 }).await?;
        Ok(result.state())
    }

    /// Ends the session: its options are forgotten.
    pub async fn close(&self) -> Result<()> {
        self.act(action::CLOSE_SESSION, CloseSessionRequest {}.encode_to_vec()).await.map(drop)
    }

    /// An action with one message in and one out.
    async fn call<Answer: Message + Default>(&self, name: &str, request: &impl Message) -> Result<Answer> {
        let body = self.act(name, request.encode_to_vec()).await?;
        Answer::decode(body.as_slice()).map_err(|error| ClientError::Protocol(format!("{name}: {error}")))
    }

    pub(crate) async fn act(&self, name: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let request = self.request(Action { r#type: name.to_owned(), body: body.into() });
        let mut results = self.answer(self.service.clone().do_action(request).await)?;
        let first = results.message().await.map_err(|status| ClientError::from_status(&self.url, &status))?;
        Ok(first.map(|result| result.body.to_vec()).unwrap_or_default())
    }

    /// The connection below, for messages that have no method here.
    #[cfg(feature = "postgres")]
    pub(crate) fn service(&self) -> FlightServiceClient<Channel> {
        self.service.clone()
    }

    /// Goes on as the session that this header names, which the scheduler gave, instead of the cookie's.
    #[cfg(feature = "postgres")]
    pub(crate) fn authorize(&self, header: AsciiMetadataValue) {
        self.cookies.lock().0.remove(SESSION_COOKIE);
        *self.authorization.lock() = Some(header);
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = self.cookies.lock().header() {
            request.metadata_mut().insert("cookie", value);
        }
        if let Some(value) = self.authorization.lock().clone() {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    pub(crate) fn answer<T>(&self, response: Result<Response<T>, Status>) -> Result<T> {
        let response = response.map_err(|status| ClientError::from_status(&self.url, &status))?;
        self.cookies.lock().keep(response.metadata());
        Ok(response.into_inner())
    }
}

pub(crate) fn decode_schema(message: &bytes::Bytes) -> Result<Schema> {
    IpcMessage(message.clone()).try_into().map_err(|error| ClientError::Protocol(format!("schema: {error}")))
}

pub(crate) fn decode_any<M: ProstMessageExt>(body: &[u8]) -> Result<M> {
    let wrong = |reason: String| ClientError::Protocol(reason);
    let any = Any::decode(body).map_err(|error| wrong(error.to_string()))?;
    let message = any.unpack::<M>().map_err(|error| wrong(error.to_string()))?;
    message.ok_or_else(|| wrong(format!("unexpected message {}", any.type_url)))
}

/// A failure of a stream from the scheduler at `url`.
pub(crate) fn flight_error(url: &str, error: FlightError) -> ClientError {
    match error {
        FlightError::Tonic(status) => ClientError::from_status(url, &status),
        other => ClientError::Protocol(other.to_string()),
    }
}

/// What the scheduler told this client to send back with every request.
#[derive(Debug, Default)]
struct Cookies(BTreeMap<String, String>);

impl Cookies {
    /// A session that no other client has.
    fn new_session() -> Self {
        Self(BTreeMap::from([(SESSION_COOKIE.to_owned(), uuid::Uuid::new_v4().simple().to_string())]))
    }

    /// Takes over `set-cookie` headers: `name=value; attribute; ...`; an age of 0 takes the cookie away.
    fn keep(&mut self, headers: &MetadataMap) {
        for header in headers.get_all("set-cookie") {
            let Ok(text) = header.to_str() else { continue };
            let mut parts = text.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            if parts.any(|attribute| attribute.eq_ignore_ascii_case("max-age=0")) {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn header(&self) -> Option<AsciiMetadataValue> {
        if self.0.is_empty() {
            return None;
        }
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_replaced_and_dropped() {
        let mut cookies = Cookies::default();
        assert!(cookies.header().is_none());
        let mut headers = MetadataMap::new();
        headers.append("set-cookie", AsciiMetadataValue::from_static("session=abc=; Path=/; HttpOnly"));
        headers.append("set-cookie", AsciiMetadataValue::from_static("other=1"));
        cookies.keep(&headers);
        assert_eq!(cookies.header().unwrap(), "other=1; session=abc=");
        let mut headers = MetadataMap::new();
        headers.append("set-cookie", AsciiMetadataValue::from_static("other=; Max-Age=0"));
        cookies.keep(&headers);
        assert_eq!(cookies.header().unwrap(), "session=abc=");
    }

    #[tokio::test]
    async fn a_scheduler_that_is_not_there_is_named() {
        let error = FlightClient::connect("127.0.0.1:1").await.unwrap_err();
        assert!(error.is_connection());
        assert!(error.to_string().starts_with("can't reach the scheduler at 127.0.0.1:1: "), "{error}");
    }
}
