//! What the exchange asks of the executor around it: memory, compute threads, and a runtime for I/O.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use volley_proto::AttemptId;

/// The memory that chunks are counted in.
///
/// The store holds no lock while it calls this, and `try_take` may call `PartitionStore::reclaim` in turn.
pub trait StoreMemory: fmt::Debug + Send + Sync {
    /// Takes `bytes` if they are there.
    fn try_take(&self, bytes: usize) -> bool;

    /// Takes `bytes` whether they are there or not: for memory that exists already.
    fn take(&self, bytes: usize);

    /// Gives `bytes` back.
    fn give_back(&self, bytes: usize);
}

/// Runs the encoding of what is spilled, which is CPU work that nobody waits for, on the executor's compute threads.
pub trait ComputeSpawner: fmt::Debug + Send + Sync {
    /// Runs `work` to its end; its result travels inside it.
    fn spawn(&self, work: BoxFuture<'static, ()>);
}

/// Told how far clients are that fetch results from here.
pub trait ResultReaders: fmt::Debug + Send + Sync {
    /// All `rows` of `attempt` were sent to a client.
    fn sent(&self, attempt: AttemptId, rows: u64);
}

/// Everything that the exchange needs from the executor.
#[derive(Debug, Clone)]
pub struct ExchangeHooks {
    /// Who is told of results that were sent; `None` where nobody is.
    pub readers: Option<Arc<dyn ResultReaders>>,
    /// Where chunks are counted.
    pub memory: Arc<dyn StoreMemory>,
    /// Where what is spilled is encoded.
    pub compute: Arc<dyn ComputeSpawner>,
    /// Where files and sockets are served: a multi-thread runtime.
    pub io: Handle,
}

impl ExchangeHooks {
    /// Hooks without a memory limit other than the store's own, with all work on the runtime `io`: for tests and benches.
    pub fn plain(io: Handle) -> Self {
        Self { memory: Arc::new(UncountedMemory), compute: Arc::new(TokioSpawner(io.clone())), io, readers: None }
    }
}

/// Memory that nobody counts.
#[derive(Debug, Clone, Copy)]
pub struct UncountedMemory;

impl StoreMemory for UncountedMemory {
    fn try_take(&self, _bytes: usize) -> bool {
        true
    }

    fn take(&self, _bytes: usize) {}

    fn give_back(&self, _bytes: usize) {}
}

/// Compute work as tasks of a tokio runtime.
#[derive(Debug, Clone)]
pub struct TokioSpawner(pub Handle);

impl ComputeSpawner for TokioSpawner {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        // The handle is not needed: the work reports its own end.
        drop(self.0.spawn(work));
    }
}
