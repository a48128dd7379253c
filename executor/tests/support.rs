//! A task runner with all its parts but no scheduler: a test plans, launches and reads.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;
use volley_executor::compute::{CpuPool, IoRuntime, install_tracer};
use volley_executor::exchange::{Exchange, ExchangeConfig, ExchangeHooks, TokioSpawner};
use volley_executor::memory::{MemoryBudget, Reclaim, RuntimeOptions, runtime_env};
use volley_executor::task::{Reports, RunnerParts, TaskRunner};
use volley_proto::{
    AttemptId, AttemptLocation, ExecutorId, Failure, Incarnation, InputLocations, JobId, PartitionId, StageId, StagePlan, TaskId,
    TaskMetrics, TaskOutcome, TaskReport, TaskSpec, Term, TraceContext,
};
use volley_sql::codec::PlanCodec;
use volley_sql::extension::Extensions;
use volley_sql::graph::{ClusterShape, Stage, StageGraph};
use volley_sql::planner::plan_job;
use volley_sql::session::{SessionBuilder, settings_diff};

/// Options with which even a few rows become several stages, tasks and partitions.
pub(crate) const CUT: &[(&str, &str)] =
    &[("volley.fit", "never"), ("volley.min_bytes_per_partition", "1"), ("datafusion.execution.target_partitions", "4")];

/// Everything of an executor below its control stream.
pub(crate) struct Runner {
    pub(crate) runner: TaskRunner,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) dir: TempDir,
    pub(crate) io: IoRuntime,
    pub(crate) runtime: Arc<RuntimeEnv>,
    executor: ExecutorId,
    incarnation: Incarnation,
    reports: Mutex<mpsc::UnboundedReceiver<TaskReport>>,
}

#[derive(Debug)]
struct Channel(mpsc::UnboundedSender<TaskReport>);

impl Reports for Channel {
    fn report(&self, report: TaskReport) {
        // A test that has what it wanted no longer listens.
        let _ = self.0.send(report);
    }
}

