//! The scheduler as clients and executors see it, over real connections; executors are played by [`executor::FakeExecutor`].

mod control;
mod eager;
mod executor;
mod ingest;
mod login;
mod malformed;
mod metadata;
mod parts;
mod probes;
mod restart;
mod results;
mod schemas;
mod sessions;
mod statements;

use std::collections::BTreeMap;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, IpcMessage, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use volley_scheduler::{Components, Config, Scheduler, SchedulerHandle};

/// A scheduler in this process.
async fn scheduler(change: impl FnOnce(&mut Config)) -> SchedulerHandle {
    let mut config = Config::embedded();
    change(&mut config);
    Scheduler::start(config, Components::default()).await.unwrap()
}

/// A client that may send a cookie.
#[derive(Clone)]
struct Client {
    service: FlightServiceClient<Channel>,
    headers: BTreeMap<&'static str, String>,
}

impl Client {
    /// A client without a session.
    fn keyless(scheduler: &SchedulerHandle) -> Self {
        let channel = volley_scheduler::net::channel(&scheduler.address().to_string()).unwrap();
        Self { service: FlightServiceClient::new(channel), headers: BTreeMap::new() }
    }

    /// A client with a session of its own.
    fn with_cookie(scheduler: &SchedulerHandle, cookie: &str) -> Self {
        let mut client = Self::keyless(scheduler);
        client.headers.insert("cookie", format!("volley_session={cookie}"));
        client
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    async fn info(&self, command: impl ProstMessageExt) -> Result<FlightInfo, Status> {
        self.info_response(command).await.map(Response::into_inner)
    }

    async fn info_response(&self, command: impl ProstMessageExt) -> Result<Response<FlightInfo>, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        self.service.clone().get_flight_info(self.request(descriptor)).await
    }

    async fn query(&self, sql: &str) -> Result<FlightInfo, Status> {
        self.info(CommandStatementQuery { query: sql.into(), transaction_id: None }).await
    }

    /// The rows behind an answer, whose schema is checked against what was announced.
    async fn fetch(&self, info: &FlightInfo) -> Result<Vec<RecordBatch>, Status> {
        let [endpoint] = info.endpoint.as_slice() else { panic!("{} endpoints", info.endpoint.len()) };
        let is_here = endpoint.location.is_empty() || endpoint.location.iter().any(|location| location.uri == parts::HERE);
        assert!(is_here, "{:?}", endpoint.location);
        let announced: Schema = IpcMessage(info.schema.clone()).try_into().unwrap();
        let mut rows = self.read(endpoint.ticket.clone().unwrap()).await?;
        let batches: Vec<_> = (&mut rows).try_collect().await.map_err(|error: FlightError| match error {
            FlightError::Tonic(status) => *status,
            other => panic!("{other}"),
        })?;
        assert_eq!(rows.schema().map(AsRef::as_ref), Some(&announced));
        Ok(batches)
    }

    async fn read(&self, ticket: Ticket) -> Result<FlightRecordBatchStream, Status> {
        let frames = self.service.clone().do_get(self.request(ticket)).await?.into_inner();
        let frames = frames.map_err(|status| FlightError::Tonic(Box::new(status)));
        Ok(FlightRecordBatchStream::new_from_flight_data(frames))
    }

    /// Runs a statement and shows its rows.
    async fn show(&self, sql: &str) -> Result<String, Status> {
        let info = self.query(sql).await?;
        Ok(pretty_format_batches(&self.fetch(&info).await?).unwrap().to_string())
    }

    async fn act<Answer: Message + Default>(&self, name: &str, body: impl Message) -> Result<Answer, Status> {
        let action = Action { r#type: name.into(), body: body.encode_to_vec().into() };
        let mut results = self.service.clone().do_action(self.request(action)).await?.into_inner();
        let result = results.message().await?.expect("an action answers");
        Ok(Answer::decode(result.body).unwrap())
    }
}
