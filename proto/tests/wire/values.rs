//! Domain values of every kind.

use std::sync::Arc;

use bytes::Bytes;
use volley_proto::client::{PreparedHandle, ResultPart, ResultTicket, Statement, StatementPlan};
use volley_proto::control::{Command, ExecutorMessage, Heartbeat, Notice, Registration, SchedulerMessage, Welcome};
use volley_proto::journal::{JobEvent, JobOutcome, JobRecord, OperatorLine, StageWork, TableEntry};
use volley_proto::shuffle::{ChunkHeader, ChunkKind, Compression, ExchangeTicket, ReaderMessage, Selection, TaskAttempt};
use volley_proto::wire::{
    client::v1 as client, control::v1 as control, journal::v1 as journal, shuffle::v1 as shuffle, types::v1 as types,
};
use volley_proto::*;

use crate::sample::{Sample, domain};

pub(crate) fn attempt(task: u32, number: u32) -> AttemptId {
    TaskId::new(JobId(7), StageId(2), task).attempt(number)
}

pub(crate) fn executor(name: &str) -> ExecutorId {
    ExecutorId::new(name)
}

pub(crate) fn settings() -> Vec<(String, String)> {
    vec![("volley.fit".into(), "never".into()), ("datafusion.execution.time_zone".into(), "+02:00".into())]
}

fn trace() -> TraceContext {
    TraceContext { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(), tracestate: "volley=1".into() }
}

pub(crate) fn stage_plan() -> StagePlan {
    StagePlan {
        job: JobId(7),
        stage: StageId(2),
        version: 3,
        plan: Bytes::from_static(b"\x00plan\xff"),
        settings: settings(),
        output_partitions: 16,
        depth: 1,
        root: true,
        weight: 2,
        stores: vec![StoreAccess { name: "a1".into(), options: vec![("aws.region".into(), "eu".into())] }],
    }
}

fn location(task: u32, attempt: u32, name: &str, incarnation: u64, address: &str) -> AttemptLocation {
    AttemptLocation { task, attempt, executor: executor(name), incarnation: Incarnation(incarnation), address: address.into() }
}

pub(crate) fn task_spec() -> TaskSpec {
    let dense: Arc<[AttemptLocation]> = Arc::new([
        location(0, 0, "e1", 11, "10.0.0.1:50061"),
        location(1, 2, "e2", 12, "10.0.0.2:50061"),
        location(2, 0, "e1", 11, "10.0.0.1:50061"),
        // Another life of e1 is another entry.
        location(3, 1, "e1", 13, "10.0.0.1:50061"),
    ]);
    let sparse: Arc<[AttemptLocation]> = Arc::new([location(5, 0, "e2", 12, "10.0.0.2:50061"), location(1, 0, "e3", 14, "[::1]:50061")]);
    TaskSpec {
        attempt: attempt(13, 1),
        term: Term(3),
        incarnation: Incarnation(u64::MAX),
        plan_version: 3,
        bindings: Bytes::from_static(b"bindings"),
        inputs: vec![
            InputLocations { producer: StageId(0), attempts: dense },
            InputLocations { producer: StageId(1), attempts: sparse },
            InputLocations { producer: StageId(4), attempts: Arc::new([]) },
        ],
        slots: 4,
        trace: trace(),
    }
}

pub(crate) fn metrics() -> TaskMetrics {
    let values = |rows, ns| vec![("output_rows".to_owned(), rows), ("elapsed_compute".to_owned(), ns)];
    TaskMetrics {
        cpu_ns: 1_000_000_007,
        elapsed_ns: 2_000_000_011,
        exchange_local_bytes: 1 << 20,
        exchange_flight_bytes: 1 << 33,
        longest_poll_ns: 1 << 31,
        spilled_bytes: 5,
        operators: vec![
            OperatorMetrics { index: 0, values: values(10, 300) },
            OperatorMetrics { index: 1, values: vec![("spilled_bytes".to_owned(), 5), ("output_rows".to_owned(), 11)] },
            OperatorMetrics { index: 4, values: Vec::new() },
        ],
    }
}

fn outputs() -> Vec<PartitionStats> {
    vec![PartitionStats { rows: 10, bytes: 800 }, PartitionStats::default(), PartitionStats { rows: u64::MAX, bytes: 1 }]
}

