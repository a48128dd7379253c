//! Whose work a future is: what its priority, its CPU time and its end are told by.

use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use volley_proto::JobId;

use super::pool::Shared;

/// A job's share of a pool: how much it was served, in nanoseconds over its weight.
///
/// The ready queue serves the job with the least. A job that comes back after a pause starts at the pool's clock, so that
/// it can't claim the time in which it had nothing to do.
#[derive(Debug)]
pub(super) struct JobShare {
    job: Option<JobId>,
    weight: AtomicU32,
    served: AtomicU64,
    scopes: AtomicUsize,
    /// Jobs of the pool that have a scope now.
    active: Arc<AtomicUsize>,
}

impl JobShare {
    pub(super) fn new(job: Option<JobId>, weight: NonZeroU32, active: &Arc<AtomicUsize>) -> Arc<Self> {
        let (weight, active) = (AtomicU32::new(weight.get()), Arc::clone(active));
        Arc::new(Self { job, weight, served: AtomicU64::new(0), scopes: AtomicUsize::new(0), active })
    }

    /// Whether nothing of the job can become ready.
    pub(super) fn is_over(&self) -> bool {
        self.scopes.load(Ordering::Relaxed) == 0
    }

    pub(super) fn set_weight(&self, weight: NonZeroU32) {
        self.weight.store(weight.get(), Ordering::Relaxed);
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Forgets what the job did not claim before `clock`.
    pub(super) fn catch_up(&self, clock: u64) {
        self.served.fetch_max(clock, Ordering::Relaxed);
    }

    fn charge(&self, nanoseconds: u64) {
        let weight = u64::from(self.weight.load(Ordering::Relaxed).max(1));
        self.served.fetch_add(nanoseconds / weight, Ordering::Relaxed);
    }
}

/// Everything that runs for one attempt: its root futures and whatever these spawn.
pub struct TaskScope {
    pub(super) share: Arc<JobShare>,
    pub(super) depth: u32,
    cpu_ns: AtomicU64,
    longest_ns: AtomicU64,
    live: AtomicUsize,
    idle: Notify,
}

impl TaskScope {
    pub(super) fn new(share: Arc<JobShare>, depth: u32) -> Arc<Self> {
        if share.scopes.fetch_add(1, Ordering::Relaxed) == 0 {
            share.active.fetch_add(1, Ordering::Relaxed);
        }
        Arc::new(Self {
            share,
            depth,
            cpu_ns: AtomicU64::new(0),
            longest_ns: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    /// Time that polls took on pool threads.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// The longest of these polls: what runs for so long can't be cancelled meanwhile.
    pub fn longest_poll(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed))
    }

    /// Futures that were spawned and not yet dropped.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Waits until every future of the scope is dropped: only then are its memory and its slots free.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            // Registered before the count is read, so that no end is missed in between.
            notified.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Whether another job has something to run, or soon will.
    pub(super) fn has_rivals(&self) -> bool {
        self.share.active.load(Ordering::Relaxed) > 1
    }

    pub(super) fn charge(&self, nanoseconds: u64) {
        self.cpu_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        self.longest_ns.fetch_max(nanoseconds, Ordering::Relaxed);
        self.share.charge(nanoseconds);
    }
}

impl Drop for TaskScope {
    fn drop(&mut self) {
        if self.share.scopes.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.share.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for TaskScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskScope")
            .field("job", &self.share.job)
            .field("depth", &self.depth)
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// Counts a future as live until it is dropped.
#[derive(Debug)]
pub(super) struct Live(Arc<TaskScope>);

impl Live {
    pub(super) fn new(scope: Arc<TaskScope>) -> Self {
        scope.live.fetch_add(1, Ordering::AcqRel);
        Self(scope)
    }

    pub(super) fn scope(&self) -> &Arc<TaskScope> {
        &self.0
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.0.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

thread_local! {
    /// The pool that this thread belongs to; weak, since the pool's threads must not keep it alive.
    static POOL: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
    /// The scope of the future that this thread polls.
    static SCOPE: RefCell<Option<Arc<TaskScope>>> = const { RefCell::new(None) };
}

/// Makes this thread one of `pool`, until it ends.
pub(super) fn join_pool(pool: Weak<Shared>) {
    POOL.with(|current| *current.borrow_mut() = pool);
}

/// The pool of this thread.
pub(super) fn current_pool() -> Option<Arc<Shared>> {
    POOL.try_with(|pool| pool.borrow().upgrade()).ok().flatten()
}

/// Whether this thread is one of `pool`.
pub(super) fn is_pool_thread(pool: &Shared) -> bool {
    POOL.try_with(|current| std::ptr::eq(current.borrow().as_ptr(), pool)).unwrap_or(false)
}

/// The scope of the future that this thread polls.
pub(super) fn current_scope() -> Option<Arc<TaskScope>> {
    SCOPE.try_with(|scope| scope.borrow().clone()).ok().flatten()
}

/// Makes `scope` the one that spawned futures inherit, until the guard is dropped.
#[must_use]
pub(super) fn enter(scope: Arc<TaskScope>) -> Entered {
    Entered { outer: SCOPE.with(|current| current.replace(Some(scope))) }
}

pub(super) struct Entered {
    outer: Option<Arc<TaskScope>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Where the thread is ending there is nothing left to restore.
        let _ = SCOPE.try_with(|current| current.replace(self.outer.take()));
    }
}
