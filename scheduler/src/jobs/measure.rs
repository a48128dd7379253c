//! What the tasks of a stage measured, summed over its attempts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use volley_proto::{AttemptId, TaskMetrics};

use super::spread::Spread;

/// DataFusion's name for what an operator spilled.
const SPILLED_BYTES: &str = "spilled_bytes";

/// Sums over the attempts of one stage that sealed.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageMeasure {
    /// Time on compute threads.
    pub(crate) cpu_ns: u64,
    /// Time from launch to end, all attempts together.
    pub(crate) elapsed_ns: u64,
    /// Time for which slots were held.
    pub(crate) slot_ns: u64,
    /// Bytes read from exchanges in the same process.
    pub(crate) exchange_local_bytes: u64,
    /// Bytes read from exchanges over Flight.
    pub(crate) exchange_flight_bytes: u64,
    /// Bytes of outputs spilled.
    pub(crate) exchange_spilled_bytes: u64,
    /// The longest poll of any.
    pub(crate) longest_poll_ns: u64,
    /// By operator in pre-order, by name.
    pub(crate) operators: Vec<BTreeMap<String, u64>>,
    /// Rows of each attempt.
    pub(crate) rows: Spread,
    /// Time of each attempt from launch to end.
    pub(crate) took_ns: Spread,
    launched: Option<Instant>,
    sealed: Option<Instant>,
    /// Attempts already counted: an executor repeats its reports when it registers again.
    counted: HashSet<(u32, u32)>,
    /// Slots of attempts that were launched with more than one.
    wide: HashMap<(u32, u32), u32>,
}

impl StageMeasure {
    /// Takes note of a launch.
    pub(crate) fn launched(&mut self, attempt: AttemptId, slots: u32) {
        self.launched.get_or_insert_with(Instant::now);
        if slots > 1 {
            self.wide.insert((attempt.task.index, attempt.number), slots);
        }
    }

    /// Adds what an attempt measured, once.
    pub(crate) fn add(&mut self, attempt: AttemptId, rows: u64, metrics: &TaskMetrics) {
        let key = (attempt.task.index, attempt.number);
        if !self.counted.insert(key) {
            return;
        }
        let slots = self.wide.remove(&key).unwrap_or(1);
        self.sealed = Some(Instant::now());
        self.rows.add(rows);
        self.took_ns.add(metrics.elapsed_ns);
        self.cpu_ns += metrics.cpu_ns;
        self.elapsed_ns += metrics.elapsed_ns;
        self.slot_ns += metrics.elapsed_ns.saturating_mul(u64::from(slots));
        self.exchange_local_bytes += metrics.exchange_local_bytes;
        self.exchange_flight_bytes += metrics.exchange_flight_bytes;
        self.exchange_spilled_bytes += metrics.spilled_bytes;
        self.longest_poll_ns = self.longest_poll_ns.max(metrics.longest_poll_ns);
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

    /// When the last attempt sealed.
    pub(crate) fn sealed_at(&self) -> Option<Instant> {
        self.sealed
    }

    /// Time for which slots were held and computed nothing.
    pub(crate) fn wait_ns(&self) -> u64 {
        self.slot_ns.saturating_sub(self.cpu_ns)
    }

    /// Bytes that operators spilled.
    pub(crate) fn operators_spilled_bytes(&self) -> u64 {
        self.operators.iter().filter_map(|values| values.get(SPILLED_BYTES)).sum()
    }
}

#[cfg(test)]
mod tests {
    use volley_proto::{JobId, OperatorMetrics, StageId, TaskId};

    use super::*;

    #[test]
    fn waiting_is_what_the_slots_did_not_compute_and_spills_are_told_apart() {
        let attempt = |task, number| TaskId::new(JobId(1), StageId(0), task).attempt(number);
        let spilled = OperatorMetrics { index: 1, values: vec![(SPILLED_BYTES.into(), 30)] };
        let metrics = TaskMetrics { cpu_ns: 150, elapsed_ns: 100, spilled_bytes: 7, operators: vec![spilled], ..Default::default() };
        let mut measure = StageMeasure::default();
        measure.launched(attempt(0, 0), 2);
        measure.launched(attempt(1, 0), 1);
        measure.add(attempt(0, 0), 5, &metrics);
        measure.add(attempt(0, 0), 5, &metrics);
        assert_eq!((measure.cpu_ns, measure.slot_ns, measure.wait_ns()), (150, 200, 50), "an attempt counts once, with its slots");
        measure.add(attempt(1, 0), 1, &TaskMetrics { cpu_ns: 10, elapsed_ns: 40, longest_poll_ns: 9, ..Default::default() });
        assert_eq!((measure.slot_ns, measure.wait_ns(), measure.longest_poll_ns), (240, 80, 9));
        assert_eq!((measure.rows.ends(), measure.took_ns.ends()), ([1, 5, 5], [40, 100, 100]));
        assert_eq!((measure.exchange_spilled_bytes, measure.operators_spilled_bytes()), (7, 30));
    }
}
