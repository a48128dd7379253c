//! How partitions become what local partitions read, and those become tasks.

use std::ops::Range;

use super::Limits;
use crate::exchange::Share;

/// How many times an even share of the bytes a partition has, to be read in parts.
const SKEWED: f64 = 1.5;

/// What one local partition reads: exchange partitions, or a share of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) partitions: Range<usize>,
    pub(super) share: Share,
    /// As far as known: shares are not quite even.
    pub(super) bytes: u64,
}

/// Bytes of each partition.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// Of all inputs.
    pub(super) all: Vec<u64>,
    /// Of the input that may be shared out, and how many tasks wrote it; where there is one.
    pub(super) shared: Option<(Vec<u64>, u32)>,
}

impl Sizes {
    pub(super) fn total(&self) -> u64 {
        self.all.iter().sum()
    }
}

/// What local partitions read, in the order of the partitions.
///
/// `planned` tasks run the stage at most.
pub(super) fn pieces(sizes: &Sizes, planned: usize, limits: &Limits) -> Vec<Piece> {
    let parts: Vec<u32> = (0..sizes.all.len()).map(|partition| parts(sizes, partition, planned, limits)).collect();
    let groups = together(&sizes.all, &parts, limits);
    groups.into_iter().flat_map(|partitions| shares(sizes, partitions.clone(), parts[partitions.start])).collect()
}

fn shares(sizes: &Sizes, partitions: Range<usize>, of: u32) -> impl Iterator<Item = Piece> {
    let all: u64 = sizes.all[partitions.clone()].iter().sum();
    let shared = match &sizes.shared {
        Some((shared, _)) if of > 1 => shared[partitions.start],
        _ => 0,
    };
    let bytes = all - shared.min(all) + shared / u64::from(of);
    (0..of).map(move |part| Piece { partitions: partitions.clone(), share: Share { part, of }, bytes })
}

/// In how many parts a partition is read: so many that each is about an even share of all bytes, as long as what every part reads whole is
/// little beside it.
fn parts(sizes: &Sizes, partition: usize, planned: usize, limits: &Limits) -> u32 {
    let Some((shared, writers)) = &sizes.shared else { return 1 };
    let even = (sizes.total() / limits.slots as u64).max(limits.split_bytes);
    let (all, shared) = (sizes.all[partition], shared[partition].min(sizes.all[partition]));
    if (all as f64) < SKEWED * even as f64 {
        return 1;
    }
    let whole = all - shared;
    let most = (shared / 2).checked_div(whole).map_or(u64::MAX, |parts| parts + 1);
    let at_a_time = limits.slots.min(planned * limits.slots_per_task) as u64;
    let wanted = all.div_ceil(even).min(most).min(at_a_time).min(u64::from(*writers));
    u32::try_from(wanted).unwrap_or(1).max(1)
}

/// Runs of partitions that are read as one. Those that are read in several parts stay alone.
fn together(bytes: &[u64], parts: &[u32], limits: &Limits) -> Vec<Range<usize>> {
    let total: u64 = bytes.iter().sum();
    let most = match total <= limits.tiny_bytes {
        true => limits.tiny_bytes,
        // As few as are worth it, but one for each slot.
        false => limits.partition_bytes.min(total.div_ceil(limits.slots as u64)),
    };
    let alone = bytes.iter().zip(parts).map(|(bytes, parts)| if *parts > 1 { u64::MAX } else { *bytes });
    runs(alone, |sum, next| sum.saturating_add(next) > most)
}

/// Runs of values; a run ends before a value that is too much for its sum.
fn runs(values: impl Iterator<Item = u64>, is_too_much: impl Fn(u64, u64) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    let mut sum = 0u64;
    for (place, value) in values.enumerate() {
        match runs.last_mut() {
            Some(run) if !is_too_much(sum, value) => {
                run.end = place + 1;
                sum += value;
            }
            _ => {
                runs.push(place..place + 1);
                sum = value;
            }
        }
    }
    runs
}

/// Runs of pieces, one for each task.
pub(super) fn tasks(pieces: &[Piece], planned: usize, limits: &Limits) -> Vec<Range<usize>> {
    let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let worth = usize::try_from(total.div_ceil(limits.task_bytes.max(1))).unwrap_or(usize::MAX);
    let wanted = worth.max(limits.slots).min(planned).min(pieces.len()).max(1) as u64;
    // Each ends with the piece that has the middle of it on this side of its share's end.
    let mut ends = vec![];
    let mut before = 0;
    for (place, piece) in pieces.iter().enumerate() {
        let left = pieces.len() - place;
        let missing = wanted as usize - ends.len();
        let share = total as u128 * (ends.len() as u128 + 1) / u128::from(wanted);
        let middle = u128::from(before) + u128::from(piece.bytes) / 2;
        let is_started = ends.last().is_none_or(|end| *end < place) && place > 0;
        if missing > 1 && is_started && (middle >= share || left < missing) {
            ends.push(place);
        }
        before += piece.bytes;
    }
    ends.push(pieces.len());
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| start..end).collect()
}

