//! Simulated executor processes: what they run, hold and say.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use volley_proto::{AttemptId, Edge, Failure, JobId, PartitionStats, StageId, StageShape, TaskMetrics, TaskOutcome, TaskReport};

use super::rows::{Output, Work};
use super::sim::{Action, Sim};
use crate::machine::{Event, ExecutorHello, ExecutorLife, Launch};

/// The stages as they were when an attempt was launched, and which of them end early.
pub(super) type SentPlan = Rc<(Vec<StageShape>, Vec<bool>)>;

/// What the scheduler says to an executor.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Launch(Rc<Launch>),
    Cancel(AttemptId),
    Release(JobId, StageId),
    Forget(JobId),
    Fence { superseded: bool },
    MayLeave,
}

/// How an attempt is going to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Seals,
    Fails,
    LacksMemory,
    Panics,
    Refuses,
    GivesUp,
    KillsExecutor,
}

/// An attempt that runs.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) launch: Rc<Launch>,
    pub(super) fate: Fate,
    pub(super) cancelled: bool,
    plan: SentPlan,
    /// A number that no other run has.
    pub(super) number: u64,
}

/// One executor process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) life: ExecutorLife,
    pub(super) alive: bool,
    pub(super) slots: u32,
    pub(super) memory_bytes: u64,
    /// The stream that it uses.
    pub(super) stream: Option<u64>,
    pub(super) draining: bool,
    pub(super) paused_until: u64,
    pub(super) running: BTreeMap<AttemptId, Run>,
    pub(super) held: BTreeMap<AttemptId, Rc<Output>>,
    /// Outputs on a part of the disk that can't be read any more.
    pub(super) damaged: BTreeSet<AttemptId>,
    /// Attempts that it has been told to start.
    seen: BTreeSet<AttemptId>,
    /// Stages whose outputs it was told to free, and the attempts that this concerned.
    released: BTreeSet<AttemptId>,
}

impl Process {
    pub(super) fn new(life: ExecutorLife, slots: u32, memory_bytes: u64) -> Self {
        Self {
            life,
            alive: true,
            slots,
            memory_bytes,
            stream: None,
            draining: false,
            paused_until: 0,
            running: BTreeMap::new(),
            held: BTreeMap::new(),
            damaged: BTreeSet::new(),
            seen: BTreeSet::new(),
            released: BTreeSet::new(),
        }
    }
}

/// What became of an attempt to read inputs.
enum Reading {
    Done(Output),
    NotYet,
    Unreadable(AttemptId, ExecutorLife),
}

impl Sim {
    /// The executor opens a new stream, and tells what it runs and holds.
    pub(super) fn dial(&mut self, at: usize) {
        if !self.processes[at].alive {
            return;
        }
        let stream = self.open_link(at);
        let process = &mut self.processes[at];
        process.stream = Some(stream);
        // It looks at its disk before it promises anything.
        let damaged = std::mem::take(&mut process.damaged);
        process.held.retain(|attempt, _| !damaged.contains(attempt));
        let hello = ExecutorHello {
            life: process.life.clone(),
            stream,
            slots: process.slots,
            memory_bytes: process.memory_bytes,
            address: Arc::from("here"),
            build: Arc::from("sim"),
            running: process.running.keys().copied().collect(),
            held: process.held.keys().copied().collect(),
        };
        let (held, draining, life) = (process.held.clone(), process.draining, process.life.clone());
        self.send_up(at, Event::ExecutorJoined(hello));
        for (attempt, output) in held {
            self.report(at, attempt, sealed(&output));
        }
        if draining {
            self.send_up(at, Event::ExecutorDraining { executor: life });
        }
    }

    fn report(&mut self, at: usize, attempt: AttemptId, outcome: TaskOutcome) {
        let ExecutorLife { id, incarnation } = self.processes[at].life.clone();
        self.send_up(at, Event::TaskReported(TaskReport { attempt, executor: id, incarnation, outcome }));
    }

