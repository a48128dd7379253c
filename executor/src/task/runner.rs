//! The attempts of this executor: started, stopped, counted.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use volley_proto::{AttemptId, ExecutorId, Failure, Incarnation, JobId, StageId, StagePlan, TaskOutcome, TaskReport, TaskSpec};
use volley_sql::extension::Extensions;
use volley_sql::stores::remember;

use super::run::{Attempt, supervise};
use super::sessions::Sessions;
use crate::compute::CpuPool;
use crate::exchange::Exchange;
use crate::memory::MemoryBudget;

/// Where reports go: the control stream, or a test.
pub trait Reports: fmt::Debug + Send + Sync {
    /// Sends a report, now or when a scheduler can be reached. Never waits.
    fn report(&self, report: TaskReport);
}

/// What a runner is made of.
#[derive(Debug)]
pub struct RunnerParts {
    /// This executor.
    pub executor: ExecutorId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Where tasks compute.
    pub pool: CpuPool,
    /// Where they are watched.
    pub io: Handle,
    /// Where their rows come from and go to.
    pub exchange: Arc<Exchange>,
    /// The executor's memory.
    pub budget: Arc<MemoryBudget>,
    /// Caches, object stores and the spill directory.
    pub runtime: Arc<RuntimeEnv>,
    /// What an embedding program adds.
    pub extensions: Extensions,
    /// Where their ends are reported.
    pub reports: Arc<dyn Reports>,
}

/// Runs the attempts that the scheduler launches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskRunner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool: CpuPool,
    pub(super) exchange: Arc<Exchange>,
    pub(super) sessions: Sessions,
    executor: ExecutorId,
    incarnation: Incarnation,
    io: Handle,
    reports: Arc<dyn Reports>,
    state: Mutex<State>,
    /// Told whenever an attempt ends or outputs are freed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    draining: bool,
    plans: HashMap<(JobId, StageId), Arc<StagePlan>>,
    running: HashMap<AttemptId, Running>,
}

#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    slots: u32,
}

