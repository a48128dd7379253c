//! What the tasks of a stage measured, summed over its attempts.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use volley_proto::{AttemptId, TaskMetrics};

/// Sums over the attempts of one stage that sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageMeasure {
    /// Time on compute threads.
    pub(crate) cpu_ns: u64,
    /// Time from launch to end, all attempts together.
    pub(crate) elapsed_ns: u64,
    /// Bytes read from exchanges in the same process.
    pub(crate) exchange_local_bytes: u64,
    /// Bytes read from exchanges over Flight.
    pub(crate) exchange_flight_bytes: u64,
    /// Bytes of outputs spilled.
    pub(crate) spilled_bytes: u64,
    /// By operator in pre-order, by name.
    pub(crate) operators: Vec<BTreeMap<String, u64>>,
    launched: Option<Instant>,
    sealed: Option<Instant>,
    /// Attempts already counted: an executor repeats its reports when it registers again.
    counted: HashSet<(u32, u32)>,
}

impl StageMeasure {
    /// Takes note of a launch.
    pub(crate) fn launched(&mut self) {
        self.launched.get_or_insert_with(Instant::now);
    }

    /// Adds what an attempt measured, once.
    pub(crate) fn add(&mut self, attempt: AttemptId, metrics: &TaskMetrics) {
        if !self.counted.insert((attempt.task.index, attempt.number)) {
            return;
        }
        self.sealed = Some(Instant::now());
        self.cpu_ns += metrics.cpu_ns;
        self.elapsed_ns += metrics.elapsed_ns;
        self.exchange_local_bytes += metrics.exchange_local_bytes;
        self.exchange_flight_bytes += metrics.exchange_flight_bytes;
        self.spilled_bytes += metrics.spilled_bytes;
        for operator in &metrics.operators {
            let index = operator.index as usize;
            if index >= self.operators.len() {
                self.operators.resize_with(index + 1, BTreeMap::new);
            }
            for (name, value) in &operator.values {
                let sum = self.operators[index].entry(name.clone()).or_default();
                *sum = sum.saturating_add(*value);
            }
        }
    }

    /// From the first launch to the last seal.
    pub(crate) fn span_ns(&self) -> u64 {
        match (self.launched, self.sealed) {
            (Some(launched), Some(sealed)) => sealed.saturating_duration_since(launched).as_nanos() as u64,
            _ => 0,
        }
    }

    /// Time that attempts were there but not on a compute thread.
    pub(crate) fn wait_ns(&self) -> u64 {
        self.elapsed_ns.saturating_sub(self.cpu_ns)
    }
}
