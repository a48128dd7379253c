//! Effects of the machine become I/O here, and what can't be carried out comes back as an event. Logs are written here too:
//! the machine is silent.
//!
//! Nothing here waits: commands go into the queues of streams, planning is started and answers later.

use std::sync::Arc;

use volley_proto::control::{Command, Welcome};
use volley_proto::{Failure, JobId, StageId, TaskOutcome, TaskSpec, Term};
use volley_sql::graph::ClusterShape;

use crate::driver::Inbox;
use crate::executors::{Executors, NotConnected};
use crate::jobs::{InlineRows, JobBook, Phase, RootOutput};
use crate::journal::Journal;
use crate::planning::{Planning, STACK_BYTES};
use crate::state::{Cluster, Effect, Event, ExecutorLife, Launch, Replanning};

/// Carries out effects.
#[derive(Debug)]
pub(crate) struct Performer {
    /// Where answers go.
    pub(crate) inbox: Inbox,
    /// The streams to executors.
    pub(crate) executors: Arc<Executors>,
    /// The jobs.
    pub(crate) jobs: Arc<JobBook>,
    /// Where plans are made.
    pub(crate) planning: Arc<Planning>,
    /// Rows that came with reports.
    pub(crate) inline: InlineRows,
    /// What a later scheduler is told.
    pub(crate) journal: Journal,
    /// This scheduler's term.
    pub(crate) term: Term,
    /// What executors are welcomed with.
    pub(crate) welcome: Welcome,
}

impl Performer {
    /// Looks at an event before the machine takes it: neither measurements nor rows are any business of the machine's.
    pub(crate) fn observe(&self, event: &Event) {
        if let Event::TaskReported(report) = event
            && let Some(job) = self.jobs.get(report.attempt.task.job)
        {
            job.measured(report);
            let life = || ExecutorLife { id: report.executor.clone(), incarnation: report.incarnation };
            match &report.outcome {
                TaskOutcome::Running { rows: 1.. } => job.rows_come(report.attempt, &life()),
                // What is said of a job that has ended is kept for nobody.
                TaskOutcome::Sealed { inline: Some(frames), .. } if job.phase() == Phase::Running => {
                    self.inline.keep(report.attempt, life(), frames);
                }
                _ => {}
            }
        }
        self.journal.event(event, &self.jobs);
    }

    /// Carries out one effect. `cluster` has taken the whole step that it stems from.
    pub(crate) fn perform(&self, cluster: &Cluster, effect: Effect) {
        self.journal.effect(&effect, &self.jobs);
        match effect {
            Effect::JobQueued { job, reason } => self.with_job(job, |job| job.queued(reason)),
            Effect::Plan { job } => self.plan(job, shape(cluster)),
            Effect::JobRunning { job } => self.running(job),
            Effect::Launch(launch) => self.launch(launch),
            Effect::CancelTask { attempt, executor } => self.command(&executor, Command::Cancel { attempt }),
            Effect::Replan { job, stage, sizes, exact, plan_version } => {
                // What recurses over a plan needs as much of a stack as making it did.
                let replan = || self.jobs.get(job).and_then(|job| job.replan(stage, sizes, exact)).unzip();
                let (stages, changed) = stacker::grow(STACK_BYTES, replan);
                self.inbox.send(Event::Replanned { job, stage, stages, changed: changed.unwrap_or_default(), plan_version });
            }
            Effect::PlanReplaced { job, stage, plan_version } => {
                tracing::debug!(%job, %stage, plan_version, "plan replaced");
                self.with_job(job, |job| job.plan_replaced(stage));
                // Before anything that was launched by it is noted.
                self.journal.planned(job, &self.jobs);
            }
            Effect::RootTaskSealed { attempt, executor, address } => {
                let inline = self.inline.get(attempt, &executor);
                self.with_job(attempt.task.job, |job| {
                    job.root_readable(RootOutput { attempt, executor, address, announced: 0, sealed: true, inline })
                });
            }
            Effect::RootTaskRetracted { attempt } => self.with_job(attempt.task.job, |job| job.root_retracted(attempt)),
            Effect::JobFinished { job, outcome } => {
                tracing::info!(%job, ?outcome, "job finished");
                self.planning.discard(job);
                self.with_job(job, |job| job.ended_with(outcome));
            }
            Effect::ReleaseOutputs { job, stage, executors } => self.release_outputs(job, stage, executors),
            Effect::ForgetJob { job, executors } => self.forget(cluster, job, executors),
            Effect::Welcome { executor, stream } => self.welcome(&executor, stream),
            Effect::ExecutorDenied { executor, for_ms } => {
                tracing::warn!(%executor, for_ms, "too many tasks failed on an executor: it gets nothing new for a while");
            }
            Effect::ExecutorSuspected { executor } => tracing::warn!(%executor, "executor is suspect"),
            Effect::ExecutorLost { executor, reason } => self.lost(cluster, &executor, reason),
            Effect::Fence { executor, superseded } => self.fence(&executor, superseded),
            Effect::MayLeave { executor } => self.command(&executor, Command::Drain),
        }
    }

