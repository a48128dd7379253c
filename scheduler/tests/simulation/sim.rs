//! The simulated world: virtual time, links between processes, faults, and the machine in the middle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;

use volley_proto::{AttemptId, ExecutorId, Incarnation, JobId, StageId};

use super::client::{Answer, SimJob};
use super::executors::{Command, Process, SentPlan};
use super::links::Link;
use super::restarts::Journal;
use super::rng::{Rng, mix};
use crate::machine::{Cluster, Effect, Event, ExecutorLife, JobOutcome, Launch, OutputRetention, Settings, Timestamp, invariants};
use crate::text;

pub(super) const SECOND: u64 = 1_000_000;

/// Something that is going to happen.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// The machine hears of something.
    Tell(Event),
    /// A message of an executor arrives.
    Up(u64, Event),
    /// A message for an executor arrives.
    Down(u64, Command),
    /// The scheduler notices that a stream has ended.
    EndsAtScheduler(u64),
    /// The executor notices that a stream has ended.
    EndsAtExecutor(u64),
    Dial(usize),
    Heartbeat(usize),
    Work(usize, AttemptId, u64),
    Restart(usize),
    Fault,
    Submit(JobId),
    Show(AttemptId),
    Replanned(JobId, StageId, Answer),
    Release(JobId, StageId, Vec<ExecutorLife>),
    RestartScheduler,
    Tick,
    /// Faults end; one executor at least is there for good.
    Calm,
}

/// How rough this world is, in thousandths.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) refusals: u64,
    pub(super) failures: u64,
    /// The executor on which everything fails that was not tried before.
    pub(super) bad: Option<&'static str>,
    pub(super) kills: u64,
    pub(super) faults: u64,
    pub(super) restarts: u64,
    pub(super) calm: u64,
    pub(super) survivors: usize,
}

/// The world.
#[derive(Debug)]
pub(super) struct Sim {
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) plan: Plan,
    pub(super) machine: Cluster,
    pub(super) settings: Settings,
    pub(super) journal: Journal,
    /// How often the scheduler was restarted.
    pub(super) restarts: u32,
    pub(super) processes: Vec<Process>,
    pub(super) jobs: BTreeMap<JobId, SimJob>,
    /// What each launch brought to its executor.
    pub(super) sent_plans: BTreeMap<AttemptId, SentPlan>,
    pub(super) links: BTreeMap<u64, Link>,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    actions: BTreeMap<u64, Action>,
    counter: u64,
    tick_at: u64,
    /// Which process can't read from which other one, and until when.
    pub(super) walls: BTreeMap<(usize, usize), u64>,
    /// What executors were told to stop and discard: nobody may read it.
    discarded: BTreeSet<(AttemptId, ExecutorLife)>,
    pub(super) calm: bool,
    loud: bool,
    /// What happened how often.
    pub(super) tally: BTreeMap<&'static str, u64>,
}

impl Sim {
    pub(super) fn new(seed: u64, loud: bool) -> Self {
        let mut rng = Rng::new(mix(&[seed]));
        let plan = Plan {
            refusals: rng.pick(&[0, 0, 10]),
            failures: rng.pick(&[0, 20, 80]),
            bad: rng.pick(&[None, None, Some("e1")]),
            kills: rng.pick(&[0, 0, 0, 15]),
            faults: rng.pick(&[0, 1, 3, 8, 15]),
            restarts: rng.pick(&[0, 0, 1, 2, 5]),
            calm: rng.within(10, 90) * SECOND,
            survivors: rng.pick(&[1, 1, 2, 5]),
        };
        let settings = Settings {
            max_attempts: 12,
            max_executors_lost: if plan.kills > 0 { 4 } else { 30 },
            isolate_after_lost: rng.pick(&[2, 5]),
            max_running_jobs: rng.pick(&[1, 2, 64]),
            retention: rng.pick(&[OutputRetention::UntilConsumed, OutputRetention::UntilJobEnds]),
            no_executor_wait_ms: 300_000,
            straggler_after_ms: rng.pick(&[20, 200, 2_000]),
            straggler_factor: rng.pick(&[0, 1, 1, 2]),
            deny_after_failures: rng.pick(&[0, 1, 3, 5]),
            deny_ms: rng.pick(&[100, 30_000]),
            ..Settings::default()
        };
        Self {
            rng,
            now: 0,
            plan,
            machine: Cluster::new(settings.clone()),
            settings,
            journal: Journal::default(),
            restarts: 0,
            processes: Vec::new(),
            jobs: BTreeMap::new(),
            links: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            actions: BTreeMap::new(),
            counter: 0,
            tick_at: u64::MAX,
            walls: BTreeMap::new(),
            discarded: BTreeSet::new(),
            sent_plans: BTreeMap::new(),
            calm: false,
            loud,
            tally: BTreeMap::new(),
        }
    }