pub(crate) fn report(outcome: TaskOutcome) -> TaskReport {
    TaskReport { attempt: attempt(13, 1), executor: executor("e1"), incarnation: Incarnation(11), outcome }
}

pub(crate) fn failures() -> Vec<(&'static str, Failure)> {
    vec![
        ("retry", Failure::retry("can't reach e2 at 10.0.0.2:50061")),
        ("rerun", Failure::rerun(attempt(4, 0), executor("e2"), "the output of j7/s2/t4/a0 is gone")),
        ("resources", Failure::resources("out of memory")),
        ("query", Failure::query("divide by zero")),
        ("cancelled", Failure::cancelled("the client asked")),
        ("internal", Failure::internal("a task panicked: index out of bounds")),
    ]
}

fn owner() -> JobOwner {
    JobOwner {
        principal: "ada".into(),
        queue: "nightly".into(),
        weight: 4,
        timeout_ms: Some(60_000),
        memory_bytes: Some(1 << 32),
        session: SessionId::new("s-1"),
        speculation: Speculation::Always,
    }
}

fn shapes() -> Vec<StageShape> {
    let shape = |id, inputs, deterministic| StageShape {
        id: StageId(id),
        inputs,
        tasks: 6,
        slots_per_task: 2,
        output_partitions: 8,
        deterministic,
    };
    let input = |producer, edge, read| StageInput { producer: StageId(producer), edge, read };
    vec![
        shape(0, Vec::new(), true),
        shape(1, vec![input(0, Edge::Sealed, InputRead::All)], false),
        shape(2, vec![input(0, Edge::Streaming, InputRead::Slice), input(1, Edge::Sealed, InputRead::Slice)], true),
    ]
}

