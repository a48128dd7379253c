//! Jobs come, are planned, replanned and end.
//!
//! ```text
//!             slot for a job,            JobPlanned           all root rows delivered
//!   Queued ─────────────────▶ Planning ────────────▶ Running ───────────────────────▶ Delivered
//!      │     an executor         │ PlanFailed           │ failed, cancelled,              │
//!      │                         │                      │ closed                          │ ResultClosed
//!      └─────────────────────────┴──────────────────────┴───────────▶ (forgotten) ◀───────┘
//! ```
//!
//! `JobFinished` is said on the way to `Delivered` or to the end, whichever comes first; `ForgetJob` at the end.

use volley_proto::{AttemptId, Failure, JobId, JobOwner, Remedy, StageId, StageShape, TaskOutcome, TaskReport};

use super::cluster::{Cluster, Timer};
use super::effect::{Effect, JobOutcome, QueueReason};
use super::event::{ExecutorLife, Replanning, Timestamp};
use super::executors::Active;
use super::job::{Job, Progress, World};
use super::replan::{self, NewList};
use super::status;
use super::task::Phase;

impl Cluster {
    pub(super) fn job_submitted(&mut self, id: JobId, owner: JobOwner) {
        let known = self.jobs.contains_key(&id) || self.finished.iter().any(|summary| summary.job == id);
        if known {
            return;
        }
        if let Some(timeout) = owner.timeout_ms {
            self.timers.insert((self.now.after_millis(timeout), Timer::Job(id)));
        }
        if self.executors.present() == 0 {
            self.timers.insert((self.now.after_millis(self.settings.no_executor_wait_ms), Timer::NoExecutor));
        }
        let is_full = self.queue.len() >= self.settings.max_queued_jobs;
        self.jobs.insert(id, Job::new(id, owner, self.now));
        if is_full {
            let waiting = self.queue.len();
            self.finish(id, JobOutcome::Failed(Failure::retry(format!("{waiting} jobs are waiting already: try again later"))));
            return;
        }
        self.queue.push_back(id);
        self.admit();
        if self.queue.back() == Some(&id) {
            self.effects.push(Effect::JobQueued { job: id, reason: self.queue_reason() });
        }
    }

    /// What a queued job waits for.
    pub(super) fn queue_reason(&self) -> QueueReason {
        if self.executors.present() == 0 { QueueReason::NoExecutor } else { QueueReason::TooManyJobs }
    }

    /// Has jobs planned as long as there is room for them.
    pub(super) fn admit(&mut self) {
        while !self.queue.is_empty() && self.executors.present() > 0 && self.at_work() < self.settings.max_running_jobs {
            let Some(id) = self.queue.pop_front() else { return };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.progress = Progress::Planning;
            self.working.insert(id);
            self.effects.push(Effect::Plan { job: id });
        }
    }

    /// Jobs that need planner or slots: those that only wait for the client don't count.
    fn at_work(&self) -> usize {
        self.working.iter().filter(|id| self.jobs.get(id).is_some_and(|job| !job.is_sealed())).count()
    }

