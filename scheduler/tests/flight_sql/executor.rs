//! An executor that computes nothing: it registers, answers each launch as the test says, and serves canned rows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use datafusion::arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::control::{Command, ExecutorMessage, Notice, Registration, SchedulerMessage};
use volley_proto::shuffle::{ChunkHeader, ChunkKind, ExchangeTicket, TaskAttempt};
use volley_proto::wire::control::v1 as wire;
use volley_proto::wire::control::v1::executor_control_client::ExecutorControlClient;
use volley_proto::wire::shuffle::v1 as shuffle;
use volley_proto::{
    AttemptId, ExecutorId, Incarnation, InlineFrame, PartitionId, PartitionStats, TaskMetrics, TaskOutcome, TaskReport, TaskSpec, TicketKey,
};
use volley_scheduler::SchedulerHandle;
use volley_sql::build_id;

/// A registration that is accepted.
pub(super) fn registration(name: &str) -> Registration {
    Registration {
        executor: ExecutorId::new(name),
        build_id: build_id(),
        slots: 2,
        memory_bytes: 1 << 30,
        address: "127.0.0.1:1".into(),
        running: vec![],
        held: vec![],
    }
}

/// The control stream, from the executor's side.
pub(super) struct Connection {
    incarnation: Incarnation,
    outgoing: mpsc::UnboundedSender<wire::ExecutorMessage>,
    incoming: Streaming<wire::SchedulerMessage>,
}

impl Connection {
    pub(super) async fn open(scheduler: &SchedulerHandle, incarnation: u64, registration: Registration) -> Self {
        Self::open_with(scheduler, incarnation, Notice::Register(registration)).await
    }

    pub(super) async fn open_with(scheduler: &SchedulerHandle, incarnation: u64, first: Notice) -> Self {
        let channel = volley_scheduler::net::channel(&scheduler.address().to_string()).unwrap();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let incarnation = Incarnation(incarnation);
        outgoing.send(ExecutorMessage { incarnation, notice: first }.into()).unwrap();
        let incoming = ExecutorControlClient::new(channel).connect(UnboundedReceiverStream::new(queue)).await.unwrap().into_inner();
        Self { incarnation, outgoing, incoming }
    }

    pub(super) async fn next(&mut self) -> Option<SchedulerMessage> {
        let message = self.incoming.message().await.ok().flatten()?;
        Some(SchedulerMessage::try_from(message).unwrap())
    }

    fn report(&self, executor: &ExecutorId, attempt: AttemptId, outcome: TaskOutcome) {
        self.reporter()(executor, attempt, outcome);
    }

    /// What sends reports also when the connection itself is in use.
    fn reporter(&self) -> impl Fn(&ExecutorId, AttemptId, TaskOutcome) + Send + 'static {
        let (incarnation, outgoing) = (self.incarnation, self.outgoing.clone());
        move |executor, attempt, outcome| {
            let report = TaskReport { attempt, executor: executor.clone(), incarnation, outcome };
            // A scheduler that is gone needs no report.
            let _ = outgoing.send(ExecutorMessage { incarnation, notice: Notice::Report(report) }.into());
        }
    }
}

/// How a task ends that shows rows while it runs; `None` for not yet.
pub(super) type End = watch::Receiver<Option<Result<(), volley_proto::Failure>>>;

/// What becomes of a task.
#[derive(Debug, Clone)]
pub(super) enum Play {
    /// It seals with these rows in partition 0.
    Seal(RecordBatch),
    /// It seals with these rows, which come with the report and can't be fetched.
    SealInline(RecordBatch),
    /// It has these rows in partition 0 while it runs, and ends when it is told how.
    Flow(RecordBatch, End),
    /// It runs until it is cancelled.
    Hang,
    /// It fails.
    Fail(volley_proto::Failure),
}