/// Bytes of the task that reads most.
pub(super) fn most_bytes(pieces: &[Piece], tasks: &[Range<usize>]) -> u64 {
    tasks.iter().map(|task| pieces[task.clone()].iter().map(|piece| piece.bytes).sum()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(slots: usize) -> Limits {
        Limits { slots, slots_per_task: 1, partition_bytes: 100, task_bytes: 200, tiny_bytes: 25, split_bytes: 100 }
    }

    fn split(bytes: &[u64], planned: usize, limits: &Limits) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let pieces = pieces(&Sizes { all: bytes.to_vec(), shared: None }, planned, limits);
        let tasks = tasks(&pieces, planned, limits);
        assert!(pieces.iter().all(|piece| piece.share == Share::WHOLE));
        (pieces.into_iter().map(|piece| piece.partitions).collect(), tasks)
    }

    #[test]
    fn what_is_tiny_is_one_partition() {
        for bytes in [[0, 0, 0, 0], [10, 0, 10, 5]] {
            let (groups, tasks) = split(&bytes, 4, &limits(2));
            assert_eq!((groups.len(), groups[0].clone(), tasks.len(), tasks[0].clone()), (1, 0..4, 1, 0..1));
        }
    }

    #[test]
    fn small_partitions_are_read_together_and_every_slot_has_a_task() {
        assert_eq!(split(&[10; 8], 4, &limits(2)), (vec![0..4, 4..8], vec![0..1, 1..2]));
        let (groups, tasks) = split(&[40; 32], 16, &limits(2));
        assert_eq!(groups.len(), 16, "two of 40 bytes in each");
        assert_eq!(tasks, (0..7).map(|task| [0, 2, 5, 7, 9, 11, 14, 16][task]..[0, 2, 5, 7, 9, 11, 14, 16][task + 1]).collect::<Vec<_>>());
    }

    #[test]
    fn large_partitions_stay_as_they_are() {
        assert_eq!(split(&[300, 300, 300, 300], 4, &limits(2)), (vec![0..1, 1..2, 2..3, 3..4], vec![0..1, 1..2, 2..3, 3..4]));
    }

    #[test]
    fn tasks_get_equal_bytes() {
        let (groups, tasks) = split(&[800, 100, 100, 100, 100, 100, 100, 200], 2, &limits(2));
        assert_eq!((groups.len(), tasks), (8, vec![0..1, 1..8]));
        // A large one at the end leaves something for every task.
        assert_eq!(split(&[100, 100, 100, 1000], 4, &limits(4)).1, [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(split(&[1000, 100, 100, 100], 4, &limits(4)).1, [0..1, 1..2, 2..3, 3..4]);
    }

    /// In how many parts each partition is read, where `whole` of `all` is read by every part.
    fn parts_of(all: &[u64], whole: &[u64], writers: u32, slots: usize) -> Vec<u32> {
        let shared = all.iter().zip(whole).map(|(all, whole)| all - whole).collect();
        let sizes = Sizes { all: all.to_vec(), shared: Some((shared, writers)) };
        let pieces = pieces(&sizes, 6, &limits(slots));
        let alone = (0..all.len()).filter_map(|partition| pieces.iter().find(|piece| piece.partitions.start == partition));
        alone.map(|piece| piece.share.of).collect()
    }

    #[test]
    fn what_is_far_more_than_an_even_share_is_read_in_parts() {
        assert_eq!(
            parts_of(&[10, 900, 10, 80], &[0; 4], 8, 2),
            [1, 2, 1],
            "an even share is 500 bytes, and the last two are read together"
        );
        assert_eq!(parts_of(&[200, 900, 200, 200], &[0; 4], 8, 8), [1, 5, 1, 1], "an even share is 187 bytes");
        assert_eq!(parts_of(&[200, 900, 200, 200], &[0; 4], 3, 8), [1, 3, 1, 1], "three tasks wrote it");
        assert_eq!(parts_of(&[200, 9000, 200, 200], &[0; 4], 99, 16), [1, 6, 1, 1], "six tasks were planned");
        assert_eq!(parts_of(&[200, 900, 200, 200], &[0, 100, 0, 0], 8, 8), [1, 5, 1, 1], "100 of 900 are read by each");
        assert_eq!(parts_of(&[200, 900, 200, 200], &[0, 450, 0, 0], 8, 8), [1, 1, 1, 1], "half of it would be read by each");
        assert_eq!(parts_of(&[0, 140, 0, 0], &[0; 4], 8, 8), [1, 1, 1], "too little to be worth it, and the last two are read together");
    }

    #[test]
    fn parts_of_a_partition_go_to_different_tasks() {
        let sizes = Sizes { all: vec![10, 900, 10, 80], shared: Some((vec![10, 800, 10, 80], 4)) };
        let pieces = pieces(&sizes, 4, &limits(2));
        let read: Vec<_> = pieces.iter().map(|piece| (piece.partitions.clone(), piece.share.part, piece.bytes)).collect();
        assert_eq!(read, [(0..1, 0, 10), (1..2, 0, 500), (1..2, 1, 500), (2..4, 0, 90)]);
        assert_eq!(tasks(&pieces, 4, &limits(2)).iter().filter(|task| task.contains(&1) && task.contains(&2)).count(), 0);
        assert_eq!(most_bytes(&pieces, &tasks(&pieces, 2, &limits(2))), 590);
    }
}