    pub(super) fn job_planned(&mut self, id: JobId, stages: Vec<StageShape>, replanning: Replanning) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.progress {
            Progress::Planning => {}
            // Only a journal knows the plan of a job that nobody has been asked to plan.
            Progress::Queued => {
                self.queue.retain(|queued| *queued != id);
                self.working.insert(id);
            }
            Progress::Running | Progress::Delivered => return,
        }
        if let Err(wrong) = replan::validate(&stages) {
            self.finish(id, JobOutcome::Failed(Failure::internal(format!("the planner made an invalid stage graph for {id}: {wrong}"))));
            return;
        }
        job.start(stages, replanning);
        self.watch_stragglers();
        self.effects.push(Effect::JobRunning { job: id });
        self.settle_later(id);
    }

    pub(super) fn plan_failed(&mut self, id: JobId, failure: Failure) {
        if self.jobs.get(&id).is_some_and(|job| job.progress == Progress::Planning) {
            self.finish(id, JobOutcome::Failed(failure));
        }
    }

    pub(super) fn replanned(&mut self, id: JobId, stage: StageId, list: Option<NewList>) {
        self.with_job(id, |job, world| job.replanned(world, stage, list));
    }

    pub(super) fn job_cancelled(&mut self, id: JobId, reason: String) {
        if self.jobs.get(&id).is_some_and(|job| job.progress != Progress::Delivered) {
            self.finish(id, JobOutcome::Cancelled { reason });
        }
    }

    pub(super) fn result_closed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.progress == Progress::Delivered {
            self.forget(id);
        } else if job.progress == Progress::Running && job.is_sealed() {
            self.finish(id, JobOutcome::Succeeded);
            self.forget(id);
        } else {
            self.finish(id, JobOutcome::Cancelled { reason: "the client closed its result".into() });
        }
    }

    /// Ends a job: says so, and stops what it runs. Unless the client may still read its result, it is forgotten.
    pub(super) fn finish(&mut self, id: JobId, outcome: JobOutcome) {
        self.working.remove(&id);
        self.contenders.leave(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.progress == Progress::Queued {
            self.queue.retain(|queued| *queued != id);
        }
        if let Some(timeout) = job.owner.timeout_ms {
            self.timers.remove(&(job.submitted.after_millis(timeout), Timer::Job(id)));
        }
        let summary = status::finished(job, outcome.clone(), self.now);
        self.finished.push_back(summary);
        while self.finished.len() > self.settings.finished_jobs_kept {
            self.finished.pop_front();
        }
        self.effects.push(Effect::JobFinished { job: id, outcome: outcome.clone() });
        let mut world = World { settings: &self.settings, now: self.now, executors: &mut self.executors, effects: &mut self.effects };
        job.wind_up(&mut world);
        if outcome == JobOutcome::Succeeded {
            job.progress = Progress::Delivered;
        } else {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let executors = job.touched.iter().map(|index| self.executors.get(*index).life.clone()).collect();
        self.effects.push(Effect::ForgetJob { job: id, executors });
    }

    pub(super) fn task_reported(&mut self, report: TaskReport) {
        let life = ExecutorLife::new(report.executor, report.incarnation);
        let Some(executor) = self.heard(&life) else {
            self.fence(life);
            return;
        };
        if self.executors.get(executor).active.iter().any(|active| active.attempt == report.attempt && !active.stopping) {
            self.note_trust(executor, report.attempt, &report.outcome);
        }
        self.reported(executor, report.attempt, &report.outcome);
    }

    fn reported(&mut self, executor: u32, attempt: AttemptId, outcome: &TaskOutcome) {
        let is_over = !matches!(outcome, TaskOutcome::Running { .. });
        let active: Option<Active> = if is_over {
            self.executors.vacate(executor, attempt)
        } else {
            self.executors.get(executor).active.iter().find(|active| active.attempt == attempt).cloned()
        };
        // Nobody waits for word of it: it was heard before, or never launched there.
        let Some(active) = active else { return };
        if is_over {
            self.slots_freed(&active);
        }
        if !active.stopping {
            self.with_job(attempt.task.job, |job, world| job.absorb(world, attempt, executor, outcome));
        }
    }

    /// An attempt could not be launched. If that may have to do with the executor, nothing new goes there until it is heard
    /// again: the news that its stream broke may be on the way, and launches in between would fail as fast as they are made.
    pub(super) fn launch_failed(&mut self, attempt: AttemptId, life: &ExecutorLife, failure: Failure) {
        let Some(executor) = self.executors.find(life) else { return };
        let remedy = if failure.remedy == Remedy::Cancelled { Remedy::Retry } else { failure.remedy };
        if remedy == Remedy::Retry {
            self.suspect(executor);
        }
        self.reported(executor, attempt, &TaskOutcome::Failed(Failure { remedy, message: failure.message }));
    }

    /// Looks at all deadlines that have come.
    pub(super) fn tick(&mut self) {
        self.forgive_own_delay();
        while let Some(&(at, timer)) = self.timers.first().filter(|(at, _)| *at <= self.now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Executor(index) => self.look_after(index),
                Timer::Job(id) => self.out_of_time(id),
                Timer::NoExecutor => self.still_no_executor(),
                // They are looked for when all else is settled.
                Timer::Stragglers => {}
                Timer::Denied(index) => self.look_at_denied(index),
            }
        }
    }

    /// If the machine itself stood still, executors had no chance to be heard.
    fn forgive_own_delay(&mut self) {
        let of_executor = self.timers.iter().find(|(_, timer)| matches!(timer, Timer::Executor(_)));
        let Some(due) = of_executor.map(|(due, _)| *due) else { return };
        let late = self.now.micros_since(due);
        if late > self.settings.deaf_after_ms * 1000 {
            self.executors.forgive(self.now, late);
        }
    }

    fn out_of_time(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(timeout) = job.owner.timeout_ms else { return };
        if job.progress != Progress::Delivered {
            let message = format!("{id} has not ended within its time limit of {timeout} ms");
            self.finish(id, JobOutcome::Failed(Failure::cancelled(message)));
        }
    }

    fn still_no_executor(&mut self) {
        let Some(since) = self.deserted_since else { return };
        let wait = self.settings.no_executor_wait_ms;
        let due = |job: &Job| since.max(job.submitted).after_millis(wait) <= self.now && job.progress != Progress::Delivered;
        let ids: Vec<JobId> = self.jobs.values().filter(|job| due(job)).map(|job| job.id).collect();
        for id in ids {
            let message = format!("no executor has joined the cluster within {wait} ms: {id} can't run");
            self.finish(id, JobOutcome::Failed(Failure::retry(message)));
        }
    }

    /// When a job that waits without any executor is given up.
    pub(super) fn patience_ends(&self, submitted: Timestamp) -> Option<Timestamp> {
        self.deserted_since.map(|since| since.max(submitted).after_millis(self.settings.no_executor_wait_ms))
    }
}

impl Job {
    /// Stops everything, and lets go of all that it knows of tasks.
    fn wind_up(&mut self, world: &mut World<'_>) {
        for stage in 0..self.stages.len() as u32 {
            for index in 0..self.stages[stage as usize].tasks.len() as u32 {
                let task = &self.stages[stage as usize].tasks[index as usize];
                match task.phase {
                    Phase::Running => self.stop_attempt(world, stage, index),
                    Phase::Sealed => world.executors.hold(task.executor, -1),
                    Phase::Waiting | Phase::Gone => {}
                }
            }
        }
        self.runnable.clear();
        self.stages = Vec::new();
        self.dirty = false;
    }
}
