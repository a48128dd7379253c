//! How partitions become what local partitions read, and those become tasks.

use std::ops::Range;

use super::Limits;
use crate::exchange::Share;

/// How many times an even share of the bytes a partition has, to be read in parts.
const SKEWED: f64 = 1.5;

/// Bytes that a join takes for a byte of its build side: the rows, and a hash table.
const BUILT_BYTES: u64 = 2;
/// Most waves in which a partition is joined: each reads all of it.
const MOST_WAVES: u64 = 64;

/// What one local partition reads: exchange partitions, a share of one, or some keys of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) partitions: Range<usize>,
    pub(super) share: Share,
    /// Below `waves`.
    pub(super) wave: u32,
    /// In how many waves its keys are read, at least 1.
    pub(super) waves: u32,
    /// As far as known: shares are not quite even.
    pub(super) bytes: u64,
    /// What joins hold of it, as far as known.
    pub(super) built: u64,
}

/// Bytes of each partition.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// Of all inputs.
    pub(super) all: Vec<u64>,
    /// What joins hold of them in memory.
    pub(super) built: Vec<u64>,
    /// Whether the keys of a partition may be read one after the other.
    pub(super) has_waves: bool,
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
    let waves: Vec<u32> = (0..sizes.all.len()).map(|partition| waves(sizes, partition, limits)).collect();
    let parts = waves.iter().enumerate().map(|(partition, waves)| if *waves > 1 { 1 } else { parts(sizes, partition, planned, limits) });
    let parts: Vec<u32> = parts.collect();
    let groups = together(&sizes.all, |partition| parts[partition] > 1 || waves[partition] > 1, limits);
    groups
        .into_iter()
        .flat_map(|partitions| match (partitions.start, partitions.clone()) {
            (first, _) if waves[first] > 1 => in_waves(sizes, first, waves[first]),
            (first, partitions) => shares(sizes, partitions, parts[first]),
        })
        .collect()
}

fn in_waves(sizes: &Sizes, partition: usize, waves: u32) -> Vec<Piece> {
    let (bytes, built) = (sizes.all[partition], sizes.built[partition] / u64::from(waves));
    (0..waves).map(|wave| Piece { partitions: partition..partition + 1, share: Share::WHOLE, wave, waves, bytes, built }).collect()
}

fn shares(sizes: &Sizes, partitions: Range<usize>, of: u32) -> Vec<Piece> {
    let all: u64 = sizes.all[partitions.clone()].iter().sum();
    let built = sizes.built[partitions.clone()].iter().sum();
    let shared = match &sizes.shared {
        Some((shared, _)) if of > 1 => shared[partitions.start],
        _ => 0,
    };
    let bytes = all - shared.min(all) + shared / u64::from(of);
    let piece = |part| Piece { partitions: partitions.clone(), share: Share { part, of }, wave: 0, waves: 1, bytes, built };
    (0..of).map(piece).collect()
}

/// In how many waves a partition is read: so many that a task has room for what joins hold of each.
fn waves(sizes: &Sizes, partition: usize, limits: &Limits) -> u32 {
    let held = sizes.built[partition].saturating_mul(BUILT_BYTES);
    if sizes.has_waves { held.div_ceil(limits.build_bytes).clamp(1, MOST_WAVES) as u32 } else { 1 }
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

/// Runs of partitions that are read as one. Those that are not read at once stay alone.
fn together(bytes: &[u64], is_alone: impl Fn(usize) -> bool, limits: &Limits) -> Vec<Range<usize>> {
    let total: u64 = bytes.iter().sum();
    let most = match total <= limits.tiny_bytes {
        true => limits.tiny_bytes,
        // As few as are worth it, but one for each slot.
        false => limits.partition_bytes.min(total.div_ceil(limits.slots as u64)),
    };
    let alone = bytes.iter().enumerate().map(|(partition, bytes)| if is_alone(partition) { u64::MAX } else { *bytes });
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
    starts.zip(ends.iter().copied()).flat_map(|(start, end)| fitting(pieces, start..end, limits)).collect()
}

/// The runs of a task's pieces for which a task has room: it runs all of them at the same time.
fn fitting(pieces: &[Piece], task: Range<usize>, limits: &Limits) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    let mut held = 0u64;
    for place in task {
        let more = pieces[place].built.saturating_mul(BUILT_BYTES);
        match runs.last_mut() {
            Some(run) if held + more <= limits.build_bytes.saturating_mul((run.len() + 1).min(limits.slots_per_task) as u64) => {
                run.end = place + 1;
                held += more;
            }
            _ => {
                runs.push(place..place + 1);
                held = more;
            }
        }
    }
    runs
}