    /// Lives through it all; panics where something is wrong.
    pub(super) fn run(&mut self) {
        for index in 0..self.rng.within(1, 6) {
            let slots = self.rng.within(1, 5) as u32;
            let memory = self.rng.pick(&[100, 100, 200]);
            let life = ExecutorLife::new(ExecutorId::new(format!("e{index}")), Incarnation(1));
            self.processes.push(Process::new(life, slots, memory));
            let at = self.processes.len() - 1;
            self.later(0, 3 * SECOND, Action::Dial(at));
            self.schedule(SECOND, Action::Heartbeat(at));
        }
        for job in 1..=self.rng.within(1, 5) {
            self.later(0, 15 * SECOND, Action::Submit(JobId(job)));
        }
        for _ in 0..self.plan.faults {
            self.later(0, self.plan.calm, Action::Fault);
        }
        for _ in 0..self.plan.restarts {
            self.later(0, self.plan.calm + 20 * SECOND, Action::RestartScheduler);
        }
        self.schedule(self.plan.calm, Action::Calm);
        let limit = self.plan.calm + 1_500 * SECOND;
        let mut idle_since: Option<u64> = None;
        while let Some(Reverse((at, number))) = self.agenda.pop() {
            assert!(at < limit, "some job does not end: {:?}", self.machine.jobs());
            self.now = at;
            if let Some(action) = self.actions.remove(&number) {
                self.act(action);
            }
            let at_rest = self.calm && self.jobs.values().all(|job| job.outcome.is_some() && job.closed);
            idle_since = at_rest.then(|| idle_since.unwrap_or(self.now));
            if idle_since.is_some_and(|since| self.now > since + 60 * SECOND) {
                break;
            }
        }
        self.check_nothing_left();
    }

    fn act(&mut self, action: Action) {
        if let Some(resume) = self.paused(&action) {
            return self.schedule(resume, action);
        }
        match action {
            Action::Tell(event) => self.tell(event),
            Action::Up(stream, event) => {
                if matches!(event, Event::ExecutorJoined(_)) {
                    self.links.entry(stream).and_modify(|link| link.accepted = true);
                }
                self.tell(event);
            }
            Action::Down(stream, command) => {
                let process = self.links.get(&stream).map(|link| link.process);
                if let Some(at) = process.filter(|at| self.processes[*at].stream == Some(stream) && self.processes[*at].alive) {
                    self.obey(at, command);
                }
            }
            Action::EndsAtScheduler(stream) => {
                if let Some(executor) = self.links.get(&stream).map(|link| link.life.clone()) {
                    self.tell(Event::StreamBroken { executor, stream });
                }
            }
            Action::EndsAtExecutor(stream) => {
                let at = self.links[&stream].process;
                if self.processes[at].stream == Some(stream) {
                    self.processes[at].stream = None;
                    self.later(1_000, 3 * SECOND, Action::Dial(at));
                }
            }
            Action::Dial(at) => self.dial(at),
            Action::Heartbeat(at) => self.beat(at),
            Action::Work(at, attempt, number) => self.work(at, attempt, number),
            Action::Restart(at) => self.restart(at),
            Action::Fault => self.fault(),
            Action::Submit(job) => self.submit(job),
            Action::Show(attempt) => self.show(attempt),
            Action::Replanned(job, stage, answer) => self.replanned(job, stage, answer),
            Action::Release(job, stage, executors) => self.release(job, stage, &executors),
            Action::RestartScheduler => self.restart_scheduler(),
            Action::Tick => {
                self.tick_at = u64::MAX;
                self.tell(Event::Tick);
            }
            Action::Calm => self.calm_down(),
        }
    }

