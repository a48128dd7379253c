//! The simulated world: virtual time, links between processes, faults, and the machine in the middle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use volley_proto::{AttemptId, ExecutorId, Incarnation, JobId, StageId, StageShape};

use super::client::SimJob;
use super::executors::{Command, Fate, Process};
use super::rng::{Rng, mix};
use crate::machine::{Cluster, Effect, Event, ExecutorLife, Launch, OutputRetention, Settings, Timestamp, invariants};
use crate::text;

const SECOND: u64 = 1_000_000;

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
    Replanned(JobId, StageId, Option<(Vec<StageShape>, Vec<bool>)>),
    Tick,
    /// Faults end; one executor at least is there for good.
    Calm,
}

/// One stream.
#[derive(Debug, Clone)]
struct Link {
    process: usize,
    life: ExecutorLife,
    /// Half-open: what is sent is lost.
    mute_up: bool,
    mute_down: bool,
    ended: bool,
    /// Whether the scheduler knows of it.
    accepted: bool,
    /// When the last message arrives: messages don't overtake each other.
    last_up: u64,
    last_down: u64,
}

/// How rough this world is, in thousandths.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) refusals: u64,
    pub(super) failures: u64,
    pub(super) kills: u64,
    faults: u64,
    calm: u64,
    survivors: usize,
}

/// The world.
#[derive(Debug)]
pub(super) struct Sim {
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) plan: Plan,
    pub(super) machine: Cluster,
    pub(super) processes: Vec<Process>,
    pub(super) jobs: BTreeMap<JobId, SimJob>,
    links: BTreeMap<u64, Link>,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    actions: BTreeMap<u64, Action>,
    counter: u64,
    tick_at: u64,
    /// How many executors there are and where each one's newest process is.
    calm: bool,
    loud: bool,
    steps: u64,
}

impl Sim {
    pub(super) fn new(seed: u64, loud: bool) -> Self {
        let mut rng = Rng::new(mix(&[seed]));
        let plan = Plan {
            refusals: rng.pick(&[0, 0, 10]),
            failures: rng.pick(&[0, 20, 80]),
            kills: rng.pick(&[0, 0, 0, 15]),
            faults: rng.pick(&[0, 1, 3, 8, 15]),
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
            ..Settings::default()
        };
        Self {
            rng,
            now: 0,
            plan,
            machine: Cluster::new(settings),
            processes: Vec::new(),
            jobs: BTreeMap::new(),
            links: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            actions: BTreeMap::new(),
            counter: 0,
            tick_at: u64::MAX,
            calm: false,
            loud,
            steps: 0,
        }
    }

