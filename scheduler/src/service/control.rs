//! The executors' service: each dials one stream, registers, and from then on both sides push.
//!
//! Messages of one stream reach the machine in the order of the stream. The first must be a registration; it is refused here,
//! before the machine hears of it, where the executor is of another build or says nonsense.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::control::{Command, ExecutorMessage, Notice, Registration, SchedulerMessage};
use volley_proto::wire::control::v1 as wire;
use volley_proto::wire::control::v1::executor_control_server::ExecutorControl;
use volley_proto::{ExecutorId, Incarnation, Term};
use volley_sql::build_id;

use crate::driver::Inbox;
use crate::executors::{Executors, Outgoing};
use crate::results::Results;
use crate::state::{Event, ExecutorHello, ExecutorLife};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct ControlService {
    /// The way to the machine.
    pub(crate) inbox: Inbox,
    /// Where streams are kept.
    pub(crate) executors: Arc<Executors>,
    /// Results, some of which clients fetch from executors.
    pub(crate) results: Arc<Results>,
    /// This scheduler's term.
    pub(crate) term: Term,
    /// Ends all streams.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl ExecutorControl for ControlService {
    type ConnectStream = UnboundedReceiverStream<Result<wire::SchedulerMessage, Status>>;

    async fn connect(&self, request: Request<Streaming<wire::ExecutorMessage>>) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = request.remote_addr().map_or_else(|| "an unknown address".into(), |address| address.to_string());
        let (outgoing, answers) = mpsc::unbounded_channel();
        tokio::spawn(Connection { service: self.clone(), peer }.serve(outgoing, request.into_inner()));
        Ok(Response::new(UnboundedReceiverStream::new(answers)))
    }
}

/// One stream.
struct Connection {
    service: ControlService,
    peer: String,
}

impl Connection {
    async fn serve(self, outgoing: Outgoing, mut incoming: Streaming<wire::ExecutorMessage>) {
        let first = tokio::select! {
            () = self.service.stop.cancelled() => return,
            first = incoming.message() => first,
        };
        let (life, registration) = match first.map_err(|status| status.message().to_owned()).and_then(register) {
            Ok(registered) => registered,
            Err(reason) => {
                tracing::warn!(peer = self.peer, reason, "a stream ended before it registered");
                self.refuse(&outgoing, Incarnation(0), reason);
                return;
            }
        };
        if let Some(reason) = refusal(&registration) {
            tracing::warn!(executor = %life, peer = self.peer, reason, "an executor was refused");
            self.refuse(&outgoing, life.incarnation, reason);
            return;
        }
        // The sender is given away: the answers end when the stream is closed there.
        let (stream, closed) = self.service.executors.open(life.clone(), outgoing);
        self.service.inbox.send(Event::ExecutorJoined(hello(life.clone(), stream, registration)));
        let end = tokio::select! {
            () = self.service.stop.cancelled() => Ok(()),
            () = closed.cancelled() => Ok(()),
            end = self.listen(&life, incoming) => end,
        };
        if let Err(error) = end {
            tracing::warn!(executor = %life, peer = self.peer, error, "an executor's stream broke");
        }
        self.service.executors.close(stream);
        self.service.inbox.send(Event::StreamBroken { executor: life, stream });
    }

    /// Passes on what the executor says, until it stops.
    async fn listen(&self, life: &ExecutorLife, mut incoming: Streaming<wire::ExecutorMessage>) -> Result<(), String> {
        while let Some(message) = incoming.message().await.map_err(|status| status.message().to_owned())? {
            let message = ExecutorMessage::try_from(message).map_err(|error| error.to_string())?;
            if message.incarnation != life.incarnation {
                return Err(format!("it spoke as {} on the stream of {life}", message.incarnation));
            }
            if let Notice::Heartbeat(usage) = &message.notice {
                self.service.executors.note(life, *usage);
            }
            if let Notice::ResultSent { attempt, rows } = message.notice {
                self.service.results.part_sent(attempt, rows);
            }
            self.service.inbox.send(event(life.clone(), message.notice)?);
        }
        Ok(())
    }

    fn refuse(&self, outgoing: &Outgoing, incarnation: Incarnation, reason: String) {
        let command = Command::Refused { reason, retry: false };
        let message = SchedulerMessage { term: self.service.term, incarnation, command };
        // An executor that is gone already needs no refusal.
        let _ = outgoing.send(Ok(message.into()));
    }
}

/// Who registers, from the first message of a stream.
fn register(first: Option<wire::ExecutorMessage>) -> Result<(ExecutorLife, Registration), String> {
    let message = ExecutorMessage::try_from(first.ok_or("the stream ended")?).map_err(|error| error.to_string())?;
    match message.notice {
        Notice::Register(registration) => Ok((ExecutorLife::new(registration.executor.clone(), message.incarnation), registration)),
        other => Err(format!("the first message has to be a registration, but it was {other:?}")),
    }
}

/// Why a registration can't be accepted, if so.
fn refusal(registration: &Registration) -> Option<String> {
    let ours = build_id();
    let Registration { executor, build_id: theirs, slots, memory_bytes, address, .. } = registration;
    if *theirs != ours {
        return Some(format!(
            "executor {executor} is of build {theirs}, but this scheduler is of build {ours}: start it from the same build"
        ));
    }
    if *slots == 0 || *memory_bytes == 0 {
        return Some(format!("executor {executor} offers {slots} slots and {memory_bytes} bytes of memory: it needs some of both"));
    }
    if !address.contains(':') {
        return Some(format!("executor {executor} gives '{address}' as its address: it has to be HOST:PORT"));
    }
    None
}

fn hello(life: ExecutorLife, stream: u64, registration: Registration) -> ExecutorHello {
    ExecutorHello {
        life,
        stream,
        slots: registration.slots,
        memory_bytes: registration.memory_bytes,
        address: registration.address.into(),
        build: registration.build_id.into(),
        running: registration.running,
        held: registration.held,
    }
}

fn event(executor: ExecutorLife, notice: Notice) -> Result<Event, String> {
    Ok(match notice {
        Notice::Register(_) => return Err("it registered twice on one stream".into()),
        Notice::Heartbeat(_) => Event::Heartbeat { executor },
        Notice::Report(report) => {
            let speaks_for: (&ExecutorId, Incarnation) = (&report.executor, report.incarnation);
            if speaks_for != (&executor.id, executor.incarnation) {
                return Err(format!("it reported {} for {}", report.attempt, report.executor));
            }
            Event::TaskReported(report)
        }
        Notice::LaunchRefused { attempt, failure } => Event::LaunchFailed { attempt, executor, failure },
        Notice::ResultSent { attempt, .. } => Event::ResultDelivered { attempt },
        Notice::Draining => Event::ExecutorDraining { executor },
        Notice::Leaving => Event::ExecutorLeft { executor },
    })
}
