//! One attempt, from its plan's bytes to its sealed output.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, TryStreamExt};
use tokio::time::{Instant as TimerInstant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use volley_proto::{AttemptId, Failure, InlineFrame, PartitionStats, Remedy, StagePlan, TaskMetrics, TaskOutcome, TaskSpec};
use volley_sql::codec::{PlanCodec, TaskBindings, check_files};
use volley_sql::exchange::{ExchangeWriteExec, TaskIo};
use volley_sql::leaf::scanned_files;

use super::failure::{failure_of, is_full_disk};
use super::metrics::operator_metrics;
use super::runner::Shared;
use super::sessions::with_io;
use super::source::Cooperative;
use crate::compute::{TaskScope, panic_message};

/// How often a long task says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Files that an error names at most.
const NAMED_FILES: usize = 10;

/// What an attempt needs to run.
pub(super) struct Attempt {
    pub(super) spec: TaskSpec,
    pub(super) plan: Arc<StagePlan>,
    pub(super) scope: Arc<TaskScope>,
    pub(super) cancel: CancellationToken,
}

/// Runs an attempt to its end, which it returns once nothing of the attempt is left. Waits only; computing is on the pool.
pub(super) async fn supervise(shared: &Arc<Shared>, attempt: Attempt) -> TaskOutcome {
    let started = Instant::now();
    let Attempt { spec, plan, scope, cancel } = attempt;
    let id = spec.attempt;
    let files = Arc::new(OnceLock::new());
    let root = shared.pool.spawn(&scope, run(Arc::clone(shared), spec, plan, Arc::clone(&scope), Arc::clone(&files)));
    let ended = {
        let mut root = AssertUnwindSafe(root).catch_unwind();
        let mut progress = interval_at(TimerInstant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ended = &mut root => break Some(ended),
                // Leaving the block drops the root, which cancels it and everything below it.
                () = cancel.cancelled() => break None,
                _ = progress.tick() => shared.report(id, TaskOutcome::Running { rows: shared.exchange.rows_written(id) }),
            }
        }
    };
    scope.idle().await;
    // Also one that was sealed in the same moment: nobody would free it.
    let ended = ended.filter(|_| !cancel.is_cancelled());
    let outcome = match ended {
        None => Err(Failure::cancelled(format!("{id} was cancelled"))),
        Some(Err(panic)) => {
            let reading = reading(files.get().map_or(&[], Vec::as_slice));
            Err(Failure::internal(format!("{id} panicked: {}{reading}", panic_message(&*panic))))
        }
        Some(Ok(result)) => result,
    };
    match outcome {
        Ok(Sealed { outputs, mut metrics, inline }) => {
            metrics.cpu_ns = nanoseconds(scope.cpu_time());
            metrics.longest_poll_ns = nanoseconds(scope.longest_poll());
            metrics.elapsed_ns = nanoseconds(started.elapsed());
            TaskOutcome::Sealed { outputs, metrics, inline }
        }
        Err(failure) => {
            shared.exchange.discard(id, failure.clone());
            if failure.remedy == Remedy::Cancelled { TaskOutcome::Cancelled } else { TaskOutcome::Failed(failure) }
        }
    }
}

/// What an attempt that succeeded leaves.
struct Sealed {
    outputs: Vec<PartitionStats>,
    metrics: Box<TaskMetrics>,
    inline: Option<Vec<InlineFrame>>,
}

