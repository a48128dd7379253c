//! The executor's bytes, counted once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use volley_proto::{AttemptId, JobId};

use super::attempt::AttemptPool;

/// One part in so many of the budget is kept for consumers that hold little.
const HEADROOM_SHARE: usize = 8;

/// Holds memory that it can give back at once.
pub trait Reclaim: fmt::Debug + Send + Sync {
    /// Drops up to about `bytes` of what is already elsewhere and returns how much it gave back, which it has already
    /// subtracted from the budget. Called inside an operator's allocation: no I/O, and no lock that is held while
    /// memory is asked for.
    fn reclaim(&self, bytes: usize) -> usize;
}

/// The executor's memory: one counter that operators and the partition store share.
pub struct MemoryBudget {
    total: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// Consumers that hold something and can spill it.
    spillers: AtomicUsize,
    reclaim: RwLock<Option<Weak<dyn Reclaim>>>,
    attempts: Mutex<Vec<Weak<AttemptPool>>>,
    /// Bytes of all attempts of a job, as long as one lives.
    jobs: Mutex<HashMap<JobId, Weak<AtomicUsize>>>,
}

impl MemoryBudget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            spillers: AtomicUsize::new(0),
            reclaim: RwLock::new(None),
            attempts: Mutex::new(Vec::new()),
            jobs: Mutex::new(HashMap::new()),
        })
    }

    /// Names who is asked to give memory back before a grant is refused.
    pub fn set_reclaim(&self, reclaim: Weak<dyn Reclaim>) {
        *self.reclaim.write() = Some(reclaim);
    }

    /// Bytes of the whole budget.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes in use now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Takes `bytes` whether they are there or not: for memory that exists already.
    pub fn take(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Takes `bytes` if they are there, or can be after a reclaim.
    pub fn try_take(&self, bytes: usize) -> bool {
        self.try_take_within(bytes, self.total)
    }

    /// As [`Self::try_take`], for a consumer that can spill and would then hold `held` bytes.
    ///
    /// Who can spill and holds much is refused before the budget is empty, so that one that holds nothing yet, and so has
    /// nothing to spill, still finds something to begin with.
    pub(super) fn try_take_spillable(&self, bytes: usize, held: usize) -> bool {
        let spillers = self.spillers.load(Ordering::Relaxed).max(1);
        let much = held > self.total / (2 * spillers);
        self.try_take_within(bytes, if much { self.total - self.total / HEADROOM_SHARE } else { self.total })
    }

    /// Notes that a consumer that can spill begins to hold something, or no longer does.
    pub(super) fn count_spiller(&self, holds: bool) {
        if holds {
            self.spillers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.spillers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn try_take_within(&self, bytes: usize, limit: usize) -> bool {
        // A second round serves the caller whose reclaimed bytes another one took first.
        for _ in 0..2 {
            let Err(missing) = self.take_free(bytes, limit) else { return true };
            if self.reclaim(missing) == 0 {
                break;
            }
        }
        self.take_free(bytes, limit).is_ok()
    }

    /// Gives `bytes` back.
    pub fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes given back to a budget with {before} in use");
    }

    /// The pool of one attempt; `job_cap` limits all attempts of its job on this executor together.
    pub fn attempt_pool(self: &Arc<Self>, attempt: AttemptId, job_cap: Option<usize>) -> Arc<AttemptPool> {
        let pool = Arc::new(AttemptPool::new(Arc::clone(self), attempt, self.job(attempt.task.job), job_cap));
        let mut attempts = self.attempts.lock();
        attempts.retain(|known| known.strong_count() > 0);
        attempts.push(Arc::downgrade(&pool));
        pool
    }

    /// The largest consumers of all attempts, as text for an error.
    pub(super) fn top_consumers(&self, count: usize) -> String {
        let attempts: Vec<_> = self.attempts.lock().iter().filter_map(Weak::upgrade).collect();
        let mut consumers: Vec<_> = attempts.iter().flat_map(|pool| pool.consumers()).collect();
        consumers.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let operators: usize = consumers.iter().map(|(_, bytes)| bytes).sum();
        let mut lines: Vec<_> = consumers.into_iter().take(count).map(|(name, bytes)| format!("{name} {}", size(bytes))).collect();
        lines.push(format!("exchange outputs {}", size(self.used().saturating_sub(operators))));
        lines.join(", ")
    }

    fn job(&self, job: JobId) -> Arc<AtomicUsize> {
        let mut jobs = self.jobs.lock();
        jobs.retain(|_, used| used.strong_count() > 0);
        let known = jobs.get(&job).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let used = Arc::new(AtomicUsize::new(0));
            jobs.insert(job, Arc::downgrade(&used));
            used
        })
    }

    /// Takes `bytes` unless more than `limit` would then be in use; tells how many are missing.
    fn take_free(&self, bytes: usize, limit: usize) -> Result<(), usize> {
        let within = |used: usize| used.checked_add(bytes).filter(|after| *after <= limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        match taken {
            Ok(before) => {
                self.peak.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(used.saturating_add(bytes).saturating_sub(limit)),
        }
    }

    fn reclaim(&self, bytes: usize) -> usize {
        let reclaim = self.reclaim.read().as_ref().and_then(Weak::upgrade);
        reclaim.map_or(0, |reclaim| reclaim.reclaim(bytes))
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("total", &self.total).field("used", &self.used()).finish_non_exhaustive()
    }
}

/// Bytes as people read them.
pub(super) fn size(bytes: usize) -> String {
    const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}