impl Runner {
    pub(crate) fn new(slots: usize, memory: usize) -> Self {
        install_tracer();
        let slots = NonZeroUsize::new(slots).unwrap();
        let (executor, incarnation) = (ExecutorId::new("e1"), Incarnation(rand::random()));
        let dir = tempfile::tempdir().unwrap();
        let io = IoRuntime::new(slots).unwrap();
        let pool = CpuPool::new(slots, io.handle()).unwrap();
        let budget = MemoryBudget::new(memory);
        let (exchange_dir, spill_dir) = (dir.path().join("exchange"), dir.path().join("spill"));
        std::fs::create_dir_all(&exchange_dir).unwrap();
        std::fs::create_dir_all(&spill_dir).unwrap();
        let hooks = ExchangeHooks {
            memory: Arc::clone(&budget) as _,
            compute: Arc::new(TokioSpawner(io.handle())),
            io: io.handle(),
            readers: None,
        };
        let exchange = Exchange::new(ExchangeConfig::new(executor.clone(), incarnation, exchange_dir, memory), hooks).unwrap();
        let reclaim: Arc<dyn Reclaim> = Arc::clone(&exchange) as _;
        budget.set_reclaim(Arc::downgrade(&reclaim));
        let (sender, reports) = mpsc::unbounded_channel();
        let runtime = runtime_env(&RuntimeOptions { spill_dir, spill_limit: 1 << 30, memory }).unwrap();
        let runner = TaskRunner::new(RunnerParts {
            executor: executor.clone(),
            incarnation,
            pool,
            io: io.handle(),
            exchange: Arc::clone(&exchange),
            budget: Arc::clone(&budget),
            runtime: Arc::clone(&runtime),
            extensions: Extensions::default(),
            reports: Arc::new(Channel(sender)),
        });
        Self { runner, exchange, budget, dir, io, runtime, executor, incarnation, reports: Mutex::new(reports) }
    }

    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.io
            .handle()
            .block_on(async { tokio::time::timeout(Duration::from_secs(120), future).await.expect("a test waits for two minutes") })
    }

    /// Waits until all memory is given back: a round of chunks that is being written behind ends a little after its job.
    pub(crate) fn freed(&self) {
        self.wait(async {
            while self.budget.used() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// The next report.
    pub(crate) fn report(&self) -> TaskReport {
        let mut reports = self.reports.lock();
        self.wait(async { reports.recv().await.expect("the runner reports") })
    }

    /// The next report that is not of progress.
    pub(crate) fn end(&self) -> TaskReport {
        let mut reports = self.reports.lock();
        self.wait(async {
            loop {
                let report = reports.recv().await.expect("the runner reports");
                if !matches!(report.outcome, TaskOutcome::Running { .. }) {
                    return report;
                }
            }
        })
    }

    /// The next end of a task of `job`: tasks of a job that failed before may still be ending.
    pub(crate) fn end_of(&self, job: JobId) -> TaskReport {
        loop {
            let report = self.end();
            if report.attempt.task.job == job {
                return report;
            }
        }
    }

    /// Plans `sql` over the Parquet files of `tables` for two executors of one slot.
    pub(crate) fn plan(&self, sql: &str, options: &[(&str, &str)], tables: &[(&str, &Path)]) -> (SessionState, StageGraph) {
        self.wait(async {
            let context = session(options, tables).await;
            let state = context.state();
            let plan = state.create_logical_plan(sql).await.unwrap();
            let cluster = ClusterShape { executors: 2, slots: 2, largest_slots: 1, memory_bytes: self.budget.total() as u64 };
            let graph = plan_job(&state, &plan, cluster).await.unwrap();
            (state, graph)
        })
    }

    /// Hands over the plan of a stage.
    pub(crate) fn keep(&self, job: JobId, state: &SessionState, stage: &Stage, root: bool) {
        self.runner.keep_plan(StagePlan {
            job,
            stage: stage.shape.id,
            version: 0,
            plan: PlanCodec::encode_stage(stage, &Extensions::default()).unwrap(),
            settings: settings_diff(state),
            output_partitions: stage.shape.output_partitions,
            depth: u32::from(!root),
            root,
            weight: 1,
            stores: vec![],
        });
    }

    /// A first attempt at a task whose inputs all are here.
    pub(crate) fn spec(&self, job: JobId, graph: &StageGraph, stage: &Stage, index: u32) -> TaskSpec {
        let producers = stage.shape.inputs.iter().map(|input| &graph.stages[input.producer.0 as usize]);
        let inputs = producers.map(|producer| self.locations(producer.shape.id, producer.tasks.len() as u32, 0)).collect();
        TaskSpec {
            attempt: TaskId::new(job, stage.shape.id, index).attempt(0),
            term: Term(1),
            incarnation: self.incarnation,
            plan_version: 0,
            bindings: stage.tasks[index as usize].to_bytes(),
            inputs,
            slots: 1,
            trace: TraceContext::default(),
        }
    }

    /// Runs a stage graph, stage by stage. The first failure ends it.
    pub(crate) fn run(&self, job: JobId, state: &SessionState, graph: &StageGraph) -> Result<HashMap<AttemptId, TaskMetrics>, Failure> {
        let mut metrics = HashMap::new();
        for stage in &graph.stages {
            self.keep(job, state, stage, stage.shape.id == graph.root());
            for index in 0..stage.tasks.len() {
                self.runner.launch(self.spec(job, graph, stage, index as u32))?;
            }
            for _ in 0..stage.tasks.len() {
                let report = self.end_of(job);
                match report.outcome {
                    TaskOutcome::Sealed { metrics: measured, .. } => metrics.insert(report.attempt, *measured),
                    TaskOutcome::Failed(failure) => return Err(failure),
                    other => panic!("{} ended as {other:?}", report.attempt),
                };
            }
        }
        Ok(metrics)
    }

    /// Plans and runs a query: its rows as text, sorted.
    pub(crate) fn query(&self, job: JobId, sql: &str, options: &[(&str, &str)], tables: &[(&str, &Path)]) -> Result<Vec<String>, Failure> {
        let (state, graph) = self.plan(sql, options, tables);
        self.run(job, &state, &graph)?;
        Ok(self.result(job, &graph, 0))
    }

    /// The rows that attempt `attempt` at each of the root's tasks sealed, as text, sorted.
    pub(crate) fn result(&self, job: JobId, graph: &StageGraph, attempt: u32) -> Vec<String> {
        let root = graph.stages.last().unwrap();
        let inputs = [self.locations(root.shape.id, root.tasks.len() as u32, attempt)];
        let reader = TaskId::new(job, StageId(root.shape.id.0 + 1), 0).attempt(0);
        let (source, _) = self.exchange.source(reader, &inputs);
        let partitions: Vec<_> = (0..root.shape.output_partitions).map(PartitionId).collect();
        let batches = self.wait(async { source.read(0, &partitions, Arc::clone(&graph.schema)).unwrap().try_collect::<Vec<_>>().await });
        rows(&batches.unwrap())
    }

    fn locations(&self, producer: StageId, tasks: u32, attempt: u32) -> InputLocations {
        let (executor, incarnation) = (&self.executor, self.incarnation);
        let address: Arc<str> = "127.0.0.1:1".into();
        let location = |task| AttemptLocation { task, attempt, executor: executor.clone(), incarnation, address: Arc::clone(&address) };
        InputLocations { producer, attempts: (0..tasks).map(location).collect() }
    }
}

/// A session with these options and tables.
pub(crate) async fn session(options: &[(&str, &str)], tables: &[(&str, &Path)]) -> SessionContext {
    let settings: Vec<_> = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let context = SessionBuilder::new().settings(&settings).build().unwrap();
    for (name, path) in tables {
        context.register_parquet(*name, path.to_str().unwrap(), Default::default()).await.unwrap();
    }
    context
}

/// The rows as text, sorted, without the header.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let table = pretty_format_batches(batches).unwrap().to_string();
    let mut rows: Vec<_> = table.lines().filter(|line| line.starts_with('|')).skip(1).map(str::to_owned).collect();
    rows.sort();
    rows
}

/// Writes a table of `rows` rows (key, grp, text) in `files` Parquet files below `dir`.
pub(crate) fn write_table(io: &IoRuntime, dir: &Path, name: &str, files: usize, rows: usize) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).unwrap();
    io.handle().block_on(async {
        let context = SessionContext::new();
        let each = rows / files;
        for file in 0..files {
            let (first, last) = (file * each, (file + 1) * each - 1);
            let sql =
                format!("SELECT value AS key, value % 97 AS grp, concat('text ', value) AS text FROM generate_series({first}, {last})");
            let target = path.join(format!("{file}.parquet"));
            let frame = context.sql(&sql).await.unwrap();
            frame.write_parquet(target.to_str().unwrap(), Default::default(), None).await.unwrap();
        }
    });
    path
}
