//! What always holds, one named function each. Tests call [`check`] after every step.
//!
//! Stages of more than some hundred tasks are looked at in full only now and then, so that a check costs little beside
//! the step that it follows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use volley_proto::{AttemptId, Edge, JobId};

use super::cluster::Cluster;
use super::effect::{Effect, Launch};
use super::event::ExecutorLife;
use super::executors::Presence;
use super::job::{Job, Progress};
use super::placement::Share;
use super::stage::Stage;
use super::task::{NOBODY, Phase, Task};

/// Stages with more tasks are sampled.
const SMALL_STAGE: usize = 300;
/// One of so many steps looks at large stages.
const SAMPLE: u64 = 256;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant: a function of this module.
    pub invariant: &'static str,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.invariant, self.found)
    }
}

type Check = Result<(), String>;
type OfState = (&'static str, fn(&Cluster) -> Check);
type OfEffects = (&'static str, fn(&Cluster, &[Effect]) -> Check);

/// Checks a cluster after a step, and the effects of that step.
pub fn check(cluster: &Cluster, effects: &[Effect]) -> Result<(), Violation> {
    let of_state: [OfState; 10] = [
        ("slots_are_within_capacity", slots_are_within_capacity),
        ("slots_add_up", slots_add_up),
        ("phases_are_counted", phases_are_counted),
        ("running_attempts_hold_slots", running_attempts_hold_slots),
        ("sealed_outputs_are_live", sealed_outputs_are_live),
        ("streaming_readers_are_bound", streaming_readers_are_bound),
        ("readers_agree", readers_agree),
        ("attempts_are_bounded", attempts_are_bounded),
        ("finished_jobs_rest", finished_jobs_rest),
        ("bookkeeping_is_linear", bookkeeping_is_linear),
    ];
    for (invariant, holds) in of_state {
        holds(cluster).map_err(|found| Violation { invariant, found })?;
    }
    let of_effects: [OfEffects; 4] = [
        ("launches_have_inputs", launches_have_inputs),
        ("effects_name_no_lost_executor", effects_name_no_lost_executor),
        ("finished_jobs_launch_nothing", finished_jobs_launch_nothing),
        ("slots_are_shared_by_weight", slots_are_shared_by_weight),
    ];
    for (invariant, holds) in of_effects {
        holds(cluster, effects).map_err(|found| Violation { invariant, found })?;
    }
    Ok(())
}

/// Slots in use are within each executor's capacity.
fn slots_are_within_capacity(cluster: &Cluster) -> Check {
    for (_, executor) in cluster.executors.iter() {
        ensure(executor.used <= executor.slots, || {
            format!("{} of {} slots of {} are in use", executor.used, executor.slots, executor.life)
        })?;
    }
    Ok(())
}

/// Slots in use of executors and of jobs are the sums over attempts.
fn slots_add_up(cluster: &Cluster) -> Check {
    let mut by_job: HashMap<JobId, u32> = HashMap::new();
    for (_, executor) in cluster.executors.iter() {
        let sum: u32 = executor.active.iter().map(|active| active.slots).sum();
        ensure(sum == executor.used, || format!("{} counts {} slots in use, its attempts hold {sum}", executor.life, executor.used))?;
        for active in &executor.active {
            *by_job.entry(active.attempt.task.job).or_default() += active.slots;
        }
    }
    for job in cluster.jobs.values().filter(|job| job.progress == Progress::Running) {
        let sum = by_job.get(&job.id).copied().unwrap_or(0);
        ensure(sum == job.slots_in_use, || format!("{} counts {} slots in use, its attempts hold {sum}", job.id, job.slots_in_use))?;
    }
    Ok(())
}

/// Each stage's counts are those of its tasks, and a waiting task of it can be found.
fn phases_are_counted(cluster: &Cluster) -> Check {
    each_stage(cluster, |job, place, stage| {
        let count = |phase| stage.tasks.iter().filter(|task| task.phase == phase).count() as u32;
        let counts = [Phase::Waiting, Phase::Running, Phase::Sealed, Phase::Gone].map(count);
        ensure(counts == [stage.waiting, stage.running, stage.sealed, stage.gone], || {
            format!("{}/s{place} counts its tasks wrong: they are {counts:?}", job.id)
        })?;
        let lost = stage.tasks.iter().position(|task| task.phase == Phase::Waiting && !task.queued);
        ensure(lost.is_none(), || format!("{}/s{place}/t{lost:?} waits and is not in the ready queue", job.id))
    })
}

/// A task runs if and only if an executor that is not lost has its attempt on its list; a rival runs beside it, on another executor.
fn running_attempts_hold_slots(cluster: &Cluster) -> Check {
    each_task(cluster, |job, stage, index, task| {
        if task.phase != Phase::Running {
            return Ok(());
        }
        let attempt = job.attempt_id(stage, index);
        let executor = cluster.executors.get(task.executor);
        let listed = executor.active.iter().any(|active| active.attempt == attempt && !active.stopping);
        ensure(listed && executor.presence != Presence::Lost, || format!("{attempt} runs, but {} does not list it", executor.life))
    })?;
    for job in cluster.jobs.values() {
        for ((stage, index), rival) in &job.rivals {
            let attempt = job.task_id(*stage, *index).attempt(rival.number);
            let task = &job.stages[*stage as usize].tasks[*index as usize];
            let executor = cluster.executors.get(rival.executor);
            let listed = executor.active.iter().any(|active| active.attempt == attempt && !active.stopping);
            let races = listed && task.phase == Phase::Running && task.executor != rival.executor && task.attempt != rival.number;
            ensure(races && executor.presence != Presence::Lost, || {
                format!("{attempt} is a rival on {}, but does not run beside another", executor.life)
            })?;
        }
    }
    for (index, executor) in cluster.executors.iter() {
        for active in executor.active.iter().filter(|active| !active.stopping) {
            ensure(is_current(cluster, active.attempt, index), || {
                format!("{} lists {}, which does not run there", executor.life, active.attempt)
            })?;
        }
    }
    Ok(())
}

fn is_current(cluster: &Cluster, attempt: AttemptId, executor: u32) -> bool {
    let stage = cluster.jobs.get(&attempt.task.job).and_then(|job| job.stages.get(attempt.task.stage.0 as usize));
    let task = stage.and_then(|stage| stage.tasks.get(attempt.task.index as usize));
    let rival = cluster.jobs.get(&attempt.task.job).and_then(|job| job.rivals.get(&(attempt.task.stage.0, attempt.task.index)));
    task.is_some_and(|task| {
        let counts = task.attempt == attempt.number && task.executor == executor;
        task.phase == Phase::Running && (counts || rival.is_some_and(|rival| rival.number == attempt.number && rival.executor == executor))
    })
}

/// Outputs that count as readable are on executors that are not lost, and these count them.
fn sealed_outputs_are_live(cluster: &Cluster) -> Check {
    let mut held: HashMap<u32, u32> = HashMap::new();
    let mut all = true;
    for job in cluster.jobs.values() {
        for stage in &job.stages {
            all &= is_looked_at(cluster, stage);
            for task in stage.tasks.iter().filter(|task| is_looked_at(cluster, stage) && task.phase == Phase::Sealed) {
                *held.entry(task.executor).or_default() += 1;
            }
        }
    }
    for (index, executor) in cluster.executors.iter() {
        let held = held.get(&index).copied().unwrap_or(0);
        let lost = executor.presence == Presence::Lost;
        ensure(!lost || held == 0, || format!("{} is lost and counts as holding {held} outputs", executor.life))?;
        ensure(lost || !all || held == executor.held, || format!("{} counts {} outputs, it holds {held}", executor.life, executor.held))?;
    }
    Ok(())
}

/// A streaming reader holds slots only beside producers that run or have ended well.
fn streaming_readers_are_bound(cluster: &Cluster) -> Check {
    for (_, executor) in cluster.executors.iter() {
        for active in executor.active.iter().filter(|active| active.slots > 0 && !active.stopping) {
            let id = active.attempt.task;
            let Some(job) = cluster.jobs.get(&id.job) else { continue };
            let Some(stage) = job.stages.get(id.stage.0 as usize) else { continue };
            for input in stage.shape.inputs.iter().filter(|input| input.edge == Edge::Streaming) {
                let missing = job.stages[input.producer.0 as usize].waiting;
                ensure(missing == 0, || {
                    format!("{} runs, but {missing} tasks of {} don't, which it streams from", active.attempt, input.producer)
                })?;
            }
        }
    }
    Ok(())
}

/// All readers of a task that count have read the same attempt of it, or its stage is deterministic: whoever has read
/// something that was replaced since does not count any more.
fn readers_agree(cluster: &Cluster) -> Check {
    each_task(cluster, |job, stage, index, task| {
        ensure(task.phase == Phase::Waiting || task.attempt >= task.valid_from || task.delivered, || {
            format!("{} counts, but what it read was replaced", job.attempt_id(stage, index))
        })
    })?;
    // A reader of an indeterminate stage counts only while no attempt of the stage is to be made again.
    each_stage(cluster, |job, place, stage| {
        let lacking = !stage.shape.deterministic && stage.wanted && stage.waiting > 0;
        let mut readers = stage.consumers.iter().map(|(reader, _)| &job.stages[*reader as usize]);
        ensure(!lacking || readers.all(|reader| reader.running + reader.sealed + reader.gone == 0 || reader.tasks.is_empty()), || {
            format!("{}/s{place} is not deterministic and has to run again in part, but somebody who read it still counts", job.id)
        })
    })
}

/// Attempts are bounded: each one more is accounted for, and no account is overdrawn.
fn attempts_are_bounded(cluster: &Cluster) -> Check {
    let settings = &cluster.settings;
    each_task(cluster, |job, stage, index, task| {
        let name = || job.task_id(stage, index);
        let accounted =
            1 + u32::from(task.rivals) + u32::from(task.failures) + u32::from(task.losses) + u32::from(task.restarts) + task.skipped;
        ensure(task.next <= accounted, || format!("{} has had {} attempts, {accounted} are accounted for", name(), task.next))?;
        ensure(u32::from(task.failures) < settings.max_attempts, || format!("{} has failed {} times", name(), task.failures))?;
        ensure(u32::from(task.losses) < settings.max_executors_lost, || format!("{} has taken {} executors down", name(), task.losses))?;
        ensure(u32::from(task.restarts) < settings.max_restarts, || format!("{} was restarted {} times", name(), task.restarts))
    })
}

/// What has ended has no stages, no slots but for attempts that are stopping, and no place in any contest.
fn finished_jobs_rest(cluster: &Cluster) -> Check {
    for (_, executor) in cluster.executors.iter() {
        for active in executor.active.iter().filter(|active| !active.stopping) {
            let running = cluster.jobs.get(&active.attempt.task.job).is_some_and(|job| job.progress == Progress::Running);
            ensure(running, || format!("{} runs on {}, but its job does not run", active.attempt, executor.life))?;
        }
    }
    for job in cluster.jobs.values().filter(|job| job.progress == Progress::Delivered) {
        let idle = job.stages.is_empty() && !cluster.working.contains(&job.id) && !cluster.contenders.contains(job.id);
        ensure(idle, || format!("{} has ended and is still at work", job.id))?;
    }
    let stray = cluster.working.iter().find(|id| !cluster.jobs.contains_key(id));
    ensure(stray.is_none(), || format!("{stray:?} is unknown and at work"))?;
    let stands_otherwise = |(id, share): &(JobId, Share)| cluster.jobs.get(id).is_none_or(|job| job.share() != *share);
    let wrong = cluster.contenders.iter().find(stands_otherwise);
    ensure(wrong.is_none(), || format!("{wrong:?} stands in the contest for slots, and is not there or has another share"))
}

/// What is kept grows with tasks, partitions and executors, never with producers times consumers.
fn bookkeeping_is_linear(cluster: &Cluster) -> Check {
    let executors = cluster.executors.iter().count();
    each_stage(cluster, |job, place, stage| {
        let bound = 4 * stage.tasks.len() + stage.shape.output_partitions as usize + executors;
        ensure(stage.entries() <= bound, || format!("{}/s{place} keeps {} entries, more than {bound}", job.id, stage.entries()))
    })?;
    for (_, executor) in cluster.executors.iter() {
        let with_slots = executor.active.iter().filter(|active| active.slots > 0).count();
        ensure(with_slots <= executor.slots as usize, || format!("{} lists {with_slots} attempts", executor.life))?;
    }
    Ok(())
}

/// An attempt is launched only when each sealed input has a live sealed output of every producer task, and each streaming
/// input one that runs or is sealed; the launch names exactly these.
fn launches_have_inputs(cluster: &Cluster, effects: &[Effect]) -> Check {
    let launches = effects.iter().filter_map(|effect| if let Effect::Launch(launch) = effect { Some(launch) } else { None });
    for launch in launches {
        let Some(job) = cluster.jobs.get(&launch.attempt.task.job) else { continue };
        let Some(stage) = job.stages.get(launch.attempt.task.stage.0 as usize) else { continue };
        for (input, locations) in stage.shape.inputs.iter().zip(&launch.inputs) {
            let producer = &job.stages[input.producer.0 as usize];
            let complete = locations.producer == input.producer && locations.attempts.len() == producer.tasks.len();
            ensure(complete, || format!("{} does not get all outputs of {}", launch.attempt, input.producer))?;
            if is_looked_at(cluster, producer) {
                inputs_are_live(cluster, launch, producer, locations, input.edge)?;
            }
        }
    }
    Ok(())
}

fn inputs_are_live(cluster: &Cluster, launch: &Launch, producer: &Stage, locations: &volley_proto::InputLocations, edge: Edge) -> Check {
    for (task, location) in producer.tasks.iter().zip(locations.attempts.iter()) {
        let executor = cluster.executors.get(task.executor);
        let readable = task.phase == Phase::Sealed || (edge == Edge::Streaming && task.phase == Phase::Running);
        let same = location.attempt == task.attempt
            && location.executor == executor.life.id
            && location.incarnation == executor.life.incarnation
            && executor.presence == Presence::Live;
        ensure(readable && same, || {
            let from = format!("{}/t{}/a{}", producer.shape.id, location.task, location.attempt);
            format!("{} reads {from} on {}, which is not there to be read", launch.attempt, location.executor)
        })?;
    }
    Ok(())
}

/// No command goes to an executor that is lost.
fn effects_name_no_lost_executor(cluster: &Cluster, effects: &[Effect]) -> Check {
    for (place, effect) in effects.iter().enumerate() {
        for life in addressees(effect) {
            let lost = |later: &Effect| matches!(later, Effect::ExecutorLost { executor, .. } if executor == life);
            let present = cluster.executors.find(life).is_some() || effects[place..].iter().any(lost);
            ensure(present, || format!("{effect:?} names {life}, which is lost"))?;
        }
    }
    Ok(())
}

/// Whom an effect takes for present.
fn addressees(effect: &Effect) -> Vec<&ExecutorLife> {
    match effect {
        Effect::Launch(launch) => vec![&launch.executor],
        Effect::CancelTask { executor, .. }
        | Effect::RootTaskSealed { executor, .. }
        | Effect::Welcome { executor, .. }
        | Effect::ExecutorSuspected { executor }
        | Effect::ExecutorDenied { executor, .. }
        | Effect::MayLeave { executor } => vec![executor],
        Effect::ReleaseOutputs { executors, .. } | Effect::ForgetJob { executors, .. } => executors.iter().collect(),
        _ => Vec::new(),
    }
}

/// Nothing is launched for a job that does not run.
fn finished_jobs_launch_nothing(cluster: &Cluster, effects: &[Effect]) -> Check {
    let mut ended = Vec::new();
    for effect in effects {
        match effect {
            Effect::JobFinished { job, .. } => ended.push(*job),
            Effect::Launch(launch) => {
                let job = launch.attempt.task.job;
                ensure(!ended.contains(&job), || format!("{} is launched after its job has ended", launch.attempt))?;
                let known =
                    cluster.jobs.contains_key(&job) || effects.iter().any(|e| matches!(e, Effect::JobFinished { job: j, .. } if *j == job));
                ensure(known, || format!("{} is launched for an unknown job", launch.attempt))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// No job gets a slot while another one that wants it uses fewer slots for its weight. Looked at where any slot suits any job:
/// where no task wants more than one slot, or a certain executor.
fn slots_are_shared_by_weight(cluster: &Cluster, effects: &[Effect]) -> Check {
    let waiting: Vec<&Job> = cluster.contenders.iter().filter_map(|(id, _)| cluster.jobs.get(&id)).collect();
    if !cluster.executors.suspects().is_empty() || !waiting.iter().all(|job| takes_any_slot(job)) {
        return Ok(());
    }
    let mut last: BTreeMap<JobId, u32> = BTreeMap::new();
    for effect in effects {
        if let Effect::Launch(launch) = effect {
            last.insert(launch.attempt.task.job, launch.slots);
        }
    }
    for (id, slots) in last {
        let Some(served) = cluster.jobs.get(&id).filter(|job| job.progress == Progress::Running) else { continue };
        // What it had when it was served for the last time, beside what the others have had since then at the most.
        let had = served.slots_in_use.saturating_sub(slots);
        for other in waiting.iter().filter(|other| other.id != id) {
            let fair = u64::from(had) * u64::from(other.owner.weight) <= u64::from(other.slots_in_use) * u64::from(served.owner.weight);
            ensure(fair, || {
                let (weight, theirs, weighs) = (served.owner.weight, other.slots_in_use, other.owner.weight);
                format!("{id} (weight {weight}) had {had} slots and got more, {} (weight {weighs}) has {theirs} and waits", other.id)
            })?;
        }
    }
    Ok(())
}

fn takes_any_slot(job: &Job) -> bool {
    job.runnable.iter().all(|(_, stage)| {
        let stage = &job.stages[*stage as usize];
        let plain = |task: &Task| task.phase != Phase::Waiting || (!task.alone && task.avoid == NOBODY);
        stage.shape.slots_per_task == 1 && !stage.streams_in() && stage.tasks.iter().all(plain)
    })
}

fn ensure(holds: bool, found: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(found()) }
}

fn is_looked_at(cluster: &Cluster, stage: &Stage) -> bool {
    stage.tasks.len() <= SMALL_STAGE || cluster.turns().is_multiple_of(SAMPLE)
}

fn each_stage(cluster: &Cluster, check: impl Fn(&Job, usize, &Stage) -> Check) -> Check {
    for job in cluster.jobs.values() {
        for (place, stage) in job.stages.iter().enumerate().filter(|(_, stage)| is_looked_at(cluster, stage)) {
            check(job, place, stage)?;
        }
    }
    Ok(())
}

fn each_task(cluster: &Cluster, check: impl Fn(&Job, u32, u32, &Task) -> Check) -> Check {
    each_stage(cluster, |job, place, stage| (0..).zip(&stage.tasks).try_for_each(|(index, task)| check(job, place as u32, index, task)))
}
