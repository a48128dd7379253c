//! Whether looking at rows pays: it is tried on a few rows of some batches, then done or left for many rows, and tried again.

use std::time::Duration;

/// Rows of a batch that a trial looks at.
pub(super) const SAMPLE_ROWS: usize = 1024;
/// Batches that a trial takes rows of.
const SAMPLES: u32 = 4;
/// Batches after which it is asked again whether looking pays.
const WINDOW: u32 = 16;
/// Rows that pass unseen after a first trial that did not pay; four times as many after each further one.
const FIRST_PAUSE: u64 = 1 << 18;
/// Most rows that pass unseen after a trial.
const LONGEST_PAUSE: u64 = 1 << 24;

/// How the next batch is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// All of it is looked at.
    Look,
    /// Its first rows are looked at, and all pass.
    Sample,
    /// It passes.
    Pass,
}

/// The trial of one filter in one partition.
#[derive(Debug)]
pub(super) struct Trial {
    pays: bool,
    noted: u32,
    seen: u64,
    dropped: u64,
    /// Nanoseconds for a row in the quickest batch: a thread that had to wait for its core says nothing of the filter.
    quickest: f64,
    unseen: u64,
    next_pause: u64,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self { pays: false, noted: 0, seen: 0, dropped: 0, quickest: f64::INFINITY, unseen: 0, next_pause: FIRST_PAUSE }
    }

    /// How to take a batch of so many rows.
    pub(super) fn next(&mut self, rows: usize) -> Next {
        if self.unseen > 0 {
            self.unseen = self.unseen.saturating_sub(rows as u64);
            Next::Pass
        } else if self.pays {
            Next::Look
        } else {
            Next::Sample
        }
    }

    /// Takes note of what looking at some rows came to. `saves` is what a dropped row saves, in nanoseconds.
    pub(super) fn note(&mut self, seen: usize, dropped: usize, spent: Duration, saves: f64) {
        self.noted += 1;
        self.seen += seen as u64;
        self.dropped += dropped as u64;
        self.quickest = self.quickest.min(spent.as_nanos() as f64 / seen.max(1) as f64);
        if self.noted < if self.pays { WINDOW } else { SAMPLES } {
            return;
        }
        self.pays = self.quickest * (self.seen as f64) < saves * self.dropped as f64;
        if self.pays {
            self.next_pause = FIRST_PAUSE;
        } else {
            self.unseen = self.next_pause;
            self.next_pause = (self.next_pause * 4).min(LONGEST_PAUSE);
        }
        (self.noted, self.seen, self.dropped, self.quickest) = (0, 0, 0, f64::INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 8192;
    /// For a row.
    const COSTS: u64 = 10;

    /// Rows looked at of so many, where one of `every` is dropped.
    fn looked_at(trial: &mut Trial, rows: usize, every: usize, saves: f64) -> usize {
        let mut looked_at = 0;
        for batch in 0..rows / BATCH {
            let seen = match trial.next(BATCH) {
                Next::Look => BATCH,
                Next::Sample => SAMPLE_ROWS,
                Next::Pass => continue,
            };
            looked_at += seen;
            // Now and then the thread loses its core.
            let waits = if batch % 3 == 0 { 1000 } else { 1 };
            trial.note(seen, seen / every, Duration::from_nanos(COSTS * waits * seen as u64), saves);
        }
        looked_at
    }

    #[test]
    fn what_drops_many_rows_is_done() {
        let rows = 1 << 24;
        let looked_at = looked_at(&mut Trial::new(), rows, 2, 40.0);
        assert!(looked_at >= rows - 4 * BATCH, "{looked_at}");
    }

    #[test]
    fn what_drops_few_rows_is_tried_now_and_then() {
        let rows = 1 << 26;
        let looked_at = looked_at(&mut Trial::new(), rows, 100, 40.0);
        assert!(looked_at > 0 && looked_at < rows / 1000, "{looked_at}");
    }

    #[test]
    fn what_a_row_saves_decides() {
        assert!(looked_at(&mut Trial::new(), 1 << 22, 10, 400.0) > 1 << 21);
        assert!(looked_at(&mut Trial::new(), 1 << 22, 10, 40.0) < 1 << 16);
    }

    #[test]
    fn what_pays_again_is_done_again() {
        let mut trial = Trial::new();
        assert!(looked_at(&mut trial, 1 << 22, 1 << 20, 40.0) < 1 << 16);
        assert!(looked_at(&mut trial, 1 << 25, 1, 40.0) > 1 << 24);
        assert_eq!(looked_at(&mut trial, 1 << 22, 1, 40.0), 1 << 22);
    }
}
