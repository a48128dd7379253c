//! Planning: off the driver's loop, on threads with a stack that deep statements fit on, within a time limit.
//!
//! What is planned for a job waits here between its submission and [`Effect::Plan`](crate::state::Effect::Plan): the machine
//! decides when a job is planned, and never sees a plan.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use volley_proto::{Failure, JobId};
use volley_sql::catalog::name_bad_file;
use volley_sql::deadline;
use volley_sql::extension::Extensions;
use volley_sql::graph::ClusterShape;
use volley_sql::options::VolleyOptions;
use volley_sql::planner::adapt::Limits;
use volley_sql::session::SettingsCache;
use volley_sql::write::WriteSpec;

use crate::jobs::PlannedJob;

/// Parsing and planning recurse as deep as a statement nests.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// Plannings at a time; more wait.
const THREADS: usize = 16;
/// Plannings beside them whose time is over and that have not noticed yet: one step of the engine, which nothing can interrupt, may take
/// minutes on a chain of thousands of operators. With so many of those the next one keeps its place among the others.
const OVERDUE: usize = 48;
const THREAD_KEPT: Duration = Duration::from_secs(60);

/// A statement that waits to be planned.
pub(crate) struct Draft {
    /// The session's state as it was when the statement came.
    pub(crate) state: SessionState,
    /// What is to be run.
    pub(crate) work: Work,
    /// How long planning may take.
    pub(crate) limit: Duration,
}

/// What a job does.
#[derive(Debug)]
pub(crate) enum Work {
    /// Its rows go to a client.
    Query(LogicalPlan),
    /// Its rows go into staged files; what a client would get are the files.
    Write(LogicalPlan, Box<WriteSpec>),
}

/// The planning threads, and what waits for them.
pub(crate) struct Planning {
    threads: Option<Runtime>,
    /// One for each planning at a time: whatever has one starts at once, and what does not get one never starts.
    free: Arc<Semaphore>,
    /// One for each planning that nobody waits for any more, which gives its place to another.
    overdue: Arc<Semaphore>,
    drafts: Mutex<HashMap<JobId, Draft>>,
    settings: Arc<SettingsCache>,
    longest: Duration,
}

impl std::fmt::Debug for Planning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planning").field("drafts", &self.drafts.lock().len()).finish_non_exhaustive()
    }
}

impl Planning {
    /// Planning with at most `longest` for a statement.
    pub(crate) fn new(longest: Duration) -> io::Result<Self> {
        Self::with_places(longest, THREADS, OVERDUE)
    }

    fn with_places(longest: Duration, places: usize, overdue: usize) -> io::Result<Self> {
        let threads = Builder::new_current_thread()
            .thread_name("volley-planning")
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(places + overdue)
            .thread_keep_alive(THREAD_KEPT)
            .build()?;
        let (free, overdue) = (Arc::new(Semaphore::new(places)), Arc::new(Semaphore::new(overdue)));
        Ok(Self { threads: Some(threads), free, overdue, drafts: Mutex::default(), settings: Arc::default(), longest })
    }

    /// Keeps what is to be planned for a job until the machine asks for it.
    pub(crate) fn keep(&self, job: JobId, draft: Draft) {
        self.drafts.lock().insert(job, draft);
    }

    /// Lets go of a draft whose job ended before it was planned.
    pub(crate) fn discard(&self, job: JobId) {
        self.drafts.lock().remove(&job);
    }

    /// Plans a job's draft for a cluster of this shape and encodes the stages.
    pub(crate) async fn plan(&self, job: JobId, cluster: ClusterShape) -> Result<PlannedJob, Failure> {
        let draft = self.drafts.lock().remove(&job);
        let Some(Draft { state, work, limit }) = draft else {
            return Err(Failure::internal("there is nothing to plan for it"));
        };
        let settings = Arc::clone(&self.settings);
        self.run(limit, async move || {
            let settings = settings.of(&state);
            let (graph, plan) = match work {
                Work::Query(plan) => (volley_sql::planner::plan_job(&state, &plan, cluster).await, plan),
                Work::Write(input, spec) => (volley_sql::planner::plan_write(&state, &input, *spec, cluster).await, input),
            };
            match graph {
                Ok(graph) => {
                    let adapting = Limits::new(&VolleyOptions::of(state.config_options()), cluster);
                    PlannedJob::encode(graph, settings, &Extensions::of_session(&state), adapting)
                }
                Err(error) => Err(named(&state, &plan, error).await),
            }
        })
        .await?
        .map_err(|error| volley_sql::diagnostics::failure_of(&error))
    }

