//! Events and effects as lines of text: what scripts expect and what a replayed simulation prints. An event is printed
//! as a script writes it, so that what a replay shows can be made a script.

use std::fmt::Write;

use volley_proto::{
    AttemptLocation, Edge, Failure, InputLocations, InputRead, PartitionStats, Remedy, Speculation, StageShape, TaskOutcome,
};

use crate::machine::{Effect, Event, ExecutorLife, JobOutcome, Launch, Replanning};

/// An executor's life: `e1`, or `e1/i2` in a later life.
pub(crate) fn life(life: &ExecutorLife) -> String {
    if life.incarnation.0 == 1 { life.id.to_string() } else { life.to_string() }
}

/// An effect in one line.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::JobQueued { job, reason } => format!("queued {job} {reason:?}"),
        Effect::Plan { job } => format!("plan {job}"),
        Effect::JobRunning { job } => format!("running {job}"),
        Effect::Launch(it) => launch(it),
        Effect::CancelTask { attempt, executor } => format!("cancel {attempt} on {}", life(executor)),
        Effect::Replan { job, stage, sizes: it, exact, .. } => {
            format!("replan {job}/{stage} rows={} {}", sizes(it), if *exact { "exact" } else { "estimated" })
        }
        Effect::PlanReplaced { job, stage, plan_version } => format!("plan-replaced {job}/{stage} version={plan_version}"),
        Effect::RootTaskSealed { attempt, executor, .. } => format!("show {attempt} on {}", life(executor)),
        Effect::RootTaskRetracted { attempt } => format!("retract {attempt}"),
        Effect::JobFinished { job, outcome } => format!("finished {job} {}", ending(outcome)),
        Effect::ReleaseOutputs { job, stage, executors } => format!("release {job}/{stage}{}", lives(executors)),
        Effect::ForgetJob { job, executors } => format!("forget {job}{}", lives(executors)),
        Effect::Welcome { executor, stream } => format!("welcome {} stream={stream}", life(executor)),
        Effect::ExecutorDenied { executor, for_ms } => format!("denied {} {for_ms}ms", life(executor)),
        Effect::ExecutorSuspected { executor } => format!("suspected {}", life(executor)),
        Effect::ExecutorLost { executor, reason } => format!("lost {} {reason:?}", life(executor)),
        Effect::Fence { executor, superseded } => format!("fence {}{}", life(executor), if *superseded { " superseded" } else { "" }),
        Effect::MayLeave { executor } => format!("may-leave {}", life(executor)),
    }
}

fn launch(it: &Launch) -> String {
    let mut text = format!("launch {} on {} slots={}", it.attempt, life(&it.executor), it.slots);
    if it.plan_version > 0 {
        let _ = write!(text, " version={}", it.plan_version);
    }
    for input in &it.inputs {
        let _ = write!(text, " <- {}", locations(input));
    }
    text
}

/// Where an input is; first attempts are not numbered, and long lists are cut.
fn locations(input: &InputLocations) -> String {
    let place = |location: &AttemptLocation| {
        let attempt = if location.attempt == 0 { String::new() } else { format!("/a{}", location.attempt) };
        format!("t{}{attempt}@{}", location.task, life(&ExecutorLife::new(location.executor.clone(), location.incarnation)))
    };
    let places: Vec<String> = input.attempts.iter().map(place).take(8).collect();
    format!("{}[{}]", input.producer, places.join(" "))
}

fn ending(outcome: &JobOutcome) -> String {
    match outcome {
        JobOutcome::Succeeded => "succeeded".into(),
        JobOutcome::Failed(it) => format!("failed {}", failure(it)),
        JobOutcome::Cancelled { reason } => format!("cancelled: {reason}"),
    }
}

/// A failure: `retry: disk on fire`.
pub(crate) fn failure(failure: &Failure) -> String {
    let remedy = match &failure.remedy {
        Remedy::Retry => "retry".into(),
        Remedy::Rerun { producer, executor } => format!("rerun {producer} on {executor}"),
        Remedy::Resources => "resources".into(),
        Remedy::Query => "query".into(),
        Remedy::Cancelled => "cancelled".into(),
        Remedy::Internal => "internal".to_owned(),
    };
    format!("{remedy}: {}", failure.message)
}

fn sizes(sizes: &[PartitionStats]) -> String {
    sizes.iter().map(|size| size.rows.to_string()).collect::<Vec<_>>().join(",")
}

