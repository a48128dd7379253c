//! The owner of all state: takes events in, lets jobs settle, hands out slots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use volley_proto::JobId;

use super::contest::Contest;
use super::effect::Effect;
use super::event::{Event, Timestamp};
use super::executors::Executors;
use super::job::{Job, Progress, World};
use super::placement::{self, Offer, Reservation, Share, Wish};
use super::replan::NewList;
use super::restore;
use super::settings::Settings;
use super::status::JobSummary;
use super::task::NOBODY;

/// Ready tasks of a stage that are tried before the next stage gets a chance.
pub(super) const TRIES_PER_STAGE: usize = 8;

/// What is looked at when a moment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Whether an executor has been heard.
    Executor(u32),
    /// Whether a job has ended in time.
    Job(JobId),
    /// Whether there is an executor at last.
    NoExecutor,
    /// Whether attempts are slow.
    Stragglers,
    /// Whether a denied executor gets another chance.
    Denied(u32),
}

/// The state of the whole cluster, and the only code that decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    /// All jobs that are not forgotten.
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Jobs that wait to be planned, in order of arrival.
    pub(super) queue: VecDeque<JobId>,
    /// Jobs that are planned or run.
    pub(super) working: BTreeSet<JobId>,
    /// Jobs with tasks that can be launched.
    pub(super) contenders: Contest,
    /// Jobs that have to settle.
    dirty: Vec<JobId>,
    /// The last finished jobs, oldest first.
    pub(super) finished: VecDeque<JobSummary>,
    pub(super) executors: Executors,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// When stragglers are looked for next.
    pub(super) stragglers_due: Option<Timestamp>,
    /// Since when no executor is there.
    pub(super) deserted_since: Option<Timestamp>,
    /// Attempts launched.
    turns: u64,
    pub(super) effects: Vec<Effect>,
}

impl Cluster {
    /// A cluster without executors and jobs.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Timestamp(0),
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            working: BTreeSet::new(),
            contenders: Contest::default(),
            dirty: Vec::new(),
            finished: VecDeque::new(),
            executors: Executors::default(),
            timers: BTreeSet::new(),
            stragglers_due: None,
            deserted_since: Some(Timestamp(0)),
            turns: 0,
            effects: Vec::new(),
        }
    }

    /// Takes one event in and says what is to be done. Total and infallible; a `now` before the last one counts as that.
    #[must_use]
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.take(event);
        self.settle();
        if self.stragglers_due.is_some_and(|due| due <= self.now) {
            // Whoever wants slots has got them by now.
            self.race_stragglers();
            self.settle();
        }
        self.dismiss_drained();
        std::mem::take(&mut self.effects)
    }

    /// When the next `Tick` is due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Attempts launched so far.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::ExecutorJoined(hello) => self.executor_joined(hello),
            Event::Heartbeat { executor } => self.heartbeat(&executor),
            Event::StreamBroken { executor, stream } => self.stream_broken(&executor, stream),
            Event::ExecutorDraining { executor } => self.executor_draining(&executor),
            Event::ExecutorLeft { executor } => self.executor_left(&executor),
            Event::JobSubmitted { job, owner } => self.job_submitted(job, owner),
            Event::JobPlanned { job, stages, replanning } => self.job_planned(job, stages, replanning),
            Event::PlanFailed { job, failure } => self.plan_failed(job, failure),
            Event::Replanned { job, stage, stages, changed, plan_version } => {
                self.replanned(job, stage, stages.map(|stages| NewList { stages, changed, made_from: plan_version }));
            }
            Event::JobCancelled { job, reason } => self.job_cancelled(job, reason),
            Event::TaskReported(report) => self.task_reported(report),
            Event::LaunchFailed { attempt, executor, failure } => self.launch_failed(attempt, &executor, failure),
            Event::ResultDelivered { attempt } => {
                self.with_job(attempt.task.job, |job, world| job.delivered(world, attempt));
            }
            Event::ResultFetchFailed { attempt, partly_shown, .. } => {
                self.with_job(attempt.task.job, |job, world| job.fetch_failed(world, attempt, partly_shown));
            }
            Event::ResultClosed { job } => self.result_closed(job),
            Event::OutputRestored { attempt, executor, address, outputs } => {
                self.output_restored(attempt, &restore::known_by_journal(executor, address), &outputs);
            }
            Event::NumbersGiven { job, below } => drop(self.with_job(job, |job, _| job.numbers_from(below))),
            Event::Restored => self.restored(),
        }
    }

    /// Lets a running job change; it settles before the step ends.
    pub(super) fn with_job<R>(&mut self, id: JobId, change: impl FnOnce(&mut Job, &mut World<'_>) -> R) -> Option<R> {
        let job = self.jobs.get_mut(&id)?;
        if job.progress != Progress::Running {
            return None;
        }
        let was_dirty = job.dirty;
        let mut world = World { settings: &self.settings, now: self.now, executors: &mut self.executors, effects: &mut self.effects };
        let result = change(job, &mut world);
        if job.dirty && !was_dirty {
            self.dirty.push(id);
        }
        Some(result)
    }

    /// Lets a job settle before the step ends.
    pub(super) fn settle_later(&mut self, id: JobId) {
        self.dirty.push(id);
    }

    /// Carries on until nothing follows from anything any more. Every round launches a task or ends a job.
    fn settle(&mut self) {
        loop {
            while let Some(id) = self.dirty.pop() {
                self.settle_job(id);
            }
            self.admit();
            self.take_back_denied();
            self.place();
            if self.dirty.is_empty() {
                return;
            }
        }
    }

    fn settle_job(&mut self, id: JobId) {
        self.with_job(id, |job, world| job.settle(world));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(outcome) = job.verdict.take() {
            self.finish(id, outcome);
        } else if job.runnable.is_empty() {
            self.contenders.leave(id);
        } else {
            self.contenders.enter(id, job.share());
        }
    }

    /// Hands out free slots until nobody wants or nobody gets any. Reservations last for one round. Where one stood in
    /// somebody's way while others were served, the order has changed, and another round is due.
    fn place(&mut self) {
        loop {
            let before = self.turns;
            let reserved = self.place_round();
            if before == self.turns || reserved.is_empty() {
                return;
            }
        }
    }

    fn place_round(&mut self) -> Vec<Reservation> {
        let mut reserved = Vec::new();
        if self.executors.most_free() == 0 {
            return reserved;
        }
        let mut refused = None;
        while self.executors.most_free() > 0 {
            let Some(next) = self.contenders.behind(refused) else { break };
            // Whoever is served stands behind its former place, and so behind all who were refused.
            if !self.place_one(next.job, &mut reserved) {
                refused = Some(next);
            }
        }
        reserved
    }

    /// Launches one task of a job; false if none can be launched now.
    fn place_one(&mut self, id: JobId, reserved: &mut Vec<Reservation>) -> bool {
        let turn = self.turns + 1;
        let launched = self.with_job(id, |job, world| {
            let launched = job.launch_next(world, reserved);
            if launched {
                job.served = turn;
            }
            launched
        });
        match self.jobs.get(&id).filter(|job| !job.runnable.is_empty()) {
            Some(job) => self.contenders.enter(id, job.share()),
            None => self.contenders.leave(id),
        }
        let launched = launched == Some(true);
        self.turns += u64::from(launched);
        launched
    }
}