/// The attempt's root future, on the pool.
async fn run(
    shared: Arc<Shared>,
    spec: TaskSpec,
    stage: Arc<StagePlan>,
    scope: Arc<TaskScope>,
    files: Arc<OnceLock<Vec<String>>>,
) -> Result<Sealed, Failure> {
    let id = spec.attempt;
    let context = shared.sessions.context(id, &stage.settings).map_err(|error| failure_of(&error))?;
    let plan = decode(&stage, &spec, &context).map_err(|error| in_attempt(id, "its plan can't be decoded", &error))?;
    let files = files.get_or_init(|| scanned_files(&plan));
    let summary = plan.downcast_ref::<ExchangeWriteExec>().and_then(ExchangeWriteExec::summary_schema);
    let sink = shared.exchange.telling_sink(id, stage.output_partitions, &plan.schema(), summary)?;
    let (source, counters) = shared.exchange.source(id, &spec.inputs);
    let context = with_io(context, TaskIo { source: Arc::new(Cooperative(source)), sink });

    check_files(&plan, &context).await.map_err(|error| failure_of(&error))?;
    let partitions = run_partitions(&shared, &scope, &plan, &context);
    let ran = if stage.root { announced(&shared, id, partitions).await } else { partitions.await };
    // A file that changed meanwhile explains an error better than what it did to a reader, and spoils an answer without one.
    check_files(&plan, &context).await.map_err(|error| failure_of(&error))?;
    ran.map_err(|error| in_place(&error, files, &context))?;

    let outputs = shared.exchange.seal(id)?;
    let metrics = TaskMetrics {
        exchange_local_bytes: counters.local_bytes(),
        exchange_flight_bytes: counters.flight_bytes(),
        spilled_bytes: shared.exchange.spilled_bytes(id),
        operators: operator_metrics(&plan),
        ..TaskMetrics::default()
    };
    let inline = if stage.root { shared.exchange.inline_rows(id, &outputs).await? } else { None };
    Ok(Sealed { outputs, metrics: Box::new(metrics), inline })
}

/// Runs a root task, and says so as soon as its rows are too many for its report: whoever shows them early fetches them from here.
async fn announced<T>(shared: &Shared, id: AttemptId, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = shared.exchange.outgrown(id) => {}
    }
    shared.report(id, TaskOutcome::Running { rows: shared.exchange.rows_written(id) });
    work.await
}

fn decode(stage: &StagePlan, spec: &TaskSpec, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    PlanCodec::decode_task(&stage.plan, TaskBindings::from_bytes(&spec.bindings)?, context)
}

/// Drains every partition of the plan, all admitted at once: joins and sorts wait for one another across partitions, so that
/// a partition held back may be the one that all others wait for. The first error stops the rest.
async fn run_partitions(
    shared: &Shared,
    scope: &Arc<TaskScope>,
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<(), DataFusionError> {
    let partitions = plan.output_partitioning().partition_count();
    let tasks: FuturesUnordered<_> =
        (0..partitions).map(|partition| shared.pool.spawn(scope, drain(Arc::clone(plan), partition, Arc::clone(context)))).collect();
    tasks.try_collect().await
}

/// Runs one partition to its end. The root of a stage's plan writes to its exchange and yields no row.
async fn drain(plan: Arc<dyn ExecutionPlan>, partition: usize, context: Arc<TaskContext>) -> Result<(), DataFusionError> {
    let mut stream = plan.execute(partition, context)?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    Ok(())
}

/// The failure that an error is, with the place that it does not name itself.
fn in_place(error: &DataFusionError, files: &[String], context: &TaskContext) -> Failure {
    let failure = failure_of(error);
    let place = if is_parquet(error.find_root()) {
        reading(files)
    } else if is_full_disk(error) {
        let folders = context.runtime_env().disk_manager.temp_dir_paths();
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("; operators spill to {}", folders.join(", "))
    } else {
        String::new()
    };
    Failure { message: format!("{}{place}", failure.message), ..failure }
}

fn is_parquet(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::ParquetError(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(error.as_ref(), ArrowError::ParquetError(_)),
        _ => false,
    }
}

/// Some files that a task was reading when something went wrong with one of them.
fn reading(files: &[String]) -> String {
    match files {
        [] => String::new(),
        [file] => format!("; it was reading {file}"),
        files if files.len() <= NAMED_FILES => format!("; it was reading one of {}", files.join(", ")),
        files => format!("; it was reading one of {} files: {}, ...", files.len(), files[..NAMED_FILES].join(", ")),
    }
}

fn in_attempt(id: AttemptId, what: &str, error: &DataFusionError) -> Failure {
    let failure = failure_of(error);
    Failure { message: format!("{id}: {what}: {}", failure.message), ..failure }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
