//! The pool: one rayon thread a slot, polling futures.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use async_task::{Runnable, ScheduleInfo, WithInfo};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Handle;
use tokio::task::coop;
use volley_proto::JobId;

use super::queue::{Place, ReadyQueue};
use super::scope::{self, JobShare, Live, TaskScope};
use super::slice::{self, Slice};
use crate::error::StartError;

/// Plans are decoded, polled and evaluated recursively, one frame or more for each operator and each level of an expression. It is
/// address space: a page is backed by memory once it is used.
const STACK_BYTES: usize = 64 << 20;
/// Encoding for consumers is waited for by whole stages, so it counts as more than one job.
const SERVICE_WEIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// Compute threads, and the queue of what is ready to run on them. Cheap to clone.
#[derive(Clone)]
pub struct CpuPool {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    slots: NonZeroUsize,
    io: Handle,
    queue: Mutex<ReadyQueue<Ready>>,
    /// Shares by job, as long as a scope of the job lives.
    shares: Mutex<HashMap<JobId, Weak<JobShare>>>,
    /// Jobs that have a scope.
    active: Arc<AtomicUsize>,
    /// For work that no attempt of this executor asked for.
    service: Arc<TaskScope>,
    threads: OnceLock<ThreadPool>,
}

type Ready = Runnable<Arc<TaskScope>>;

impl CpuPool {
    /// A pool of `slots` threads that do I/O on `io`, the handle of a multi-thread runtime that outlives the pool.
    pub fn new(slots: NonZeroUsize, io: Handle) -> Result<Self, StartError> {
        // Counts jobs: the service scope has a count of its own.
        let service = JobShare::new(None, SERVICE_WEIGHT, &Arc::new(AtomicUsize::new(0)));
        let shared = Arc::new(Shared {
            slots,
            io,
            queue: Mutex::new(ReadyQueue::new()),
            shares: Mutex::new(HashMap::new()),
            active: Arc::new(AtomicUsize::new(0)),
            service: TaskScope::new(service, 0),
            threads: OnceLock::new(),
        });
        let failed = |message: String| StartError::Threads { what: "compute threads", message };
        let threads = ThreadPoolBuilder::new()
            .num_threads(slots.get())
            .stack_size(STACK_BYTES)
            .thread_name(|index| format!("volley-cpu-{index}"))
            .panic_handler(|panic| tracing::error!(panic = panic_message(&*panic), "a panic reached a compute thread"))
            .spawn_handler(|thread| start_thread(thread, Arc::downgrade(&shared)))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        shared.threads.set(threads).map_err(|_| failed("started twice".into()))?;
        Ok(Self { shared })
    }

    /// Number of compute threads.
    pub fn slots(&self) -> NonZeroUsize {
        self.shared.slots
    }

    /// A scope for one attempt of `job`: `weight` is the job's share against others, `depth` the distance of the attempt's
    /// stage from the root.
    pub fn scope(&self, job: JobId, weight: NonZeroU32, depth: u32) -> Arc<TaskScope> {
        let mut shares = self.shared.shares.lock();
        shares.retain(|_, share| share.strong_count() > 0);
        let share = match shares.get(&job).and_then(Weak::upgrade) {
            Some(share) => {
                share.set_weight(weight);
                share
            }
            None => {
                let share = JobShare::new(Some(job), weight, &self.shared.active);
                shares.insert(job, Arc::downgrade(&share));
                share
            }
        };
        TaskScope::new(share, depth)
    }

    /// Runs `future` on the pool as part of `scope`, which everything it spawns inherits.
    pub fn spawn<F>(&self, scope: &Arc<TaskScope>, future: F) -> CpuTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.shared.spawn(Arc::clone(scope), future)
    }

    /// Runs `future` to its end, whoever drops what: as part of the scope of the future that calls this, or as a service
    /// of the executor where none does.
    pub fn spawn_detached(&self, future: BoxFuture<'static, ()>) {
        let scope = scope::current_scope().filter(|_| scope::is_pool_thread(&self.shared));
        let scope = scope.unwrap_or_else(|| Arc::clone(&self.shared.service));
        self.shared.spawn(scope, future).0.detach();
    }
}

impl fmt::Debug for CpuPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuPool").field("slots", &self.shared.slots).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn spawn<F>(self: &Arc<Self>, scope: Arc<TaskScope>, future: F) -> CpuTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let live = Live::new(Arc::clone(&scope));
        let polled = Polled { future: Box::pin(future), slice: Slice::default(), io: self.io.clone(), live };
        let pool = Arc::clone(self);
        let schedule = WithInfo(move |ready: Ready, info: ScheduleInfo| {
            // What woke itself gives way. What a compute thread woke finds its data in the cache.
            let fresh = !info.woken_while_running && scope::is_pool_thread(&pool);
            pool.push(ready, if fresh { Place::Front } else { Place::Back });
        });
        let (ready, task) = async_task::Builder::new().propagate_panic(true).metadata(scope).spawn(|_| polled, schedule);
        self.push(ready, Place::Back);
        CpuTask(task)
    }

    fn push(self: &Arc<Self>, ready: Ready, place: Place) {
        let scope = Arc::clone(ready.metadata());
        self.queue.lock().push(&scope.share, scope.depth, place, ready);
        let pool = Arc::clone(self);
        if let Some(threads) = self.threads.get() {
            threads.spawn_fifo(move || pool.run_next());
        }
    }

    /// Runs the best entry. There is one ticket for each entry, though not for that very one.
    fn run_next(&self) {
        let next = self.queue.lock().pop();
        if let Some(ready) = next {
            ready.run();
        }
    }
}

fn start_thread(thread: ThreadBuilder, pool: Weak<Shared>) -> std::io::Result<()> {
    let io = pool.upgrade().map(|pool| pool.io.clone());
    let mut builder = std::thread::Builder::new();
    if let Some(name) = thread.name() {
        builder = builder.name(name.to_owned());
    }
    if let Some(bytes) = thread.stack_size() {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(move || {
        let _entered = io.as_ref().map(Handle::enter);
        scope::join_pool(pool);
        thread.run();
    })?;
    Ok(())
}

/// A spawned future. Dropping it cancels the future at its next step; awaiting it gives its output and carries on the panic
/// of a future that panicked.
#[derive(Debug)]
#[must_use = "dropping the task cancels it"]
pub struct CpuTask<T>(async_task::Task<T, Arc<TaskScope>>);

impl<T> Future for CpuTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// A future as the pool polls it. Fields are dropped in order: the scope is idle only after the future is gone.
struct Polled<F> {
    future: Pin<Box<F>>,
    slice: Slice,
    io: Handle,
    live: Live,
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let scope = this.live.scope();
        let _entered = scope::enter(Arc::clone(scope));
        let units = this.slice.units(scope.has_rivals());
        let started = Instant::now();
        // `block_on` sets up the budget of a poll; its future is ready at once, so it never waits.
        let (polled, used_up) = this.io.block_on(poll_fn(|_| {
            slice::leave(units, context);
            let polled = this.future.as_mut().poll(context);
            Poll::Ready((polled, !coop::has_budget_remaining()))
        }));
        let elapsed = started.elapsed();
        this.slice.learn(units, used_up, elapsed);
        scope.charge(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        polled
    }
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without a message",
    }
}