impl Job {
    /// How it stands in the contest for slots.
    pub(super) fn share(&self) -> Share {
        Share { slots: self.slots_in_use, weight: self.owner.weight, served: self.served }
    }

    /// Launches the most urgent task that finds an executor. At most one executor is reserved for a job at a time.
    fn launch_next(&mut self, world: &mut World<'_>, reserved: &mut Vec<Reservation>) -> bool {
        let mut may_reserve = reserved.iter().all(|reservation| reservation.job != self.id);
        let runnable: Vec<(u32, u32)> = self.runnable.iter().copied().take(TRIES_PER_STAGE).collect();
        for (depth, stage) in runnable {
            if !self.inputs_reachable(stage, world.executors) {
                continue;
            }
            let mut put_back = Vec::new();
            let mut launched = false;
            while put_back.len() < TRIES_PER_STAGE {
                let Some(index) = self.stages[stage as usize].pop_ready() else { break };
                match placement::choose_executor(world.executors, self.wish(stage, index), reserved) {
                    Offer::Take { executor, slots } => {
                        self.launch(world, stage, index, executor, slots);
                        launched = true;
                        break;
                    }
                    Offer::Reserve { executor } if may_reserve => {
                        reserved.push(Reservation { job: self.id, executor });
                        may_reserve = false;
                    }
                    Offer::Reserve { .. } | Offer::Nothing => {}
                }
                put_back.push(index);
                let task = &self.stages[stage as usize].tasks[index as usize];
                if !task.alone && task.avoid == NOBODY {
                    // The others want no less.
                    break;
                }
            }
            while let Some(index) = put_back.pop() {
                self.stages[stage as usize].unpop_ready(index);
            }
            if self.stages[stage as usize].waiting == 0 {
                self.runnable.remove(&(depth, stage));
            }
            if launched {
                return true;
            }
        }
        false
    }

    fn wish(&self, stage: u32, index: u32) -> Wish {
        let it = &self.stages[stage as usize];
        let task = &it.tasks[index as usize];
        Wish { slots: it.shape.slots_per_task, alone: task.alone, avoid: task.avoid }
    }
}