fn lives(executors: &[ExecutorLife]) -> String {
    if executors.is_empty() { String::new() } else { format!(" on {}", executors.iter().map(life).collect::<Vec<_>>().join(" ")) }
}

/// An event in one line.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Tick => "tick".into(),
        Event::ExecutorJoined(hello) => {
            let list = |attempts: &[volley_proto::AttemptId]| attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let (running, held) = (list(&hello.running), list(&hello.held));
            let (slots, memory, stream) = (hello.slots, hello.memory_bytes, hello.stream);
            format!("join {} slots={slots} memory={memory} stream={stream} running={running} held={held}", life(&hello.life))
        }
        Event::Heartbeat { executor } => format!("heartbeat {}", life(executor)),
        Event::StreamBroken { executor, stream } => format!("broken {} stream={stream}", life(executor)),
        Event::ExecutorDraining { executor } => format!("draining {}", life(executor)),
        Event::ExecutorLeft { executor } => format!("left {}", life(executor)),
        Event::JobSubmitted { job, owner } => {
            let speculation = match owner.speculation {
                Speculation::Never => " speculation=never",
                Speculation::BelowRoot => "",
                Speculation::Always => " speculation=always",
            };
            format!("submit {job} weight={}{speculation}", owner.weight)
        }
        Event::JobPlanned { job, stages, replanning } => {
            let replanning = if *replanning == Replanning::OnSealed { " replanning" } else { "" };
            format!("planned {job}{replanning}: {}", graph(stages))
        }
        Event::PlanFailed { job, failure: it } => format!("plan-failed {job} {}", failure(it)),
        Event::Replanned { job, stage, stages: Some(stages), changed, plan_version } => {
            let changed = changed.iter().map(|stage| format!(" {stage}")).collect::<String>();
            let with = if changed.is_empty() { "" } else { " with" };
            format!("replanned {job}/{stage} from {plan_version}{with}{changed}: {}", graph(stages))
        }
        Event::Replanned { job, stage, stages: None, .. } => format!("replanned {job}/{stage} keep"),
        Event::JobCancelled { job, reason } => format!("cancel {job} {reason}"),
        Event::TaskReported(report) => {
            let executor = life(&ExecutorLife::new(report.executor.clone(), report.incarnation));
            outcome(&report.outcome, &format!("{} by {executor}", report.attempt))
        }
        Event::LaunchFailed { attempt, executor, failure: it } => format!("launch-failed {attempt} by {} {}", life(executor), failure(it)),
        Event::ResultDelivered { attempt } => format!("delivered {attempt}"),
        Event::ResultFetchFailed { attempt, executor, partly_shown } => {
            format!("unreadable {attempt} on {}{}", life(executor), if *partly_shown { " shown" } else { "" })
        }
        Event::ResultClosed { job } => format!("closed {job}"),
        Event::OutputRestored { attempt, executor, outputs, .. } => {
            format!("output-restored {attempt} on {} rows={}", life(executor), sizes(outputs))
        }
        Event::NumbersGiven { job, below } => format!("numbers-given {job} below={below}"),
        Event::Restored => "restored".into(),
    }
}

fn outcome(outcome: &TaskOutcome, whose: &str) -> String {
    match outcome {
        TaskOutcome::Running { rows } => format!("progress {whose} rows={rows}"),
        TaskOutcome::Sealed { outputs, .. } => format!("sealed {whose} rows={}", sizes(outputs)),
        TaskOutcome::Failed(it) => format!("failed {whose} {}", failure(it)),
        TaskOutcome::Cancelled => format!("cancelled {whose}"),
    }
}

/// A stage graph: `s0 tasks=2; s1 tasks=1 <- s0 streaming`.
fn graph(stages: &[StageShape]) -> String {
    let stage = |shape: &StageShape| {
        let mut text = format!("{} tasks={}", shape.id, shape.tasks);
        if shape.slots_per_task > 1 {
            let _ = write!(text, " slots={}", shape.slots_per_task);
        }
        if shape.output_partitions != 1 {
            let _ = write!(text, " parts={}", shape.output_partitions);
        }
        text.push_str(if shape.deterministic { "" } else { " indeterminate" });
        for input in &shape.inputs {
            let edge = if input.edge == Edge::Streaming { " streaming" } else { "" };
            let read = if input.read == InputRead::All { " all" } else { "" };
            let _ = write!(text, " <- {}{edge}{read}", input.producer);
        }
        text
    };
    stages.iter().map(stage).collect::<Vec<_>>().join("; ")
}
