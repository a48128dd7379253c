//! How fast the tasks of a stage are: what a slow one is told by.

/// How long sealed tasks of a stage took, and how many rows they wrote: the last ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// Microseconds and rows.
    last: Vec<(u64, u64)>,
    next: usize,
}

impl Pace {
    /// Tasks that are kept.
    const KEPT: usize = 64;

    /// A task was sealed after `micros` with `rows`.
    pub(super) fn note(&mut self, micros: u64, rows: u64) {
        if micros == 0 {
            // It is known from a journal.
            return;
        }
        match self.last.get_mut(self.next) {
            Some(place) => *place = (micros, rows),
            None => self.last.push((micros, rows)),
        }
        self.next = (self.next + 1) % Self::KEPT;
    }

    /// The time that tasks take in the middle, in microseconds, and the rows of one second; `None` where none is known.
    pub(super) fn middle(&self) -> Option<(u64, u64)> {
        let middle = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        let micros = middle(self.last.iter().map(|(micros, _)| *micros).collect())?;
        let rates = self.last.iter().map(|(micros, rows)| rows.saturating_mul(1_000_000) / (*micros).max(1));
        Some((micros, middle(rates.collect())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tasks_count() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|number| pace.note(if number < 900 { 1 } else { 5 }, 0));
        assert_eq!((pace.last.len(), pace.middle()), (Pace::KEPT, Some((5, 0))));
    }
}