    /// A command arrives.
    pub(super) fn obey(&mut self, at: usize, command: Command) {
        match command {
            Command::Launch(launch) => self.start(at, launch),
            Command::Cancel(attempt) => self.cancel(at, attempt),
            Command::Release(job, stage) => {
                let process = &mut self.processes[at];
                let gone = process.held.keys().filter(|attempt| attempt.task.job == job && attempt.task.stage == stage);
                process.released.extend(gone.copied().collect::<Vec<_>>());
                process.held.retain(|attempt, _| attempt.task.job != job || attempt.task.stage != stage);
            }
            Command::Forget(job) => {
                self.processes[at].held.retain(|attempt, _| attempt.task.job != job);
                let running: Vec<AttemptId> =
                    self.processes[at].running.keys().copied().filter(|attempt| attempt.task.job == job).collect();
                running.into_iter().for_each(|attempt| self.cancel(at, attempt));
            }
            Command::Fence { superseded: true } => self.kill(at, None),
            Command::Fence { superseded: false } => {
                let soon = self.now + self.rng.within(1_000, 300_000);
                self.schedule(soon, Action::Dial(at));
            }
            Command::MayLeave => {
                if self.processes[at].draining && self.processes[at].running.is_empty() {
                    let executor = self.processes[at].life.clone();
                    self.send_up(at, Event::ExecutorLeft { executor });
                    self.processes[at].alive = false;
                }
            }
        }
    }

    fn start(&mut self, at: usize, launch: Rc<Launch>) {
        let attempt = launch.attempt;
        if launch.executor != self.processes[at].life || !self.processes[at].seen.insert(attempt) {
            return;
        }
        if self.rng.permille(self.plan.refusals) {
            let (executor, failure) = (launch.executor.clone(), Failure::retry("no room"));
            self.send_up(at, Event::LaunchFailed { attempt, executor, failure });
            return;
        }
        let process = &self.processes[at];
        let used: u32 = process.running.values().map(|run| run.launch.slots).sum();
        assert!(used + launch.slots <= process.slots, "{} has {used} of {} slots in use and gets {attempt}", process.life, process.slots);
        let number = self.unique();
        let Some(plan) = self.sent_plans.get(&attempt).cloned() else { return };
        let run = Run { fate: self.draw_fate(&launch), launch, cancelled: false, plan, number };
        self.processes[at].running.insert(attempt, run);
        let slow = if self.rng.permille(50) { 20 } else { 1 };
        let done = self.now + self.rng.within(1_000, 800_000) * slow;
        self.schedule(done, Action::Work(at, attempt, number));
    }

    fn cancel(&mut self, at: usize, attempt: AttemptId) {
        self.processes[at].held.remove(&attempt);
        let number = self.processes[at].running.get_mut(&attempt).map(|run| {
            run.cancelled = true;
            run.number
        });
        match number {
            Some(number) => {
                let soon = self.now + self.rng.within(0, 400_000);
                self.schedule(soon, Action::Work(at, attempt, number));
            }
            None => self.report(at, attempt, TaskOutcome::Cancelled),
        }
    }

    /// An attempt comes to a point where it may end.
    pub(super) fn work(&mut self, at: usize, attempt: AttemptId, number: u64) {
        let Some(run) = self.processes[at].running.get(&attempt).filter(|run| run.number == number).cloned() else { return };
        let outcome = match run.fate {
            _ if run.cancelled => TaskOutcome::Cancelled,
            Fate::Seals => match self.read(at, &run) {
                Reading::Done(output) => return self.seal(at, attempt, output),
                Reading::NotYet => {
                    let later = self.now + self.rng.within(5_000, 100_000);
                    return self.schedule(later, Action::Work(at, attempt, number));
                }
                Reading::Unreadable(producer, holder) => TaskOutcome::Failed(Failure::rerun(producer, holder.id, "unreadable")),
            },
            Fate::Fails => TaskOutcome::Failed(Failure::retry("bad luck")),
            Fate::LacksMemory => TaskOutcome::Failed(Failure::resources("out of memory")),
            Fate::Panics => TaskOutcome::Failed(Failure::internal("panicked")),
            Fate::Refuses => TaskOutcome::Failed(Failure::query("division by zero")),
            Fate::GivesUp => TaskOutcome::Cancelled,
            Fate::KillsExecutor => {
                let back = self.now + self.rng.within(100_000, 5_000_000);
                return self.kill(at, Some(back));
            }
        };
        self.processes[at].running.remove(&attempt);
        self.report(at, attempt, outcome);
    }