    fn with_job(&self, job: JobId, change: impl FnOnce(&crate::jobs::Job)) {
        if let Some(job) = self.jobs.get(job) {
            change(&job);
        }
    }

    /// Sends a command that need not arrive: what is lost with a stream is put right when the executor registers again.
    fn command(&self, executor: &ExecutorLife, command: Command) {
        if let Err(NotConnected) = self.executors.send(executor, command) {
            tracing::debug!(%executor, "a command was not sent: there is no stream");
        }
    }

    /// Outputs may go when the journal says that their readers are complete: a scheduler that is started again would miss them.
    fn release_outputs(&self, job: JobId, stage: StageId, executors: Vec<ExecutorLife>) {
        let streams = Arc::clone(&self.executors);
        self.journal.when_written(job, &self.jobs, move || {
            for executor in executors {
                if let Err(NotConnected) = streams.send(&executor, Command::ReleaseOutputs { job, stage }) {
                    tracing::debug!(%executor, "outputs were not released: there is no stream");
                }
            }
        });
    }

    fn plan(&self, id: JobId, cluster: ClusterShape) {
        let Some(job) = self.jobs.get(id) else {
            self.inbox.send(Event::PlanFailed { job: id, failure: Failure::internal("the job is not known") });
            return;
        };
        job.planning();
        let (planning, inbox) = (Arc::clone(&self.planning), self.inbox.clone());
        tokio::spawn(async move {
            match planning.plan(id, cluster).await {
                Ok(planned) => {
                    let stages = planned.shapes();
                    let replanning = if planned.adapting.is_some() { Replanning::OnSealed } else { Replanning::Off };
                    // The plan has to be found when the machine launches, so it is kept before the machine hears of it.
                    job.set_planned(Arc::new(planned));
                    inbox.send(Event::JobPlanned { job: id, stages, replanning });
                }
                Err(failure) => inbox.send(Event::PlanFailed { job: id, failure }),
            }
        });
    }

    /// The job's plan has been noted in the journal by now.
    fn running(&self, id: JobId) {
        if let Some(job) = self.jobs.get(id) {
            job.running();
            self.journal.when_written(id, &self.jobs, move || job.written());
        }
    }

    fn launch(&self, launch: Launch) {
        let (attempt, executor) = (launch.attempt, launch.executor.clone());
        if let Err(failure) = self.try_launch(launch) {
            tracing::debug!(%attempt, %executor, %failure, "launch failed");
            self.inbox.send(Event::LaunchFailed { attempt, executor, failure });
        }
    }

