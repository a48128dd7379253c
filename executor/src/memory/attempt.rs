//! The share of the budget that one attempt uses, by operator.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use volley_proto::AttemptId;

use super::budget::{MemoryBudget, size};

/// How many consumers an error names.
const NAMED_CONSUMERS: usize = 5;

/// DataFusion's view of the executor's budget from inside one attempt.
///
/// It grants from the shared budget, so that an attempt alone may use all of it; it keeps its own sum for its peak, the
/// job's sum for the job's cap, and what each operator holds, so that a refusal says who has the memory.
pub struct AttemptPool {
    budget: Arc<MemoryBudget>,
    attempt: AttemptId,
    /// Bytes of all attempts of the job.
    job: Arc<AtomicUsize>,
    job_cap: Option<usize>,
    used: AtomicUsize,
    peak: AtomicUsize,
    consumers: Mutex<HashMap<usize, Consumer>>,
}

struct Consumer {
    name: String,
    can_spill: bool,
    bytes: usize,
}

impl AttemptPool {
    pub(super) fn new(budget: Arc<MemoryBudget>, attempt: AttemptId, job: Arc<AtomicUsize>, job_cap: Option<usize>) -> Self {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { budget, attempt, job, job_cap, used, peak, consumers: Mutex::new(HashMap::new()) }
    }

    /// The most bytes that the attempt held at once.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Name and bytes of every consumer that holds something.
    pub(super) fn consumers(&self) -> Vec<(String, usize)> {
        let consumers = self.consumers.lock();
        consumers.values().filter(|c| c.bytes > 0).map(|c| (format!("{} of {}", c.name, self.attempt), c.bytes)).collect()
    }

    /// Adds to the job's sum unless that is over its cap.
    fn take_of_job(&self, bytes: usize) -> bool {
        let cap = self.job_cap.unwrap_or(usize::MAX);
        let within = |used: usize| used.checked_add(bytes).filter(|after| *after <= cap);
        self.job.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn count(&self, consumer: &MemoryConsumer, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.peak.fetch_max(used, Ordering::Relaxed);
        if let Some(known) = self.consumers.lock().get_mut(&consumer.id()) {
            self.change(known, known.bytes.saturating_add(bytes));
        }
    }

    /// Notes what a consumer holds now.
    fn change(&self, consumer: &mut Consumer, bytes: usize) {
        if consumer.can_spill && (consumer.bytes > 0) != (bytes > 0) {
            self.budget.count_spiller(bytes > 0);
        }
        consumer.bytes = bytes;
    }

    fn refusal(&self, reservation: &MemoryReservation, additional: usize, limit: &str) -> DataFusionError {
        DataFusionError::ResourcesExhausted(format!(
            "{} of {} asks for {} on top of {}, which {limit}; in use: {}",
            reservation.consumer().name(),
            self.attempt,
            size(additional),
            size(reservation.size()),
            self.budget.top_consumers(NAMED_CONSUMERS),
        ))
    }
}

impl MemoryPool for AttemptPool {
    fn name(&self) -> &str {
        "volley_attempt"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        let known = Consumer { name: consumer.name().to_owned(), can_spill: consumer.can_spill(), bytes: 0 };
        self.consumers.lock().insert(consumer.id(), known);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if let Some(mut known) = self.consumers.lock().remove(&consumer.id()) {
            self.change(&mut known, 0);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.budget.take(additional);
        self.job.fetch_add(additional, Ordering::Relaxed);
        self.count(reservation.consumer(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.budget.give_back(shrink);
        self.job.fetch_sub(shrink, Ordering::Relaxed);
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        if let Some(known) = self.consumers.lock().get_mut(&reservation.consumer().id()) {
            self.change(known, known.bytes.saturating_sub(shrink));
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if !self.take_of_job(additional) {
            let cap = size(self.job_cap.unwrap_or(usize::MAX));
            return Err(self.refusal(reservation, additional, &format!("is over the job's cap of {cap} (volley.memory_bytes)")));
        }
        let taken = if reservation.consumer().can_spill() {
            self.budget.try_take_spillable(additional, reservation.size().saturating_add(additional))
        } else {
            self.budget.try_take(additional)
        };
        if !taken {
            self.job.fetch_sub(additional, Ordering::Relaxed);
            let limit = format!("is over the executor's memory of {}", size(self.budget.total()));
            return Err(self.refusal(reservation, additional, &limit));
        }
        self.count(reservation.consumer(), additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.job_cap.unwrap_or(usize::MAX).min(self.budget.total()))
    }
}

impl fmt::Debug for AttemptPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptPool").field("attempt", &self.attempt).field("used", &self.reserved()).finish_non_exhaustive()
    }
}

impl fmt::Display for AttemptPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(attempt: {}, used: {})", self.name(), self.attempt, size(self.reserved()))
    }
}