/// An executor without an engine.
pub(super) struct FakeExecutor {
    /// Attempts that were launched, in order.
    pub(super) launched: Arc<Mutex<Vec<TaskSpec>>>,
    /// Attempts that were cancelled.
    pub(super) cancelled: Arc<AtomicUsize>,
    /// Jobs that were forgotten.
    pub(super) forgotten: mpsc::UnboundedReceiver<volley_proto::JobId>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for FakeExecutor {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl FakeExecutor {
    /// Starts one that the scheduler has welcomed.
    pub(super) async fn start(scheduler: &SchedulerHandle, name: &str, play: impl Fn(&TaskSpec) -> Play + Send + 'static) -> Self {
        let listener = volley_scheduler::net::listen("--listen", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let outputs = Outputs::default();
        let server = FlightServiceServer::new(outputs.clone());
        let serving = tokio::spawn(async move {
            volley_scheduler::net::server()
                .add_service(server)
                .serve_with_incoming(volley_scheduler::net::incoming(listener))
                .await
                .unwrap();
        });
        let mut connection = Connection::open(scheduler, 1, Registration { address, ..registration(name) }).await;
        match connection.next().await.unwrap().command {
            Command::Welcome(welcome) => *outputs.key.lock() = Some(welcome.ticket_key),
            other => panic!("{other:?}"),
        }
        let (launched, cancelled) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (forgot, forgotten) = mpsc::unbounded_channel();
        let (log, cancels, id) = (Arc::clone(&launched), Arc::clone(&cancelled), ExecutorId::new(name));
        let obeying = tokio::spawn(async move {
            while let Some(message) = connection.next().await {
                match message.command {
                    Command::Launch(spec) => {
                        log.lock().push(spec.clone());
                        act(&connection, &id, &outputs, &spec, play(&spec));
                    }
                    Command::Cancel { attempt } => {
                        cancels.fetch_add(1, Ordering::SeqCst);
                        connection.report(&id, attempt, TaskOutcome::Cancelled);
                    }
                    Command::ForgetJob { job } => drop(forgot.send(job)),
                    _ => {}
                }
            }
        });
        Self { launched, cancelled, forgotten, tasks: vec![serving, obeying] }
    }
}

fn act(connection: &Connection, id: &ExecutorId, outputs: &Outputs, spec: &TaskSpec, play: Play) {
    let outcome = match play {
        Play::Flow(rows, end) => {
            let stats = outputs.put(spec.attempt, rows, Some(end.clone()));
            let (report, id, attempt) = (connection.reporter(), id.clone(), spec.attempt);
            drop(tokio::spawn(async move {
                let outcome = match ended(end).await {
                    Ok(()) => TaskOutcome::Sealed { outputs: vec![stats], metrics: Box::default(), inline: None },
                    Err(failure) => TaskOutcome::Failed(failure),
                };
                report(&id, attempt, outcome);
            }));
            TaskOutcome::Running { rows: stats.rows }
        }
        Play::Hang => TaskOutcome::Running { rows: 0 },
        Play::Fail(failure) => TaskOutcome::Failed(failure),
        Play::SealInline(rows) => {
            let frames = encoded(&rows).into_iter().skip(1);
            let count = rows.num_rows() as u64;
            let inline = frames.map(|frame| InlineFrame { header: frame.data_header, body: frame.data_body, rows: count });
            TaskOutcome::Sealed { outputs: vec![stats(&rows)], metrics: measured(), inline: Some(inline.collect()) }
        }
        Play::Seal(rows) => {
            let stats = outputs.put(spec.attempt, rows, None);
            TaskOutcome::Sealed { outputs: vec![stats], metrics: measured(), inline: None }
        }
    };
    connection.report(id, spec.attempt, outcome);
}

fn measured() -> Box<TaskMetrics> {
    Box::new(TaskMetrics { cpu_ns: 5, elapsed_ns: 7, ..Default::default() })
}

fn stats(rows: &RecordBatch) -> PartitionStats {
    PartitionStats { rows: rows.num_rows() as u64, bytes: rows.get_array_memory_size() as u64 }
}

/// A schema message, then the rows.
fn encoded(rows: &RecordBatch) -> Vec<FlightData> {
    let rows = FlightDataEncoderBuilder::new().with_schema(rows.schema()).build(futures::stream::iter([Ok(rows.clone())]));
    rows.try_collect().now_or_never().expect("nothing waits here").unwrap()
}

/// Waits until it is said how a task ends; one that nobody speaks of any more goes on for ever.
async fn ended(mut end: End) -> Result<(), volley_proto::Failure> {
    let said = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    match said {
        Some(end) => end,
        None => std::future::pending().await,
    }
}

/// Canned rows behind a Flight server.
#[derive(Clone, Default)]
struct Outputs {
    key: Arc<Mutex<Option<TicketKey>>>,
    rows: Arc<Mutex<HashMap<AttemptId, Canned>>>,
}

/// The rows of an attempt, and how it ends if it has not.
type Canned = (RecordBatch, Option<End>);

impl Outputs {
    /// Serves these rows as the output of an attempt, sealed or until its end.
    fn put(&self, attempt: AttemptId, rows: RecordBatch, end: Option<End>) -> PartitionStats {
        let stats = stats(&rows);
        self.rows.lock().insert(attempt, (rows, end));
        stats
    }

    /// What is there of the attempts, and whose end the reader has to wait for.
    async fn frames(&self, ticket: Ticket) -> Result<(Vec<FlightData>, Vec<End>), Status> {
        let key = self.key.lock().clone().expect("a ticket comes after the welcome");
        let ticket: ExchangeTicket = key.open_ticket(&ticket.ticket).map_err(|error| Status::permission_denied(error.to_string()))?;
        let (mut frames, mut ends) = (Vec::new(), Vec::new());
        for selection in &ticket.selections {
            for TaskAttempt { task, attempt } in &selection.attempts {
                let id = volley_proto::TaskId::new(ticket.job, ticket.stage, *task).attempt(*attempt);
                let found = self.rows.lock().get(&id).cloned();
                let (rows, end) = found.ok_or_else(|| Status::not_found(format!("{id} is not here")))?;
                ends.extend(end);
                let mut encoded = encoded(&rows);
                let chunks = encoded.len() as u64 - 1;
                let count = rows.num_rows() as u64;
                encoded
                    .iter_mut()
                    .skip(1)
                    .for_each(|frame| frame.app_metadata = header(*task, *attempt, 0, ChunkKind::Chunk { rows: count }));
                frames.append(&mut encoded);
                for partition in &selection.partitions {
                    let rows = if partition.0 == 0 { count } else { 0 };
                    let end = ChunkKind::End { rows, chunks, checksum: 0 };
                    frames.push(FlightData { app_metadata: header(*task, *attempt, partition.0, end), ..Default::default() });
                }
            }
        }
        Ok((frames, ends))
    }
}

fn header(task: u32, attempt: u32, partition: u32, kind: ChunkKind) -> bytes::Bytes {
    let header = ChunkHeader { subscription: 0, partition: PartitionId(partition), attempt: TaskAttempt { task, attempt }, kind };
    shuffle::ChunkHeader::from(header).encode_to_vec().into()
}

#[tonic::async_trait]
impl FlightService for Outputs {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let (frames, ends) = self.frames(request.into_inner()).await?;
        let ends = futures::stream::iter(ends).filter_map(|end| async move {
            let failure = ended(end).await.err()?;
            Some(Err(Status::not_found(failure.message)))
        });
        Ok(Response::new(futures::stream::iter(frames.into_iter().map(Ok)).chain(ends).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented("do_put"))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("do_action"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }
}