    fn try_launch(&self, launch: Launch) -> Result<(), Failure> {
        let Launch { attempt, executor, address, slots, plan_version, inputs } = launch;
        let task = attempt.task;
        let missing = || Failure::internal(format!("there is no plan for {attempt}"));
        let job = self.jobs.get(task.job).ok_or_else(missing)?;
        let planned = job.plan().ok_or_else(missing)?;
        if planned.adapting.is_some() {
            job.stage_started(task.stage);
        }
        let gone = |NotConnected| Failure::retry(format!("{executor} is not connected"));
        if self.executors.wants_plan(&executor, (task.job, task.stage, plan_version)) {
            let weight = job.new.owner.weight;
            let plan = planned.stage_plan(task.job, task.stage, plan_version, weight).ok_or_else(missing)?;
            self.executors.send(&executor, Command::Plan(plan)).map_err(gone)?;
        }
        let spec = TaskSpec {
            attempt,
            term: self.term,
            incarnation: executor.incarnation,
            plan_version,
            bindings: planned.bindings(task.stage, task.index).ok_or_else(missing)?,
            inputs,
            slots,
            trace: job.new.trace.clone(),
        };
        self.executors.send(&executor, Command::Launch(spec)).map_err(gone)?;
        job.launched(attempt, slots);
        if planned.root().is_some_and(|root| root.shape.id == task.stage) {
            job.root_started(RootOutput { attempt, executor, address, announced: 0, sealed: false, inline: None });
        }
        Ok(())
    }

    /// What executors have of a job may go when the journal says that it has ended: a scheduler that is started again would go on with it.
    fn forget(&self, cluster: &Cluster, job: JobId, executors: Vec<ExecutorLife>) {
        let streams = Arc::clone(&self.executors);
        self.journal.when_written(job, &self.jobs, move || {
            for executor in executors {
                streams.forget_plans(&executor, job);
                if let Err(NotConnected) = streams.send(&executor, Command::ForgetJob { job }) {
                    tracing::debug!(%executor, "a job was not forgotten: there is no stream");
                }
            }
        });
        self.inline.forget(job);
        self.with_job(job, |known| known.release(cluster.job(job)));
        self.jobs.forget(job);
    }

    fn welcome(&self, executor: &ExecutorLife, stream: u64) {
        tracing::info!(%executor, "executor joined");
        self.executors.bind(executor, stream);
        self.command(executor, Command::Welcome(self.welcome.clone()));
    }

    fn lost(&self, cluster: &Cluster, executor: &ExecutorLife, reason: crate::state::LossReason) {
        match reason {
            // It said goodbye.
            crate::state::LossReason::Left => tracing::info!(%executor, "executor left"),
            reason => tracing::warn!(%executor, ?reason, "executor lost"),
        }
        self.executors.close_life(executor);
        let others: Vec<_> = cluster.executors().into_iter().map(|other| other.address).collect();
        self.executors.keep_channels(|address| others.iter().any(|other| **other == *address));
    }

    fn fence(&self, executor: &ExecutorLife, superseded: bool) {
        let reason = if superseded {
            format!("another process has registered as {}", executor.id)
        } else {
            format!("{executor} counts as lost: register again")
        };
        tracing::warn!(%executor, reason, "executor fenced");
        self.executors.dismiss(executor, &Command::Refused { reason, retry: !superseded });
    }
}

/// What the planner is told of the cluster. The machine asks for a plan only when an executor is there.
pub(crate) fn shape(cluster: &Cluster) -> ClusterShape {
    let all = cluster.executors();
    let live = all.iter().filter(|executor| executor.state.takes_tasks());
    let usable: Vec<_> = if live.clone().next().is_some() { live.collect() } else { all.iter().collect() };
    ClusterShape {
        executors: usable.len().max(1),
        slots: usable.iter().map(|executor| executor.slots as usize).sum::<usize>().max(1),
        largest_slots: usable.iter().map(|executor| executor.slots as usize).max().unwrap_or(1),
        memory_bytes: usable.iter().map(|executor| executor.memory_bytes).min().unwrap_or(1 << 30),
    }
}