    /// When the process goes on that this would happen to, if it stands still.
    fn paused(&self, action: &Action) -> Option<u64> {
        let at = match action {
            Action::Down(stream, _) | Action::EndsAtExecutor(stream) => self.links.get(stream)?.process,
            Action::Dial(at) | Action::Heartbeat(at) | Action::Work(at, ..) => *at,
            _ => return None,
        };
        Some(self.processes[at].paused_until).filter(|until| *until > self.now)
    }

    /// Gives the machine an event, checks it, and carries its effects out.
    pub(super) fn tell(&mut self, event: Event) {
        if let Event::ResultClosed { job } = event {
            self.jobs.entry(job).and_modify(|job| job.closed = true);
        }
        self.count("events");
        let is_absorbed = matches!(
            event,
            Event::TaskReported(_) | Event::ResultDelivered { .. } | Event::JobCancelled { .. } | Event::ResultClosed { .. }
        );
        let again = is_absorbed.then(|| event.clone());
        if self.loud {
            println!("{}.{:03} {}", self.now / 1000, self.now % 1000, text::event(&event));
        }
        let effects = self.machine.step(Timestamp(self.now), event.clone());
        self.note_down(&event);
        if self.loud {
            effects.iter().for_each(|effect| println!("    {}", text::effect(effect)));
        }
        let violation = invariants::check(&self.machine, &effects).map_err(|violation| violation.to_string());
        assert_eq!(violation, Ok(()));
        for effect in effects {
            self.carry_out(effect);
        }
        if let Some(event) = again.filter(|_| self.rng.permille(100)) {
            self.tell_again(event);
        }
        if let Some(deadline) = self.machine.next_deadline().filter(|deadline| deadline.0 < self.tick_at) {
            self.tick_at = deadline.0.max(self.now);
            self.schedule(self.tick_at, Action::Tick);
        }
    }

    /// A report taken twice changes no more than taken once.
    fn tell_again(&mut self, event: Event) {
        let before = self.machine.clone();
        let effects = self.machine.step(Timestamp(self.now), event.clone());
        let silent = effects.iter().all(|effect| matches!(effect, Effect::Fence { .. }));
        assert!(silent, "{event:?} said twice has effects: {effects:?}");
        assert!(before == self.machine, "{event:?} said twice changes the machine");
    }

    fn carry_out(&mut self, effect: Effect) {
        self.count(kind(&effect));
        match effect {
            Effect::Plan { job } => self.plan_job(job),
            Effect::JobRunning { job } => self.plan_taken(job),
            Effect::Launch(launch) => {
                self.check_inputs(&launch);
                let life = launch.executor.clone();
                let is_second = |process: &Process| {
                    process.running.values().any(|run| !run.cancelled && run.launch.attempt.task == launch.attempt.task)
                };
                if self.processes.iter().any(|process| process.alive && is_second(process)) {
                    self.count("second attempts");
                }
                self.launched(launch.attempt, &life);
                self.send_plan(&launch);
                self.send_down(&life, Command::Launch(Rc::new(launch)));
            }
            Effect::CancelTask { attempt, executor } => {
                self.discarded.insert((attempt, executor.clone()));
                self.send_down(&executor, Command::Cancel(attempt));
            }
            Effect::Replan { job, stage, sizes, exact, plan_version } => self.replan(job, stage, &sizes, exact, plan_version),
            Effect::PlanReplaced { job, plan_version, .. } => self.plan_replaced(job, plan_version),
            Effect::RootTaskSealed { attempt, executor, .. } => {
                assert!(!self.discarded.contains(&(attempt, executor.clone())), "{attempt} was discarded and is to be shown");
                self.root_sealed(attempt, executor);
            }
            Effect::RootTaskRetracted { attempt } => self.root_retracted(attempt),
            Effect::JobFinished { job, outcome } => self.job_finished(job, outcome),
            Effect::ReleaseOutputs { job, stage, executors } => {
                self.release_when_written(job, stage, executors);
            }
            Effect::ForgetJob { job, executors } => {
                executors.iter().for_each(|life| self.send_down(life, Command::Forget(job)));
            }
            Effect::ExecutorLost { executor, .. } => {
                if let Some(stream) = self.newest_stream(&executor) {
                    self.break_link(stream);
                }
            }
            Effect::Fence { executor, superseded } => self.send_down(&executor, Command::Fence { superseded }),
            Effect::MayLeave { executor } => self.send_down(&executor, Command::MayLeave),
            Effect::JobQueued { .. } | Effect::Welcome { .. } | Effect::ExecutorSuspected { .. } => {}
            Effect::ExecutorDenied { .. } => self.count("executors denied"),
        }
    }