impl TaskRunner {
    /// A runner without tasks.
    pub fn new(parts: RunnerParts) -> Self {
        let RunnerParts { executor, incarnation, pool, io, exchange, budget, runtime, extensions, reports } = parts;
        let sessions = Sessions::new(runtime, budget, extensions);
        let (state, changed) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { pool, exchange, sessions, executor, incarnation, io, reports, state, changed }) }
    }

    /// Keeps a stage's plan for the tasks that follow; a newer version replaces an older one.
    pub fn keep_plan(&self, mut plan: StagePlan) {
        std::mem::take(&mut plan.stores).into_iter().for_each(remember);
        let mut state = self.shared.state.lock();
        let key = (plan.job, plan.stage);
        if state.plans.get(&key).is_none_or(|known| known.version <= plan.version) {
            state.plans.insert(key, Arc::new(plan));
        }
    }

    /// Starts an attempt. Doing so again while it runs does nothing.
    pub fn launch(&self, spec: TaskSpec) -> Result<(), Failure> {
        let id = spec.attempt;
        let attempt = {
            let mut state = self.shared.state.lock();
            if state.running.contains_key(&id) {
                return Ok(());
            }
            if state.draining {
                return Err(Failure::retry(format!("{id} was not started: executor {} is leaving", self.shared.executor)));
            }
            let plan = state.plan(&spec)?;
            self.shared.exchange.resume(id.task.job);
            let cancel = CancellationToken::new();
            state.running.insert(id, Running { cancel: cancel.clone(), slots: spec.slots });
            let weight = NonZeroU32::new(plan.weight).unwrap_or(NonZeroU32::MIN);
            let scope = self.shared.pool.scope(id.task.job, weight, plan.depth);
            Attempt { spec, plan, scope, cancel }
        };
        let shared = Arc::clone(&self.shared);
        let span = tracing::info_span!("task", attempt = %id, trace_id = attempt.spec.trace.trace_id().unwrap_or_default());
        let running = async move {
            tracing::debug!(slots = attempt.spec.slots, "task started");
            let outcome = supervise(&shared, attempt).await;
            tracing::debug!(outcome = outcome.name(), "task ended");
            shared.end(id, outcome);
        };
        self.shared.io.spawn(running.instrument(span));
        Ok(())
    }

    /// Stops an attempt, whose end is reported as any other; `false` where it does not run.
    pub fn cancel(&self, attempt: AttemptId) -> bool {
        let state = self.shared.state.lock();
        let running = state.running.get(&attempt);
        running.inspect(|running| running.cancel.cancel()).is_some()
    }

    /// Frees the output of an attempt that has ended, if it left one.
    pub fn discard(&self, attempt: AttemptId) {
        self.shared.exchange.discard(attempt, Failure::cancelled(format!("{attempt} is not the attempt that counts")));
        self.shared.changed.notify_waiters();
    }

    /// Stops every attempt.
    pub fn cancel_all(&self) {
        self.shared.state.lock().running.values().for_each(|running| running.cancel.cancel());
    }

    /// Frees the outputs of a stage.
    pub fn release(&self, job: JobId, stage: StageId) {
        self.shared.exchange.release(job, stage);
        self.shared.changed.notify_waiters();
    }

    /// Stops and frees everything of a job.
    pub fn forget_job(&self, job: JobId) {
        {
            let mut state = self.shared.state.lock();
            state.plans.retain(|(of, _), _| *of != job);
            state.running.iter().filter(|(id, _)| id.task.job == job).for_each(|(_, running)| running.cancel.cancel());
        }
        self.shared.exchange.forget(job);
        self.shared.changed.notify_waiters();
    }

    /// Stops and frees everything; returns how many jobs there were.
    pub fn forget_all(&self) -> usize {
        let jobs: BTreeSet<_> = {
            let state = self.shared.state.lock();
            let (plans, running) = (state.plans.keys().map(|(job, _)| *job), state.running.keys().map(|id| id.task.job));
            plans.chain(running).chain(self.shared.exchange.held().into_iter().map(|id| id.task.job)).collect()
        };
        jobs.iter().for_each(|job| self.forget_job(*job));
        jobs.len()
    }

    /// Takes no new tasks from now on.
    pub fn drain(&self) {
        self.shared.state.lock().draining = true;
    }

    /// Attempts that run.
    pub fn running(&self) -> Vec<AttemptId> {
        let mut running: Vec<_> = self.shared.state.lock().running.keys().copied().collect();
        running.sort();
        running
    }

    /// Slots that running attempts hold.
    pub fn busy_slots(&self) -> u32 {
        self.shared.state.lock().running.values().map(|running| running.slots).sum()
    }

    /// Waits until no attempt runs.
    pub async fn idle(&self) {
        self.until(|shared| shared.state.lock().running.is_empty()).await;
    }

    /// Waits until no attempt runs and no output is held.
    pub async fn settled(&self) {
        self.until(|shared| shared.state.lock().running.is_empty() && shared.exchange.held().is_empty()).await;
    }

    async fn until(&self, reached: impl Fn(&Shared) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change is missed in between.
            changed.as_mut().enable();
            if reached(&self.shared) {
                return;
            }
            changed.await;
        }
    }
}

impl State {
    fn plan(&self, spec: &TaskSpec) -> Result<Arc<StagePlan>, Failure> {
        let task = spec.attempt.task;
        match self.plans.get(&(task.job, task.stage)) {
            Some(plan) if plan.version == spec.plan_version => Ok(Arc::clone(plan)),
            Some(plan) => Err(Failure::retry(format!(
                "{} was not started: it belongs to version {} of its stage's plan, this executor has version {}",
                spec.attempt, spec.plan_version, plan.version
            ))),
            None => Err(Failure::retry(format!("{} was not started: this executor does not have its stage's plan", spec.attempt))),
        }
    }
}

impl Shared {
    pub(super) fn report(&self, attempt: AttemptId, outcome: TaskOutcome) {
        let (executor, incarnation) = (self.executor.clone(), self.incarnation);
        self.reports.report(TaskReport { attempt, executor, incarnation, outcome });
    }

    fn end(&self, attempt: AttemptId, outcome: TaskOutcome) {
        self.state.lock().running.remove(&attempt);
        self.report(attempt, outcome);
        self.changed.notify_waiters();
    }
}