    /// Lives through it all; panics where something is wrong. Returns the number of events that the machine took.
    pub(super) fn run(&mut self) -> u64 {
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
        self.schedule(self.plan.calm, Action::Calm);
        let limit = self.plan.calm + 1_500 * SECOND;
        let mut idle_since = None;
        while let Some(Reverse((at, number))) = self.agenda.pop() {
            assert!(at < limit, "some job does not end: {:?}", self.machine.jobs());
            self.now = at;
            let action = self.actions.remove(&number).expect("scheduled");
            self.act(action);
            if self.calm && self.jobs.values().all(|job| job.outcome.is_some() && job.closed) {
                let since = *idle_since.get_or_insert(self.now);
                if self.now > since + 60 * SECOND {
                    break;
                }
            }
        }
        self.check_nothing_left();
        self.steps
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
            Action::Replanned(job, stage, proposal) => self.replanned(job, stage, proposal),
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
            self.jobs.get_mut(&job).expect("submitted").closed = true;
        }
        self.steps += 1;
        let again = matches!(event, Event::TaskReported(_) | Event::ResultDelivered { .. }).then(|| event.clone());
        if self.loud {
            println!("{:>12} {}", self.now, text::event(&event));
        }
        let effects = self.machine.step(Timestamp(self.now), event);
        if self.loud {
            effects.iter().for_each(|effect| println!("{:>14}{}", "", text::effect(effect)));
        }
        if let Err(violation) = invariants::check(&self.machine, &effects) {
            panic!("{violation}");
        }
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
        match effect {
            Effect::Plan { job } => self.plan_job(job),
            Effect::JobRunning { job } => self.plan_taken(job),
            Effect::Launch(launch) => {
                let life = launch.executor.clone();
                self.send_down(&life, Command::Launch(Rc::new(launch)));
            }
            Effect::CancelTask { attempt, executor } => self.send_down(&executor, Command::Cancel(attempt)),
            Effect::Replan { job, stage, sizes, exact } => self.replan(job, stage, &sizes, exact),
            Effect::PlanReplaced { job, plan_version, .. } => self.plan_replaced(job, plan_version),
            Effect::RootTaskSealed { attempt, executor, .. } => self.root_sealed(attempt, executor),
            Effect::RootTaskRetracted { attempt } => self.root_retracted(attempt),
            Effect::JobFinished { job, outcome } => self.job_finished(job, outcome),
            Effect::ReleaseOutputs { job, stage, executors } => {
                executors.iter().for_each(|life| self.send_down(life, Command::Release(job, stage)));
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
        }
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

    pub(super) fn open_link(&mut self, at: usize) -> u64 {
        let stream = self.links.len() as u64 + 1;
        let life = self.processes[at].life.clone();
        let link = Link { process: at, life, mute_up: false, mute_down: false, ended: false, accepted: false, last_up: 0, last_down: 0 };
        self.links.insert(stream, link);
        stream
    }

    /// The stream over which the scheduler reaches an executor.
    fn newest_stream(&self, life: &ExecutorLife) -> Option<u64> {
        self.links.iter().rev().find(|(_, link)| link.life == *life && link.accepted).map(|(stream, _)| *stream)
    }

    /// Ends a stream; either side notices in its own time.
    pub(super) fn break_link(&mut self, stream: u64) {
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended) else { return };
        link.ended = true;
        let (up, down) = (link.last_up.max(self.now), link.last_down.max(self.now));
        let (up_delay, down_delay) = (self.rng.within(0, 200_000), self.rng.within(0, 200_000));
        self.schedule(up + up_delay, Action::EndsAtScheduler(stream));
        self.schedule(down + down_delay, Action::EndsAtExecutor(stream));
    }