    /// Nobody is told to read what its executor was told to discard.
    fn check_inputs(&self, launch: &Launch) {
        for input in &launch.inputs {
            for location in input.attempts.iter() {
                let attempt = volley_proto::TaskId::new(launch.attempt.task.job, input.producer, location.task).attempt(location.attempt);
                let holder = ExecutorLife::new(location.executor.clone(), location.incarnation);
                assert!(!location.address.is_empty(), "{} is told to read {attempt} at no address", launch.attempt);
                assert!(!self.discarded.contains(&(attempt, holder)), "{} reads {attempt}, which was discarded", launch.attempt);
            }
        }
    }

    /// Takes back what was going to happen.
    pub(super) fn retain_actions(&mut self, stays: impl Fn(&Action) -> bool) {
        self.actions.retain(|_, action| stays(action));
    }

    /// A machine that is gone has no deadline, and nothing was discarded in the eyes of the next one.
    pub(super) fn forget_tick(&mut self) {
        self.tick_at = u64::MAX;
        self.discarded.clear();
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn schedule(&mut self, at: u64, action: Action) {
        self.counter += 1;
        self.actions.insert(self.counter, action);
        self.agenda.push(Reverse((at, self.counter)));
    }

    /// Schedules something at a random moment from now.
    pub(super) fn later(&mut self, low: u64, high: u64, action: Action) {
        let at = self.now + self.rng.within(low, high);
        self.schedule(at, action);
    }

    /// A number never given before.
    pub(super) fn unique(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn beat(&mut self, at: usize) {
        if self.processes[at].alive {
            let executor = self.processes[at].life.clone();
            if self.processes[at].stream.is_some() {
                self.send_up(at, Event::Heartbeat { executor });
            }
            self.schedule(self.now + SECOND, Action::Heartbeat(at));
        }
    }

    /// Whether the machine counts on this attempt.
    pub(super) fn is_current(&self, attempt: AttemptId) -> bool {
        let tasks = self.machine.tasks(attempt.task.job, attempt.task.stage);
        let task = tasks.get(attempt.task.index as usize);
        task.is_some_and(|task| task.state == crate::machine::TaskState::Running && task.attempt == attempt.number)
    }

    /// After all has ended nothing is left of it anywhere.
    fn check_nothing_left(&self) {
        for executor in self.machine.executors() {
            assert_eq!((executor.slots_in_use, executor.attempts, executor.outputs_held), (0, 0, 0), "{} is not idle", executor.life);
        }
        for process in self.processes.iter().filter(|process| process.alive) {
            assert!(process.running.is_empty(), "{} still runs {:?}", process.life, process.running.keys());
            assert!(process.held.is_empty(), "{} still holds {:?}", process.life, process.held.keys());
        }
        for (id, job) in &self.jobs {
            assert!(job.owner.weight > 0 && job.outcome.is_some(), "{id} has not ended");
        }
    }
}

/// What is counted of an effect.
fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Launch(_) => "launches",
        Effect::CancelTask { .. } => "cancellations",
        Effect::PlanReplaced { .. } => "plans replaced",
        Effect::RootTaskRetracted { .. } => "retractions",
        Effect::ExecutorLost { .. } => "executors lost",
        Effect::Fence { .. } => "fences",
        Effect::MayLeave { .. } => "drained",
        Effect::JobFinished { outcome: JobOutcome::Succeeded, .. } => "jobs succeeded",
        Effect::JobFinished { outcome: JobOutcome::Failed(_), .. } => "jobs failed",
        Effect::JobFinished { outcome: JobOutcome::Cancelled { .. }, .. } => "jobs cancelled",
        _ => "other effects",
    }
}