pub(crate) fn registration() -> Registration {
    Registration {
        executor: executor("e1"),
        build_id: "0.1.0+abc".into(),
        slots: 8,
        memory_bytes: 4 << 30,
        address: "10.0.0.1:50061".into(),
        running: vec![attempt(1, 0), attempt(2, 3)],
        held: vec![attempt(0, 0)],
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome { heartbeat_interval_ms: 1000, orphan_timeout_ms: 60_000, ticket_key: TicketKey::from_bytes([0xa7; 32]) }
}

pub(crate) fn selection() -> Selection {
    Selection {
        partitions: vec![PartitionId(3), PartitionId(4)],
        attempts: vec![TaskAttempt { task: 0, attempt: 1 }, TaskAttempt { task: 300, attempt: 0 }],
    }
}

pub(crate) fn exchange_ticket() -> ExchangeTicket {
    ExchangeTicket {
        term: Term(3),
        job: JobId(7),
        stage: StageId(2),
        executor: executor("e1"),
        incarnation: Incarnation(11),
        compression: Compression::Lz4,
        selections: vec![selection()],
    }
}

pub(crate) fn result_ticket() -> ResultTicket {
    ResultTicket { term: Term(3), job: JobId(7), session: SessionId::new("s-1"), part: None }
}

pub(crate) fn prepared(statement: Statement) -> PreparedHandle {
    PreparedHandle { term: Term(3), session: SessionId::new("s-1"), statement, parameters: Bytes::from_static(b"ipc") }
}

fn statement_plan() -> StatementPlan {
    StatementPlan { plan: Bytes::from_static(b"logical"), settings: settings() }
}

/// A sample of every domain type that travels, and of every variant.
pub(crate) fn samples() -> Vec<Sample> {
    let mut samples = vec![
        domain::<_, types::AttemptId>("types/AttemptId", attempt(13, 1)),
        domain::<_, types::JobOwner>("types/JobOwner", owner()),
        domain::<_, types::JobOwner>("types/JobOwner.anonymous", JobOwner::anonymous(SessionId::new(""))),
        domain::<_, control::StagePlan>("control/StagePlan", stage_plan()),
        domain::<_, control::TaskSpec>("control/TaskSpec", task_spec()),
        domain::<_, control::TaskSpec>(
            "control/TaskSpec.leaf",
            TaskSpec { inputs: Vec::new(), trace: TraceContext::default(), ..task_spec() },
        ),
        domain::<_, control::TaskMetrics>("control/TaskMetrics", metrics()),
        domain::<_, control::Register>("control/Register", registration()),
        domain::<_, control::Welcome>("control/Welcome", welcome()),
        domain::<_, client::StatementPlan>("client/StatementPlan", statement_plan()),
    ];
    samples
        .extend(failures().into_iter().map(|(remedy, failure)| domain::<_, types::Failure>(&format!("types/Failure.{remedy}"), failure)));
    samples.extend(shapes().into_iter().map(|shape| domain::<_, types::StageShape>(&format!("types/StageShape.{}", shape.id), shape)));
    samples.extend(reports());
    samples.extend(executor_messages());
    samples.extend(scheduler_messages());
    samples.extend(shuffle_messages());
    samples.extend(client_messages());
    samples.extend(journal_records());
    samples
}

fn reports() -> Vec<Sample> {
    let outcomes = [
        ("running", TaskOutcome::Running { rows: 300 }),
        ("sealed", TaskOutcome::Sealed { outputs: outputs(), metrics: Box::new(metrics()), inline: None }),
        ("sealed_inline", TaskOutcome::Sealed { outputs: outputs(), metrics: Box::default(), inline: Some(inline_rows()) }),
        ("failed", TaskOutcome::Failed(Failure::resources("out of memory"))),
        ("cancelled", TaskOutcome::Cancelled),
    ];
    let sample = |(name, outcome)| domain::<_, control::TaskReport>(&format!("control/TaskReport.{name}"), report(outcome));
    outcomes.into_iter().map(sample).collect()
}

fn inline_rows() -> Vec<InlineFrame> {
    let frame = |header: &'static [u8], body: &'static [u8], rows| InlineFrame { header: header.into(), body: body.into(), rows };
    vec![frame(b"dictionary", b"abc", 0), frame(b"batch", b"\0\x01", 2), frame(b"no body", b"", 7)]
}

fn executor_messages() -> Vec<Sample> {
    let heartbeat = Heartbeat {
        memory_used_bytes: 1 << 31,
        store_bytes: 1 << 30,
        spilled_bytes: 77,
        busy_slots: 3,
        cpu_ns: 5_000_000_000,
        peak_resident_bytes: 3 << 30,
    };
    let notices = [
        ("register", Notice::Register(registration())),
        ("heartbeat", Notice::Heartbeat(heartbeat)),
        ("report", Notice::Report(report(TaskOutcome::Running { rows: 1 }))),
        ("launch_refused", Notice::LaunchRefused { attempt: attempt(13, 1), failure: Failure::retry("it drains") }),
        ("result_sent", Notice::ResultSent { attempt: attempt(13, 1), rows: 5 }),
        ("draining", Notice::Draining),
        ("leaving", Notice::Leaving),
    ];
    let sample = |(name, notice)| {
        let message = ExecutorMessage { incarnation: Incarnation(11), notice };
        domain::<_, control::ExecutorMessage>(&format!("control/ExecutorMessage.{name}"), message)
    };
    notices.into_iter().map(sample).collect()
}

fn scheduler_messages() -> Vec<Sample> {
    let commands = [
        ("welcome", Command::Welcome(welcome())),
        ("refused", Command::Refused { reason: "build 0.2.0 is not build 0.1.0".into(), retry: true }),
        ("plan", Command::Plan(stage_plan())),
        ("launch", Command::Launch(task_spec())),
        ("cancel", Command::Cancel { attempt: attempt(13, 1) }),
        ("release_outputs", Command::ReleaseOutputs { job: JobId(7), stage: StageId(2) }),
        ("forget_job", Command::ForgetJob { job: JobId(7) }),
        ("drain", Command::Drain),
    ];
    let sample = |(name, command)| {
        let message = SchedulerMessage { term: Term(3), incarnation: Incarnation(11), command };
        domain::<_, control::SchedulerMessage>(&format!("control/SchedulerMessage.{name}"), message)
    };
    commands.into_iter().map(sample).collect()
}

fn shuffle_messages() -> Vec<Sample> {
    let requests = [
        ("subscribe", ReaderMessage::Subscribe { subscription: 1, selection: selection(), credit_bytes: 4 << 20 }),
        ("credit", ReaderMessage::Credit { subscription: 1, partition: PartitionId(3), bytes: 1 << 20 }),
        ("unsubscribe", ReaderMessage::Unsubscribe { subscription: 1, partition: None }),
        ("unsubscribe_one", ReaderMessage::Unsubscribe { subscription: 1, partition: Some(PartitionId(0)) }),
    ];
    let kinds = [
        ("chunk", ChunkKind::Chunk { rows: 8192 }),
        ("end", ChunkKind::End { rows: 16384, chunks: 2, checksum: 0xdead_beef }),
        ("gone", ChunkKind::Gone { message: "j7/s2/t0/a1 is not here".into() }),
    ];
    let header = |kind| ChunkHeader { subscription: 1, partition: PartitionId(3), attempt: TaskAttempt { task: 300, attempt: 1 }, kind };
    let uncompressed = ExchangeTicket { compression: Compression::None, selections: Vec::new(), ..exchange_ticket() };
    let mut samples = vec![
        domain::<_, shuffle::ExchangeTicket>("shuffle/ExchangeTicket", exchange_ticket()),
        domain::<_, shuffle::ExchangeTicket>("shuffle/ExchangeTicket.exchange", uncompressed),
        domain::<_, shuffle::Selection>("shuffle/Selection", selection()),
    ];
    let request = |(name, request)| domain::<_, shuffle::ReaderMessage>(&format!("shuffle/ReaderMessage.{name}"), request);
    let chunk = |(name, kind)| domain::<_, shuffle::ChunkHeader>(&format!("shuffle/ChunkHeader.{name}"), header(kind));
    samples.extend(requests.into_iter().map(request));
    samples.extend(kinds.into_iter().map(chunk));
    samples
}

fn client_messages() -> Vec<Sample> {
    let statements = [
        ("sql", Statement::Sql("SELECT 1".into())),
        ("plan", Statement::Plan(statement_plan())),
        ("substrait", Statement::Substrait(Bytes::from_static(b"substrait"))),
    ];
    let mut samples = vec![domain::<_, client::ResultTicket>("client/ResultTicket", result_ticket())];
    let part = ResultPart { task: 4, exchange: Some(exchange_ticket()) };
    samples.push(domain::<_, client::ResultTicket>("client/ResultTicket.part", ResultTicket { part: Some(part), ..result_ticket() }));
    for (name, statement) in statements {
        samples.push(domain::<_, client::Statement>(&format!("client/Statement.{name}"), statement.clone()));
        samples.push(domain::<_, client::PreparedHandle>(&format!("client/PreparedHandle.{name}"), prepared(statement)));
    }
    samples
}

fn journal_records() -> Vec<Sample> {
    let sealed = JobEvent::TaskSealed {
        attempt: attempt(13, 1),
        executor: executor("e1"),
        incarnation: Incarnation(11),
        address: "10.0.0.1:50061".into(),
        outputs: outputs(),
    };
    let submitted = JobEvent::Submitted {
        owner: owner(),
        statement: "SELECT 1".into(),
        settings: settings(),
        trace: trace(),
        eager: true,
        term: Term(3),
    };
    let work = StageWork {
        plan: stage_plan(),
        bindings: vec![Bytes::from_static(b"t0"), Bytes::from_static(b"t1")],
        partitions: 4,
        output: "Hash([k@0], 8)".into(),
        operators: vec![OperatorLine { depth: 1, name: "FilterExec".into(), detail: "FilterExec: k@0 > 1".into() }],
    };
    let events = [
        ("submitted", submitted),
        (
            "planned",
            JobEvent::Planned { stages: shapes(), build: "0.1.0 b1".into(), schema: Bytes::from_static(b"schema"), work: vec![work] },
        ),
        ("sealed", sealed),
        ("finished", JobEvent::Ended(JobOutcome::Finished { rows: 4 })),
        ("failed", JobEvent::Ended(JobOutcome::Failed(Failure::query("divide by zero")))),
    ];
    let entry = TableEntry {
        catalog: "volley".into(),
        schema: "public".into(),
        name: "t".into(),
        ddl: "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/data/t'".into(),
        created_ms: 1_700_000_000_000,
    };
    let record = |(name, event)| {
        let record = JobRecord { job: JobId(7), at_ms: 1_700_000_000_000, event };
        domain::<_, journal::JobRecord>(&format!("journal/JobRecord.{name}"), record)
    };
    let mut samples = vec![domain::<_, journal::TableEntry>("journal/TableEntry", entry)];
    samples.extend(events.into_iter().map(record));
    samples
}