    /// Runs something that parses or plans on a thread with a large stack; its I/O stays on the calling runtime.
    pub(crate) async fn run<T, F>(&self, limit: Duration, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: AsyncFnOnce() -> T + Send + 'static,
    {
        let Some(threads) = &self.threads else {
            return Err(Failure::cancelled("the scheduler shuts down"));
        };
        let raise =
            if limit <= self.longest { "raise volley.planning_timeout_ms" } else { "start the scheduler with a longer --planning-timeout" };
        let limit = limit.min(self.longest);
        let started = Instant::now();
        let place = Place { permit: Arc::new(Mutex::new(self.permit(limit).await?)), overdue: Arc::clone(&self.overdue) };
        let left = limit.saturating_sub(started.elapsed());
        let (io, held) = (Handle::current(), Arc::clone(&place.permit));
        let running = threads.spawn_blocking(move || {
            let _held = held;
            deadline::plan_until(started + limit, || io.block_on(async move { tokio::time::timeout(left, work()).await.ok() })).flatten()
        });
        let too_long = || Failure::query(format!("planning took longer than {limit:?}: simplify the statement, or {raise}"));
        // The limit is kept twice: inside for work that waits, out here for work that never does.
        match tokio::time::timeout(left + Duration::from_millis(50), running).await {
            Ok(Ok(Some(result))) => Ok(result),
            Ok(Ok(None)) | Err(_) => Err(too_long()),
            Ok(Err(error)) => Err(panicked(error)),
        }
    }

    async fn permit(&self, limit: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        match tokio::time::timeout(limit, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Failure::cancelled("the scheduler shuts down")),
            Err(_) => Err(Failure::resources(format!(
                "too many statements are being planned, and none of them was done within {limit:?}: send the statement again later"
            ))),
        }
    }
}

impl Drop for Planning {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // A runtime must not be dropped where async code runs, and a planning that does not end must not hold a shutdown.
            threads.shutdown_background();
        }
    }
}

/// The place that a planning takes among those that run, as whoever waits for it sees it: dropped before the planning has ended, it is
/// given to another, and the thread goes on beside them.
struct Place {
    /// Held by the thread as well, until it is done.
    permit: Arc<Mutex<OwnedSemaphorePermit>>,
    overdue: Arc<Semaphore>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if Arc::strong_count(&self.permit) > 1
            && let Ok(overdue) = Arc::clone(&self.overdue).try_acquire_owned()
        {
            *self.permit.lock() = overdue;
        }
    }
}

/// How long it is looked for which file an error is about.
const NAMING: Duration = Duration::from_secs(5);

/// An error of planning, with the file that it is about where that is found soon.
pub(crate) async fn named(state: &SessionState, plan: &LogicalPlan, error: DataFusionError) -> DataFusionError {
    let error = Arc::new(error);
    let naming = name_bad_file(state, plan, DataFusionError::Shared(Arc::clone(&error)));
    match tokio::time::timeout(NAMING, naming).await {
        Ok(named) => named,
        Err(_) => DataFusionError::Shared(error),
    }
}

fn panicked(error: tokio::task::JoinError) -> Failure {
    let Ok(panic) = error.try_into_panic() else {
        return Failure::cancelled("the scheduler shuts down");
    };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::internal(format!("planning panicked: {}", text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Plans something that computes without end, as far as anybody can see, until `end` is dropped.
    async fn overrun(planning: &Planning, end: &Arc<Mutex<std::sync::mpsc::Receiver<()>>>) {
        let end = Arc::clone(end);
        let busy = planning.run(Duration::from_millis(1), async move || end.lock().recv().is_ok());
        let failure = busy.await.unwrap_err();
        assert!(failure.message.starts_with("planning took longer than 1ms"), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_takes_too_long_keeps_nobody_waiting() {
        let planning = Planning::with_places(Duration::from_secs(60), 2, 3).unwrap();
        let (end, ended) = std::sync::mpsc::channel();
        let ended = Arc::new(Mutex::new(ended));
        for _ in 0..3 {
            overrun(&planning, &ended).await;
        }
        assert_eq!(planning.run(Duration::from_secs(60), async || 7).await, Ok(7));
        drop(end);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_for_a_place_in_vain_never_starts() {
        let planning = Planning::with_places(Duration::from_secs(60), 2, 3).unwrap();
        let (end, ended) = std::sync::mpsc::channel();
        let ended = Arc::new(Mutex::new(ended));
        for _ in 0..5 {
            overrun(&planning, &ended).await;
        }
        let started = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&started);
        let failure = planning.run(Duration::from_millis(20), async move || late.store(true, Ordering::SeqCst)).await.unwrap_err();
        assert!(failure.message.contains("none of them was done within 20ms"), "{failure}");
        drop(end);
        assert_eq!(planning.run(Duration::from_secs(60), async || 7).await, Ok(7));
        assert!(!started.load(Ordering::SeqCst));
    }
}