/// Bytes of the task that reads most.
pub(super) fn most_bytes(pieces: &[Piece], tasks: &[Range<usize>]) -> u64 {
    tasks.iter().map(|task| pieces[task.clone()].iter().map(|piece| piece.bytes).sum()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(slots: usize) -> Limits {
        let (broadcast_bytes, build_bytes) = (1000, u64::MAX);
        Limits {
            slots,
            slots_per_task: 1,
            partition_bytes: 100,
            task_bytes: 200,
            tiny_bytes: 25,
            split_bytes: 100,
            broadcast_bytes,
            build_bytes,
        }
    }

    fn sizes(bytes: &[u64], shared: Option<(Vec<u64>, u32)>) -> Sizes {
        Sizes { all: bytes.to_vec(), built: vec![0; bytes.len()], has_waves: true, shared }
    }

    fn split(bytes: &[u64], planned: usize, limits: &Limits) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let pieces = pieces(&sizes(bytes, None), planned, limits);
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
        let sizes = sizes(all, Some((shared, writers)));
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
        let sizes = sizes(&[10, 900, 10, 80], Some((vec![10, 800, 10, 80], 4)));
        let pieces = pieces(&sizes, 4, &limits(2));
        let read: Vec<_> = pieces.iter().map(|piece| (piece.partitions.clone(), piece.share.part, piece.bytes)).collect();
        assert_eq!(read, [(0..1, 0, 10), (1..2, 0, 500), (1..2, 1, 500), (2..4, 0, 90)]);
        assert_eq!(tasks(&pieces, 4, &limits(2)).iter().filter(|task| task.contains(&1) && task.contains(&2)).count(), 0);
        assert_eq!(most_bytes(&pieces, &tasks(&pieces, 2, &limits(2))), 590);
    }

    /// For each piece of partitions whose build sides have these bytes: its first partition, its wave, and its task.
    fn in_waves_of(built: &[u64], has_waves: bool, limits: &Limits) -> Vec<(usize, u32, usize)> {
        let sizes = Sizes { built: built.to_vec(), has_waves, ..sizes(&vec![1000; built.len()], None) };
        let pieces = pieces(&sizes, 2, limits);
        let tasks = tasks(&pieces, 2, limits);
        let task_of = |place: usize| tasks.iter().position(|task| task.contains(&place)).unwrap();
        pieces.iter().enumerate().map(|(place, piece)| (piece.partitions.start, piece.wave, task_of(place))).collect()
    }

    #[test]
    fn what_does_not_fit_is_joined_in_waves_and_in_more_tasks() {
        let room_for = |build_bytes| Limits { build_bytes, ..limits(2) };
        assert_eq!(in_waves_of(&[50, 50, 50, 50], true, &room_for(200)), [(0, 0, 0), (1, 0, 0), (2, 0, 1), (3, 0, 1)]);
        assert_eq!(in_waves_of(&[50, 50, 50, 50], true, &room_for(100)), [(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)], "one at a time");
        assert_eq!(in_waves_of(&[50, 110], true, &room_for(100)), [(0, 0, 0), (1, 0, 1), (1, 1, 2), (1, 2, 3)], "220 bytes in three waves");
        assert_eq!(
            in_waves_of(&[50, 110], false, &room_for(100)),
            [(0, 0, 0), (1, 0, 1)],
            "there is nothing by which to tell its keys apart"
        );
        // A task that runs two partitions has the memory of two slots.
        assert_eq!(in_waves_of(&[50, 50], true, &Limits { slots: 2, slots_per_task: 2, ..room_for(100) }), [(0, 0, 0), (1, 0, 1)]);
    }
}