    /// Sends a message to the scheduler; it may be lost with the stream, or arrive twice.
    pub(super) fn send_up(&mut self, at: usize, event: Event) {
        let Some(stream) = self.processes[at].stream else { return };
        let delay = self.rng.within(100, 30_000);
        let twice = self.rng.permille(30);
        let lost = !self.calm && self.rng.permille(4);
        let now = self.now;
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended && !link.mute_up) else { return };
        if lost {
            link.mute_up = true;
            return self.later(0, 12 * SECOND, Action::Fault);
        }
        link.last_up = link.last_up.max(now + delay);
        let arrival = link.last_up;
        if twice && matches!(event, Event::TaskReported(_)) {
            let again = arrival + self.rng.within(0, 5 * SECOND);
            self.schedule(again, Action::Up(stream, event.clone()));
        }
        self.schedule(arrival, Action::Up(stream, event));
    }

    fn send_down(&mut self, life: &ExecutorLife, command: Command) {
        let Some(stream) = self.newest_stream(life) else { return };
        let delay = self.rng.within(100, 30_000);
        let twice = self.rng.permille(20) && matches!(command, Command::Launch(_));
        let now = self.now;
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended && !link.mute_down) else { return };
        link.last_down = link.last_down.max(now + delay);
        let arrival = link.last_down;
        if twice {
            self.schedule(arrival, Action::Down(stream, command.clone()));
        }
        self.schedule(arrival, Action::Down(stream, command));
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

    /// A new process takes the place of a dead one, unless another one has.
    fn restart(&mut self, at: usize) {
        let old = self.processes[at].clone();
        if self.processes.iter().any(|process| process.life.id == old.life.id && process.life.incarnation > old.life.incarnation) {
            return;
        }
        let life = ExecutorLife::new(old.life.id.clone(), Incarnation(old.life.incarnation.0 + 1));
        let process = Process::new(life, old.slots, old.memory_bytes);
        self.processes.push(process);
        let at = self.processes.len() - 1;
        self.dial(at);
        self.schedule(self.now + SECOND, Action::Heartbeat(at));
    }

    /// Something goes wrong.
    fn fault(&mut self) {
        let living: Vec<usize> = (0..self.processes.len()).filter(|at| self.processes[*at].alive).collect();
        if living.is_empty() {
            return;
        }
        let at = self.rng.pick(&living);
        let back = self.rng.permille(800).then(|| self.now + self.rng.within(50_000, 20 * SECOND));
        let pause = self.now + self.rng.within(100_000, 15 * SECOND);
        match self.rng.within(0, 100) {
            0..30 if !self.calm => self.kill(at, back),
            30..65 => {
                if let Some(stream) = self.processes[at].stream {
                    self.break_link(stream);
                }
            }
            65..80 if !self.calm => self.mute(at),
            80..90 if !self.calm => self.processes[at].paused_until = pause,
            90..95 => {
                let held: Vec<AttemptId> = self.processes[at].held.keys().copied().collect();
                if !held.is_empty() {
                    let attempt = self.rng.pick(&held);
                    self.processes[at].damaged.insert(attempt);
                }
            }
            _ if !self.calm => self.drain(at, back),
            _ => {}
        }
    }

    /// A link loses what is sent over it, and ends some time later.
    fn mute(&mut self, at: usize) {
        let (up, down) = (self.rng.permille(600), self.rng.permille(600));
        let Some(stream) = self.processes[at].stream else { return };
        if let Some(link) = self.links.get_mut(&stream) {
            link.mute_up |= up;
            link.mute_down |= down;
        }
        self.later(0, 15 * SECOND, Action::EndsAtExecutor(stream));
        self.later(0, 15 * SECOND, Action::EndsAtScheduler(stream));
    }

    fn drain(&mut self, at: usize, back: Option<u64>) {
        let executor = self.processes[at].life.clone();
        self.processes[at].draining = true;
        self.send_up(at, Event::ExecutorDraining { executor });
        if let Some(back) = back {
            self.schedule(back, Action::Restart(at));
        }
    }

    /// Faults are over: some executors are left for good, and hear and are heard.
    fn calm_down(&mut self) {
        self.calm = true;
        let mut survivors = 0;
        for at in 0..self.processes.len() {
            self.processes[at].paused_until = 0;
            let newest = self.processes.iter().rposition(|process| process.life.id == self.processes[at].life.id) == Some(at);
            if self.processes[at].alive && (survivors >= self.plan.survivors || self.processes[at].draining || !newest) {
                self.kill(at, None);
            } else if self.processes[at].alive {
                survivors += 1;
                self.later(0, SECOND, Action::Dial(at));
            }
        }
        if survivors == 0 {
            let last = self.processes.len() - 1;
            self.kill(last, None);
            self.restart(last);
        }
    }

    /// What an attempt runs into. Most do well, and so does nearly everything once all is calm.
    pub(super) fn draw_fate(&mut self, launch: &Launch) -> Fate {
        let culprit = mix(&[launch.attempt.task.job.0, u64::from(launch.attempt.task.stage.0), u64::from(launch.attempt.task.index), 7]) % 1000;
        if culprit < self.plan.kills {
            return Fate::KillsExecutor;
        }
        if !self.rng.permille(self.plan.failures) || launch.attempt.number > 3 {
            return Fate::Seals;
        }
        let is_new = launch.attempt.number == 0;
        match self.rng.within(0, 100) {
            0..50 => Fate::Fails,
            50..65 if is_new => Fate::LacksMemory,
            65..80 if is_new => Fate::Panics,
            80..83 if self.rng.permille(300) => Fate::Refuses,
            _ => Fate::GivesUp,
        }
    }

    /// Whether the machine counts on this attempt.
    pub(super) fn is_current(&self, attempt: AttemptId) -> bool {
        let tasks = self.machine.tasks(attempt.task.job, attempt.task.stage);
        let task = tasks.get(attempt.task.index as usize);
        task.is_some_and(|task| task.state == crate::machine::TaskState::Running && task.attempts == attempt.number + 1)
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
