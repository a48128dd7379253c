//! An executor and its scheduler: registration, fencing, broken streams, leaving.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use volley_executor::{Components, Config, Executor, ExecutorHandle, StartError};
use volley_proto::control::{Command, ExecutorMessage, Notice, Registration, SchedulerMessage, Welcome};
use volley_proto::wire::control::v1 as wire;
use volley_proto::wire::control::v1::executor_control_server::{ExecutorControl, ExecutorControlServer};
use volley_proto::{AttemptId, Incarnation, JobId, StageId, StagePlan, TaskId, TaskOutcome, TaskSpec, Term, TicketKey, TraceContext};
use volley_sql::build_id;
use volley_sql::codec::PlanCodec;
use volley_sql::extension::Extensions;
use volley_sql::graph::{ClusterShape, StageGraph};
use volley_sql::planner::plan_job;
use volley_sql::session::settings_diff;

use super::support::session;

const JOB: JobId = JobId(4);

/// A scheduler that does what the test says.
struct Scheduler {
    address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Stream>,
    server: JoinHandle<()>,
}

/// The scheduler's end of one stream.
struct Stream {
    hears: Streaming<wire::ExecutorMessage>,
    says: mpsc::UnboundedSender<Result<wire::SchedulerMessage, Status>>,
    incarnation: Incarnation,
}

#[derive(Debug)]
struct Service(mpsc::UnboundedSender<Stream>);

#[tonic::async_trait]
impl ExecutorControl for Service {
    type ConnectStream = UnboundedReceiverStream<Result<wire::SchedulerMessage, Status>>;

    async fn connect(&self, request: Request<Streaming<wire::ExecutorMessage>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (says, said) = mpsc::unbounded_channel();
        let stream = Stream { hears: request.into_inner(), says, incarnation: Incarnation(0) };
        self.0.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(said)))
    }
}

