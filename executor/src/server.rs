//! Puts an executor together, and takes it apart again.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use volley_proto::{ExecutorId, Failure, Incarnation};
use volley_sql::extension::Extensions;

use crate::compute::{CpuPool, IoRuntime, install_tracer};
use crate::config::Config;
use crate::control::{Control, ControlParts, Outbox};
use crate::error::StartError;
use crate::exchange::{ComputeSpawner, Exchange, ExchangeConfig, ExchangeHooks};
use crate::memory::{MemoryBudget, Reclaim, RuntimeOptions, runtime_env};
use crate::net;
use crate::task::{RunnerParts, TaskRunner};
use crate::work_dir::WorkDir;

/// Bytes that operators may spill: what the disk holds. A full disk is an error of its own.
const SPILL_LIMIT: u64 = u64::MAX / 2;

/// What an executor works with and does not make itself.
#[derive(Debug, Clone, Default)]
pub struct Components {
    /// A program's own functions, tables and operators: the same as the scheduler's.
    pub extensions: Extensions,
}

/// Starts executors.
#[derive(Debug)]
pub struct Executor;

impl Executor {
    /// Starts an executor: it listens when this returns; it registers with the scheduler in the background and goes on
    /// dialling until one answers. Must be called in a tokio runtime; computing and I/O happen on threads of its own.
    pub async fn start(config: Config, components: Components) -> Result<ExecutorHandle, StartError> {
        let incarnation = Incarnation(rand::random());
        let io = IoRuntime::new(config.slots).map_err(|error| threads("threads for I/O", error))?;
        let handle = io.handle();
        let listen = config.listen;
        let listener = handle.spawn(TcpListener::bind(listen)).await.map_err(|error| threads("the listener", error))?;
        let listener = listener.map_err(|source| StartError::Listen { address: listen, source })?;
        let address = advertised(&config, &listener)?;
        let root = config.work_dir.clone();
        let claimed = handle.spawn_blocking(move || WorkDir::claim(&root, incarnation)).await;
        let work_dir = claimed.map_err(|error| threads("the sweep of the work directory", error))??;
        let life = Life { executor: config.id.clone().unwrap_or_else(|| ExecutorId::new(address.as_str())), incarnation, address };
        let parts = Parts::new(&config, &life, &work_dir, &handle, components.extensions)?;
        Ok(ExecutorHandle::run(config, life, parts, listener, work_dir, io))
    }
}

/// Which executor this is.
#[derive(Debug, Clone)]
struct Life {
    executor: ExecutorId,
    incarnation: Incarnation,
    address: String,
}

/// What computes and stores.
struct Parts {
    budget: Arc<MemoryBudget>,
    exchange: Arc<Exchange>,
    runner: TaskRunner,
    outbox: Arc<Outbox>,
}

impl Parts {
    fn new(config: &Config, life: &Life, work_dir: &WorkDir, io: &Handle, extensions: Extensions) -> Result<Self, StartError> {
        // Where another tracer was first, tasks still run, though what they spawn stays off the compute threads: it logged that.
        let _ = install_tracer();
        let pool = CpuPool::new(config.slots, io.clone())?;
        let budget = MemoryBudget::new(config.memory_bytes);
        let outbox = Arc::new(Outbox::default());
        let hooks = ExchangeHooks {
            memory: Arc::clone(&budget) as _,
            compute: Arc::new(Encoders(pool.clone())),
            io: io.clone(),
            readers: Some(Arc::clone(&outbox) as _),
        };
        let settings = ExchangeConfig::new(life.executor.clone(), life.incarnation, work_dir.exchange(), config.memory_bytes);
        let exchange = Exchange::new(settings, hooks).map_err(|failure: Failure| setup("the partition store", failure))?;
        let reclaim: Arc<dyn Reclaim> = Arc::clone(&exchange) as _;
        budget.set_reclaim(Arc::downgrade(&reclaim));
        let options = RuntimeOptions { spill_dir: work_dir.spill(), spill_limit: SPILL_LIMIT, memory: config.memory_bytes };
        let runtime = runtime_env(&options).map_err(|error| setup("the runtime environment", error))?;
        let runner = TaskRunner::new(RunnerParts {
            executor: life.executor.clone(),
            incarnation: life.incarnation,
            pool,
            io: io.clone(),
            exchange: Arc::clone(&exchange),
            budget: Arc::clone(&budget),
            runtime,
            extensions,
            reports: Arc::clone(&outbox) as _,
        });
        Ok(Self { budget, exchange, runner, outbox })
    }
}

