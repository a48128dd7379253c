//! How long one poll may go on.
//!
//! A stream of ready batches never waits, so a poll would last for seconds. Tokio's cooperative budget ends it after 128
//! units (batches, roughly); since a batch costs microseconds in one plan and milliseconds in another, each future is given
//! as many units as fill a slice by what its last polls took.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop;

/// Units that tokio gives to a poll.
const FULL: u32 = 128;
/// A slice while no other job has work here: rarely enough that it costs nothing.
const ALONE: Duration = Duration::from_millis(20);
/// A slice while another job has: what its tasks wait at each step.
const SHARED: Duration = Duration::from_millis(4);

/// What a future's units cost so far.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// Nanoseconds a unit took, as last seen; 0 before it is known.
    unit_ns: u64,
}

impl Slice {
    /// How many units the next poll gets.
    pub(super) fn units(&self, others: bool) -> u32 {
        let slice = if others { SHARED } else { ALONE };
        match (slice.as_nanos() as u64).checked_div(self.unit_ns) {
            Some(units) => u32::try_from(units).unwrap_or(FULL).clamp(1, FULL),
            None if others => FULL / 8,
            None => FULL,
        }
    }

    /// Learns from a poll that was given `units`, used them up or not, and took `elapsed`.
    pub(super) fn learn(&mut self, units: u32, used_up: bool, elapsed: Duration) {
        let elapsed = elapsed.as_nanos() as u64;
        let units = u64::from(units.max(1));
        if used_up {
            // Half of the old value steadies it: batches of one stream differ.
            let seen = elapsed / units;
            self.unit_ns = if self.unit_ns == 0 { seen } else { (self.unit_ns + seen) / 2 };
        } else if elapsed / units > self.unit_ns {
            // It stopped for another reason, so a unit took at least this much.
            self.unit_ns = elapsed / units;
        } else if elapsed < SHARED.as_nanos() as u64 / 4 {
            // A stream inside a stream takes a unit for each, and gives them back when the innermost finds none: it woke itself
            // without a step forward, and would for ever on too few units. Whatever else made the poll short, it may have more.
            self.unit_ns -= self.unit_ns.div_ceil(4);
        }
    }
}

/// Leaves `units` of the budget of the poll that is under way.
pub(super) fn leave(units: u32, context: &mut Context<'_>) {
    for _ in units..FULL {
        match coop::poll_proceed(context) {
            Poll::Ready(unit) => unit.made_progress(),
            Poll::Pending => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_stream_is_cut_to_its_slice_and_recovers() {
        let mut slice = Slice::default();
        assert_eq!(slice.units(false), FULL);
        slice.learn(FULL, true, Duration::from_millis(256)); // 2 ms a unit
        assert_eq!(slice.units(false), 10);
        assert_eq!(slice.units(true), 2);
        for _ in 0..30 {
            slice.learn(10, true, Duration::from_micros(10)); // 1 us a unit
        }
        assert_eq!(slice.units(false), FULL);
    }

    #[test]
    fn a_long_poll_that_stopped_for_another_reason_counts_at_its_least() {
        let mut slice = Slice::default();
        slice.learn(FULL, false, Duration::from_millis(1280));
        assert_eq!(slice.units(false), 2);
        assert_eq!(slice.units(true), 1);
        slice.learn(2, false, Duration::from_millis(3));
        assert_eq!(slice.units(false), 2, "a poll that is neither long nor short says nothing of its units");
    }

    #[test]
    fn short_polls_that_use_up_nothing_get_more() {
        let mut slice = Slice::default();
        slice.learn(FULL, false, Duration::from_secs(1280));
        assert_eq!(slice.units(false), 1);
        let polls = (0..100).take_while(|_| {
            slice.learn(1, false, Duration::from_micros(1));
            slice.units(false) < 32
        });
        assert!(polls.count() < 50, "nested streams find their units after some polls");
    }
}