    fn seal(&mut self, at: usize, attempt: AttemptId, output: Output) {
        let output = Rc::new(output);
        self.processes[at].running.remove(&attempt);
        self.report(at, attempt, sealed(&output));
        self.processes[at].held.insert(attempt, output);
    }

    /// Reads all inputs of an attempt, if they are there.
    fn read(&self, reader: usize, run: &Run) -> Reading {
        let attempt = run.launch.attempt;
        let stage = attempt.task.stage.0;
        let (shapes, limits) = &*run.plan;
        let work = Work { shapes, limits, stage, task: attempt.task.index, launch: run.number };
        if limits[stage as usize] {
            return Reading::Done(work.run(&[]));
        }
        let mut outputs: Vec<Vec<Rc<Output>>> = Vec::new();
        for (input, locations) in shapes[stage as usize].inputs.iter().zip(&run.launch.inputs) {
            let mut producers = Vec::new();
            for location in locations.attempts.iter() {
                let producer = volley_proto::TaskId::new(attempt.task.job, input.producer, location.task).attempt(location.attempt);
                let holder = ExecutorLife::new(location.executor.clone(), location.incarnation);
                let found = self.processes.iter().position(|process| process.life == holder && process.alive);
                let found = found.filter(|at| self.walls.get(&(reader, *at)).is_none_or(|until| *until < self.now));
                let process = found.map(|at| &self.processes[at]).filter(|process| !process.damaged.contains(&producer));
                let Some(process) = process else {
                    return Reading::Unreadable(producer, holder);
                };
                match process.held.get(&producer) {
                    Some(output) => producers.push(output.clone()),
                    None if input.edge == Edge::Streaming && process.running.get(&producer).is_some_and(|run| !run.cancelled) => {
                        return Reading::NotYet;
                    }
                    // It may not have started yet.
                    None if input.edge == Edge::Streaming && !process.seen.contains(&producer) && self.is_current(producer) => {
                        return Reading::NotYet;
                    }
                    None => {
                        let premature = process.released.contains(&producer) && self.is_current(attempt);
                        assert!(!premature, "the output of {producer} was released, but {attempt} reads it");
                        return Reading::Unreadable(producer, holder);
                    }
                }
            }
            outputs.push(producers);
        }
        let inputs: Vec<Vec<&Output>> = outputs.iter().map(|input| input.iter().map(Rc::as_ref).collect()).collect();
        Reading::Done(work.run(&inputs))
    }

    /// The process is gone, and comes back at some moment in another life, if at all.
    pub(super) fn kill(&mut self, at: usize, back: Option<u64>) {
        let process = &mut self.processes[at];
        if !process.alive {
            return;
        }
        process.alive = false;
        process.running.clear();
        process.held.clear();
        if let Some(stream) = process.stream.take() {
            self.break_link(stream);
        }
        if let Some(back) = back {
            self.schedule(back, Action::Restart(at));
        }
    }
}

/// The report of a complete output.
pub(super) fn sealed(output: &Output) -> TaskOutcome {
    let size = |rows: &Vec<u64>| PartitionStats { rows: rows.len() as u64, bytes: 8 * rows.len() as u64 };
    TaskOutcome::Sealed { outputs: output.partitions.iter().map(size).collect(), metrics: Box::new(TaskMetrics::default()), inline: None }
}