/// Encoding of what is spilled, on the compute threads.
#[derive(Debug)]
struct Encoders(CpuPool);

impl ComputeSpawner for Encoders {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        self.0.spawn_detached(work);
    }
}

/// A running executor. Dropping it kills it.
#[derive(Debug)]
pub struct ExecutorHandle {
    life: Life,
    slots: NonZeroUsize,
    leave: CancellationToken,
    runner: TaskRunner,
    /// Ends when the executor does; gone once that was told.
    ended: Option<JoinHandle<Result<(), StartError>>>,
    // In the order in which they go: the threads that serve the files, then the files.
    _io: IoRuntime,
    _work_dir: WorkDir,
}

impl ExecutorHandle {
    fn run(config: Config, life: Life, parts: Parts, listener: TcpListener, work_dir: WorkDir, io: IoRuntime) -> Self {
        let Parts { budget, exchange, runner, outbox } = parts;
        let leave = CancellationToken::new();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = net::server().add_service(exchange.flight_service()).serve_with_incoming(incoming);
        let control = Control::new(ControlParts {
            executor: life.executor.clone(),
            incarnation: life.incarnation,
            address: life.address.clone(),
            slots: u32::try_from(config.slots.get()).unwrap_or(u32::MAX),
            schedulers: config.schedulers,
            runner: runner.clone(),
            exchange,
            budget,
            outbox,
            orphan_grace: config.orphan_grace,
            drain_grace: config.drain_grace,
            leave: leave.clone(),
        });
        let ended = io.handle().spawn(async move {
            tokio::select! {
                left = control.run() => left,
                served = serving => Err(stopped(served)),
            }
        });
        Self { life, slots: config.slots, leave, runner, ended: Some(ended), _io: io, _work_dir: work_dir }
    }

    /// The executor's name.
    pub fn id(&self) -> &ExecutorId {
        &self.life.executor
    }

    /// Which life of it this is.
    pub fn incarnation(&self) -> Incarnation {
        self.life.incarnation
    }

    /// `host:port` at which other executors reach it.
    pub fn address(&self) -> &str {
        &self.life.address
    }

    /// Its compute threads.
    pub fn slots(&self) -> NonZeroUsize {
        self.slots
    }

    /// Leaves without loss: takes no new task, finishes running ones, serves what is still wanted, then leaves.
    pub async fn shutdown(mut self) -> Result<(), StartError> {
        self.leave.cancel();
        let ended = self.join().await;
        self.runner.forget_all();
        self.runner.idle().await;
        ended
    }

    /// Drops everything at once, as a killed process would: no farewell, running tasks and outputs are gone.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits until the executor ends by itself: `Ok` after it was told to leave, an error when the scheduler refuses it.
    pub async fn join(&mut self) -> Result<(), StartError> {
        let Some(ended) = self.ended.as_mut() else { return Ok(()) };
        let ended = ended.await;
        self.ended = None;
        ended.unwrap_or_else(|error| Err(threads("the control stream", error)))
    }
}

impl Drop for ExecutorHandle {
    fn drop(&mut self) {
        self.runner.cancel_all();
    }
}

fn advertised(config: &Config, listener: &TcpListener) -> Result<String, StartError> {
    match &config.advertise {
        Some(address) => Ok(address.clone()),
        None => Ok(listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?.to_string()),
    }
}

fn threads(what: &'static str, error: impl fmt::Display) -> StartError {
    StartError::Threads { what, message: error.to_string() }
}

fn setup(what: &'static str, error: impl fmt::Display) -> StartError {
    StartError::Setup { what, message: error.to_string() }
}

fn stopped(served: Result<(), tonic::transport::Error>) -> StartError {
    setup("the Flight server", served.err().map_or_else(|| "it stopped listening".to_owned(), |error| error.to_string()))
}