impl Scheduler {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let service = ExecutorControlServer::new(Service(sender));
        let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        Self { address, streams, server: tokio::spawn(async { serving.await.unwrap() }) }
    }

    async fn executor(&self, work_dir: &Path) -> ExecutorHandle {
        let config = Config::local(format!("http://{}", self.address), NonZeroUsize::MIN, 64 << 20, work_dir);
        Executor::start(config, Components::default()).await.unwrap()
    }

    /// The next stream, with its registration.
    async fn registration(&mut self) -> (Stream, Registration) {
        let mut stream = soon(self.streams.recv()).await.unwrap();
        let message = stream.hear().await.unwrap();
        stream.incarnation = message.incarnation;
        let Notice::Register(registration) = message.notice else { panic!("{message:?} is no registration") };
        (stream, registration)
    }

    /// The next stream, welcomed in this term.
    async fn welcomed(&mut self, term: u64) -> (Stream, Registration) {
        let (stream, registration) = self.registration().await;
        stream.say(term, welcome(Duration::from_secs(60)));
        (stream, registration)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn welcome(orphan_timeout: Duration) -> Command {
    let orphan_timeout_ms = orphan_timeout.as_millis() as u64;
    Command::Welcome(Welcome { heartbeat_interval_ms: 50, orphan_timeout_ms, ticket_key: TicketKey::from_bytes([7; TicketKey::LEN]) })
}

impl Stream {
    fn say(&self, term: u64, command: Command) {
        let message = SchedulerMessage { term: Term(term), incarnation: self.incarnation, command };
        self.says.send(Ok(message.into())).unwrap();
    }

    async fn hear(&mut self) -> Option<ExecutorMessage> {
        let message = soon(self.hears.message()).await.ok().flatten()?;
        Some(ExecutorMessage::try_from(message).unwrap())
    }

    /// The next notice that is no heartbeat.
    async fn notice(&mut self) -> Option<Notice> {
        loop {
            match self.hear().await?.notice {
                Notice::Heartbeat(_) => {}
                notice => return Some(notice),
            }
        }
    }

    /// The next end of an attempt.
    async fn end(&mut self) -> (AttemptId, TaskOutcome) {
        loop {
            match self.notice().await.expect("the stream goes on") {
                Notice::Report(report) if !matches!(report.outcome, TaskOutcome::Running { .. }) => {
                    return (report.attempt, report.outcome);
                }
                Notice::Report(_) => {}
                other => panic!("{other:?} instead of a report"),
            }
        }
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("a test waits for a minute")
}

/// A job of one stage and its commands.
struct Job {
    graph: StageGraph,
    settings: Vec<(String, String)>,
}

impl Job {
    async fn plan(sql: &str) -> Self {
        let state = session(&[("volley.fit", "always")], &[]).await.state();
        let plan = state.create_logical_plan(sql).await.unwrap();
        let cluster = ClusterShape { executors: 1, slots: 1, largest_slots: 1, memory_bytes: 64 << 20 };
        Self { graph: plan_job(&state, &plan, cluster).await.unwrap(), settings: settings_diff(&state) }
    }

    fn attempt(number: u32) -> AttemptId {
        TaskId::new(JOB, StageId(0), 0).attempt(number)
    }

    fn plan_command(&self) -> Command {
        let stage = &self.graph.stages[0];
        Command::Plan(StagePlan {
            job: JOB,
            stage: stage.shape.id,
            version: 0,
            plan: PlanCodec::encode_stage(stage, &Extensions::default()).unwrap(),
            settings: self.settings.clone(),
            output_partitions: stage.shape.output_partitions,
            depth: 0,
            root: true,
            weight: 1,
            stores: vec![],
        })
    }

    fn launch(&self, incarnation: Incarnation, term: u64, number: u32) -> Command {
        Command::Launch(TaskSpec {
            attempt: Self::attempt(number),
            term: Term(term),
            incarnation,
            plan_version: 0,
            bindings: self.graph.stages[0].tasks[0].to_bytes(),
            inputs: Vec::new(),
            slots: 1,
            trace: TraceContext::default(),
        })
    }
}

fn left_in(dir: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "executors.lock").collect()
}

const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 3";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_run_reported_and_kept_until_its_job_is_forgotten() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (mut stream, registration) = scheduler.welcomed(1).await;
    assert_eq!((registration.executor.as_str(), registration.address.as_str()), (executor.address(), executor.address()));
    assert_eq!((registration.build_id, registration.slots, registration.memory_bytes), (build_id(), 1, 64 << 20));
    assert_eq!((registration.running, registration.held), (vec![], vec![]));

    let job = Job::plan("SELECT count(*) FROM generate_series(1, 1000)").await;
    stream.say(1, job.plan_command());
    stream.say(1, job.launch(stream.incarnation, 1, 0));
    let (attempt, outcome) = stream.end().await;
    assert_eq!(attempt, Job::attempt(0));
    let TaskOutcome::Sealed { outputs, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(outputs.iter().map(|output| output.rows).sum::<u64>(), 1);

    // The stream breaks: the next one says what is held, and the end once more.
    drop(stream);
    let (mut stream, registration) = scheduler.welcomed(2).await;
    assert_eq!((registration.running, registration.held), (vec![], vec![Job::attempt(0)]));
    assert_eq!(stream.end().await.0, Job::attempt(0));

    stream.say(2, Command::ForgetJob { job: JOB });
    drop(stream);
    let (mut stream, _) = scheduler.registration().await;
    // Whether the command was read before the stream broke is open; said again, it surely is.
    stream.say(2, welcome(Duration::from_secs(60)));
    stream.say(2, Command::ForgetJob { job: JOB });
    stream.say(2, Command::Drain);
    while stream.notice().await != Some(Notice::Draining) {}
    assert_eq!(stream.notice().await, Some(Notice::Leaving));
    drop(stream);
    let mut executor = executor;
    soon(executor.join()).await.unwrap();
    drop(executor);
    assert_eq!(left_in(&dir), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_commands_are_dropped() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (stream, _) = scheduler.welcomed(5).await;
    let job = Job::plan("SELECT 1").await;
    stream.say(5, job.plan_command());
    stream.say(4, job.launch(stream.incarnation, 4, 1));
    stream.say(5, job.launch(stream.incarnation, 4, 2));
    stream.say(5, job.launch(Incarnation(stream.incarnation.0 ^ 1), 5, 3));
    let other_life = Stream { incarnation: Incarnation(stream.incarnation.0 ^ 1), says: stream.says.clone(), hears: stream.hears };
    other_life.say(5, Command::Drain);
    let mut stream = Stream { incarnation: executor.incarnation(), ..other_life };
    stream.say(5, job.launch(stream.incarnation, 5, 4));
    let (attempt, outcome) = stream.end().await;
    assert_eq!(attempt, Job::attempt(4), "the others were dropped");
    assert!(matches!(outcome, TaskOutcome::Sealed { .. }), "{outcome:?}");
    executor.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_task_and_answers_for_one_that_is_unknown() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (mut stream, _) = scheduler.welcomed(1).await;
    let job = Job::plan(ENDLESS).await;
    stream.say(1, job.launch(stream.incarnation, 1, 7));
    let refused = stream.notice().await.unwrap();
    assert!(matches!(&refused, Notice::LaunchRefused { attempt, .. } if *attempt == Job::attempt(7)), "{refused:?}");

    stream.say(1, job.plan_command());
    stream.say(1, job.launch(stream.incarnation, 1, 0));
    stream.say(1, Command::Cancel { attempt: Job::attempt(0) });
    assert_eq!(stream.end().await, (Job::attempt(0), TaskOutcome::Cancelled));
    stream.say(1, Command::Cancel { attempt: Job::attempt(9) });
    assert_eq!(stream.end().await, (Job::attempt(9), TaskOutcome::Cancelled));
    executor.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_frees_the_output_of_a_task_that_was_faster() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (mut stream, _) = scheduler.welcomed(1).await;
    let job = Job::plan("SELECT 1 AS a").await;
    stream.say(1, job.plan_command());
    for index in [0, 1] {
        stream.say(1, job.launch(stream.incarnation, 1, index));
        let (attempt, outcome) = stream.end().await;
        assert!(matches!(outcome, TaskOutcome::Sealed { .. }), "{attempt}: {outcome:?}");
    }
    stream.say(1, Command::Cancel { attempt: Job::attempt(0) });
    // Commands are obeyed in their order: this one is answered.
    stream.say(1, Command::Cancel { attempt: Job::attempt(9) });
    while stream.end().await.0 != Job::attempt(9) {}
    drop(stream);
    let (stream, registration) = scheduler.registration().await;
    assert_eq!(registration.held, [Job::attempt(1)]);
    drop(stream);
    executor.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_survives_a_broken_stream_but_not_a_long_one() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (stream, _) = scheduler.welcomed(1).await;
    let job = Job::plan(ENDLESS).await;
    stream.say(1, job.plan_command());
    stream.say(1, job.launch(stream.incarnation, 1, 0));
    // The scheduler's next life comes before the grace is over.
    let mut stream = stream;
    while !matches!(stream.hear().await.unwrap().notice, Notice::Heartbeat(beat) if beat.busy_slots == 1) {}
    drop(stream);
    let (stream, registration) = scheduler.registration().await;
    assert_eq!(registration.running, [Job::attempt(0)]);
    // And now it lets the executor alone for longer than it said.
    stream.say(2, welcome(Duration::ZERO));
    let mut stream = stream;
    while stream.hear().await.is_some_and(|message| !matches!(message.notice, Notice::Heartbeat(_))) {}
    drop(stream);
    let (stream, registration) = loop {
        let (stream, registration) = scheduler.registration().await;
        if registration.running.is_empty() {
            break (stream, registration);
        }
    };
    assert_eq!(registration.held, []);
    drop(stream);
    executor.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_executor_ends_with_the_schedulers_words() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let mut executor = scheduler.executor(dir.path()).await;
    let (stream, _) = scheduler.registration().await;
    stream.say(1, Command::Refused { reason: "busy".into(), retry: true });
    let (stream, _) = scheduler.registration().await;
    stream.say(1, Command::Refused { reason: "executor is of build 0, but this scheduler is of build 1".into(), retry: false });
    let error = soon(executor.join()).await.unwrap_err();
    assert!(matches!(&error, StartError::Refused { reason, .. } if reason.contains("build 0")), "{error}");
    drop(executor);
    assert_eq!(left_in(&dir), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_says_farewell_after_its_last_task_and_kill_says_nothing() {
    let (mut scheduler, dir) = (Scheduler::start().await, tempfile::tempdir().unwrap());
    let executor = scheduler.executor(dir.path()).await;
    let (mut stream, _) = scheduler.welcomed(1).await;
    let job = Job::plan(ENDLESS).await;
    stream.say(1, job.plan_command());
    stream.say(1, job.launch(stream.incarnation, 1, 0));
    while !matches!(stream.hear().await.unwrap().notice, Notice::Heartbeat(beat) if beat.busy_slots == 1) {}
    let leaving = tokio::spawn(executor.shutdown());
    let mut said = Vec::new();
    while let Some(notice) = stream.notice().await {
        said.push(match notice {
            Notice::Draining => "draining",
            Notice::Report(report) if report.outcome == TaskOutcome::Cancelled => "cancelled",
            Notice::Report(_) => continue,
            Notice::Leaving => "leaving",
            other => panic!("{other:?}"),
        });
    }
    drop(stream);
    assert_eq!(said, ["draining", "cancelled", "leaving"]);
    soon(leaving).await.unwrap().unwrap();
    assert_eq!(left_in(&dir), Vec::<String>::new());

    let executor = scheduler.executor(dir.path()).await;
    let (mut stream, _) = scheduler.welcomed(1).await;
    executor.kill();
    assert_eq!(stream.notice().await, None, "the stream just breaks");
    assert_eq!(left_in(&dir), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_missing_scheduler_are_told_apart() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::local("http://127.0.0.1:1", NonZeroUsize::MIN, 64 << 20, dir.path());
    config.listen = taken.local_addr().unwrap();
    let error = Executor::start(config.clone(), Components::default()).await.unwrap_err().to_string();
    assert!(error.contains(&config.listen.to_string()) && error.contains("--listen"), "{error}");
    assert_eq!(left_in(&dir), Vec::<String>::new());

    // Without a scheduler it starts, dials on, and leaves when told.
    config.listen.set_port(0);
    let executor = Executor::start(config, Components::default()).await.unwrap();
    soon(executor.shutdown()).await.unwrap();
    assert_eq!(left_in(&dir), Vec::<String>::new());
}
