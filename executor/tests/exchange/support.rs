//! Executors' exchanges in one process, with counted memory and real sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use volley_executor::exchange::{Exchange, ExchangeConfig, ExchangeHooks, ReadCounters, StoreMemory, TokioSpawner};
use volley_executor::net;
use volley_proto::{
    AttemptId, AttemptLocation, ExecutorId, Failure, Incarnation, InputLocations, JobId, PartitionId, StageId, TaskId, Term, TicketKey,
};

pub(crate) const JOB: JobId = JobId(7);
pub(crate) const STAGE: StageId = StageId(2);

/// A job's memory that counts, and refuses above a limit.
#[derive(Debug)]
pub(crate) struct CountedMemory {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl CountedMemory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

impl StoreMemory for CountedMemory {
    fn try_take(&self, bytes: usize) -> bool {
        let fits = self.used() + bytes <= self.limit;
        if fits {
            self.take(bytes);
        }
        fits
    }

    fn take(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.peak.fetch_max(used, Ordering::SeqCst);
    }

    fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::SeqCst);
        assert!(before >= bytes, "{bytes} bytes given back of {before}");
    }
}

/// One executor as far as its exchange goes.
pub(crate) struct Node {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) memory: Arc<CountedMemory>,
    pub(crate) address: Arc<str>,
    pub(crate) executor: ExecutorId,
    pub(crate) incarnation: Incarnation,
    pub(crate) dir: TempDir,
    /// A runtime of its own, so that its connections break when it is stopped.
    server: Option<Runtime>,
}

impl Node {
    /// An executor with a server; `change` alters its configuration.
    pub(crate) async fn start(change: impl FnOnce(&mut ExchangeConfig)) -> Self {
        Self::start_with(usize::MAX, change).await
    }

    /// As `start`, with a limit of memory for the store.
    pub(crate) async fn start_with(memory_limit: usize, change: impl FnOnce(&mut ExchangeConfig)) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (executor, incarnation) = (ExecutorId::new(format!("e{number}")), Incarnation(number * 10));
        let dir = tempfile::tempdir().unwrap();
        let mut config = ExchangeConfig::new(executor.clone(), incarnation, dir.path().to_owned(), 4 << 30);
        config.subscribe_timeout = Duration::from_secs(5);
        change(&mut config);
        let memory = CountedMemory::new(memory_limit);
        let io = Handle::current();
        let hooks = ExchangeHooks { memory: memory.clone(), compute: Arc::new(TokioSpawner(io.clone())), io, readers: None };
        let exchange = Exchange::new(config, hooks).unwrap();
        exchange.set_access(Term(3), key());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().into();
        let serve = net::server().add_service(exchange.flight_service());
        let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            serve.serve_with_incoming(incoming).await.unwrap();
        });
        Self { exchange, memory, address, executor, incarnation, dir, server: Some(server) }
    }

    /// Stops the server and breaks its connections, as the death of the process would.
    pub(crate) fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }

    /// Where `attempt` is, if this node holds it.
    pub(crate) fn location(&self, attempt: AttemptId) -> AttemptLocation {
        AttemptLocation {
            task: attempt.task.index,
            attempt: attempt.number,
            executor: self.executor.clone(),
            incarnation: self.incarnation,
            address: Arc::clone(&self.address),
        }
    }

    /// Writes `batches` as the output of `attempt`, each to the partition named with it, and seals it.
    pub(crate) fn produce(&self, attempt: AttemptId, partitions: u32, schema: SchemaRef, batches: &[(u32, RecordBatch)]) -> u64 {
        let sink = self.exchange.sink(attempt, partitions, schema).unwrap();
        for (partition, batch) in batches {
            sink.write(PartitionId(*partition), batch.clone()).unwrap();
        }
        self.exchange.seal(attempt).unwrap().iter().map(|stats| stats.rows).sum()
    }

    /// Reads partitions of the given attempts as a consumer on this node.
    pub(crate) async fn read(
        &self,
        from: Vec<AttemptLocation>,
        partitions: &[u32],
        schema: SchemaRef,
    ) -> Result<Vec<RecordBatch>, Failure> {
        self.read_counted(from, partitions, schema).await.0
    }

    /// As `read`, with what was counted.
    pub(crate) async fn read_counted(
        &self,
        from: Vec<AttemptLocation>,
        partitions: &[u32],
        schema: SchemaRef,
    ) -> (Result<Vec<RecordBatch>, Failure>, Arc<ReadCounters>) {
        let (source, counters) = self.exchange.source(consumer(), &[inputs(from)]);
        let partitions: Vec<_> = partitions.iter().copied().map(PartitionId).collect();
        let stream = source.read(0, &partitions, schema).unwrap();
        let batches = tokio::time::timeout(Duration::from_secs(60), stream.try_collect()).await.expect("the stream ends in time");
        (batches.map_err(failure), counters)
    }

    /// Files below the work directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(self.dir.path())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop_server();
    }
}

pub(crate) fn key() -> TicketKey {
    TicketKey::from_bytes([7; 32])
}

pub(crate) fn producer(index: u32) -> AttemptId {
    TaskId::new(JOB, STAGE, index).attempt(0)
}

pub(crate) fn consumer() -> AttemptId {
    TaskId::new(JOB, StageId(3), 1).attempt(0)
}

pub(crate) fn inputs(attempts: Vec<AttemptLocation>) -> InputLocations {
    InputLocations { producer: STAGE, attempts: attempts.into() }
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The failure inside a task's error.
pub(crate) fn failure(error: DataFusionError) -> Failure {
    match error {
        DataFusionError::External(error) => *error.downcast::<Failure>().expect("the cause is a failure"),
        other => panic!("an error without a failure: {other}"),
    }
}

/// Rows `start..start + rows`: a number, and a string that says it.
pub(crate) fn numbers(start: i64, rows: i64) -> RecordBatch {
    let numbers: Int64Array = (start..start + rows).collect();
    let words: StringViewArray = (start..start + rows).map(|n| Some(format!("this is number {n}"))).collect();
    RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("w", Arc::new(words) as _)]).unwrap()
}

/// The numbers in batches made by [`numbers`], whose strings are checked.
pub(crate) fn values(batches: &[RecordBatch]) -> Vec<i64> {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::Int64Type;
    let mut values = Vec::new();
    for batch in batches {
        let numbers = batch.column(0).as_primitive::<Int64Type>().values();
        let words = batch.column(1).as_string_view();
        for (number, word) in numbers.iter().zip(words) {
            assert_eq!(word, Some(format!("this is number {number}").as_str()));
            values.push(*number);
        }
    }
    values
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{what} within 30 s"));
}
