//! How a measurement is spread over the tasks of a stage, in bounded memory.

/// Values that are kept at most.
const KEPT: usize = 4096;

/// Values of one measurement. The least and the greatest are exact; the median is one of so many values, evenly taken, where there are more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spread {
    least: u64,
    greatest: u64,
    kept: Vec<u64>,
    seen: u64,
    /// One value of so many is kept, as a power of two.
    every: u32,
}

impl Spread {
    /// Takes note of a value.
    pub(crate) fn add(&mut self, value: u64) {
        self.least = if self.seen == 0 { value } else { self.least.min(value) };
        self.greatest = self.greatest.max(value);
        if self.seen.is_multiple_of(1 << self.every) {
            if self.kept.len() == KEPT {
                let mut place = 0;
                self.kept.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.every += 1;
            }
            if self.seen.is_multiple_of(1 << self.every) {
                self.kept.push(value);
            }
        }
        self.seen += 1;
    }

    /// The least, the median and the greatest value; zeros where there is none.
    pub(crate) fn ends(&self) -> [u64; 3] {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        [self.least, sorted.get(sorted.len() / 2).copied().unwrap_or_default(), self.greatest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_told_exactly() {
        let mut spread = Spread::default();
        assert_eq!(spread.ends(), [0, 0, 0]);
        for value in [7, 3, 100] {
            spread.add(value);
        }
        assert_eq!(spread.ends(), [3, 7, 100]);
    }

    #[test]
    fn many_values_take_bounded_memory() {
        let mut spread = Spread::default();
        for value in 1..=1_000_000 {
            spread.add(value);
        }
        let [least, median, greatest] = spread.ends();
        assert_eq!((least, greatest), (1, 1_000_000));
        assert!((490_000..510_000).contains(&median), "{median}");
        assert!(spread.kept.len() <= KEPT);
    }
}
