//! Pass 12, while a job runs: how the partitions of a stage are spread over tasks, from the exact sizes of what it reads.
//!
//! The number of partitions was chosen from estimates. Once what a stage reads is complete, small partitions are read together: each of
//! them has all rows of its keys, so any number of them read as one gives the same rows. Tasks then get partitions of about equal bytes
//! instead of equal numbers of partitions. What a stage writes does not change, nor does its plan, so that other stages need not know.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use volley_proto::{InputRead, PartitionStats, StageId};

use super::slices;
use crate::codec::{ExchangeSlices, LeafContent, TaskBindings};
use crate::exchange::{Exchange, ExchangeReadExec};
use crate::graph::{Stage, StageGraph};
use crate::leaf::{LeafExec, LeafKind};
use crate::options::VolleyOptions;
use crate::write::StagedWriteExec;

/// Bytes up to which partitions are read as one.
const PARTITION_BYTES: u64 = 1 << 20;
/// Bytes for which a task is worth what it costs, where every slot has one.
const TASK_BYTES: u64 = 2 << 20;
/// Bytes that one task reads in a moment.
const TINY_BYTES: u64 = 256 << 10;

/// From where on it is worth changing what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Slots of the cluster.
    pub slots: usize,
    /// Most slots that a task can get.
    pub slots_per_task: usize,
    /// Bytes up to which partitions are read as one.
    partition_bytes: u64,
    task_bytes: u64,
    tiny_bytes: u64,
}

impl Limits {
    /// The limits of a session on a cluster; `None` where plans are not to be changed.
    pub fn new(options: &VolleyOptions, cluster: crate::graph::ClusterShape) -> Option<Self> {
        // Whoever asks for smaller partitions gets them.
        let least = options.min_bytes_per_partition;
        options.adapt.then(|| Self {
            slots: cluster.slots.max(1),
            slots_per_task: cluster.largest_slots.max(1),
            partition_bytes: PARTITION_BYTES.min(least),
            task_bytes: TASK_BYTES.min(least),
            tiny_bytes: TINY_BYTES.min(least),
        })
    }
}

/// Another way to run a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// What each task reads.
    pub tasks: Vec<TaskBindings>,
    /// Most partitions of a task.
    pub slots_per_task: u32,
    /// What was decided and why, for people.
    pub reason: String,
}

/// The stages whose partitions may be read together, whatever their sizes turn out to be.
pub fn adaptable(graph: &StageGraph) -> Vec<StageId> {
    graph.stages.iter().filter(|stage| matches!(Hashed::of(graph, stage), Ok(Some(_)))).map(|stage| stage.shape.id).collect()
}

/// How `stage` runs best; `None` where that is as it was planned, or something that it reads is not complete. `sizes` are those of the
/// partitions of complete stages.
pub fn adapt<'a>(
    graph: &StageGraph,
    stage: StageId,
    sizes: impl Fn(StageId) -> Option<&'a [PartitionStats]>,
    limits: &Limits,
) -> Result<Option<Adapted>> {
    let Some(stage) = graph.stages.get(stage.0 as usize) else { return Ok(None) };
    let Some(hashed) = Hashed::of(graph, stage)? else { return Ok(None) };
    let mut bytes = vec![0u64; hashed.partitions];
    for producer in &hashed.producers {
        let Some(sizes) = sizes(*producer) else { return Ok(None) };
        bytes.iter_mut().zip(sizes).for_each(|(sum, size)| *sum += size.bytes);
    }
    let groups = together(&bytes, limits);
    let tasks = tasks(&bytes, &groups, stage.tasks.len(), limits);
    if groups.len() == hashed.partitions && !is_better_balanced(&bytes, stage, &groups, &tasks) {
        return Ok(None);
    }
    Ok(Some(Adapted {
        slots_per_task: tasks.iter().map(Range::len).max().unwrap_or(1).clamp(1, limits.slots_per_task) as u32,
        reason: reason(&bytes, stage, &groups, &tasks),
        tasks: tasks.iter().map(|task| hashed.bindings(&groups, task)).collect(),
    }))
}

impl StageGraph {
    /// The graph in which `stage` runs that way.
    #[must_use]
    pub fn adapted(&self, stage: StageId, Adapted { tasks, slots_per_task, reason }: Adapted) -> Self {
        let mut graph = self.clone();
        if let Some(stage) = graph.stages.get_mut(stage.0 as usize) {
            (stage.shape.tasks, stage.shape.slots_per_task) = (tasks.len() as u32, slots_per_task);
            (stage.tasks, stage.adapted) = (tasks, Some(reason));
        }
        graph
    }
}

/// A stage all of whose inputs are spread by the hash of a key, or read whole by every task.
struct Hashed {
    partitions: usize,
    /// Of the inputs that are spread.
    producers: Vec<StageId>,
    /// What the leaves read that every task reads whole; `None` for those that are spread.
    whole: Vec<Option<LeafContent>>,
}

impl Hashed {
    fn of(graph: &StageGraph, stage: &Stage) -> Result<Option<Self>> {
        let [plan] = stage.plan.children()[..] else { return Ok(None) };
        let partitions = plan.output_partitioning().partition_count();
        // The order of its rows, and of the tasks that they are of, is what a client sees of the root.
        if stage.shape.id == graph.root()
            || stage.tasks.len() < 2
            || !may_move(graph, stage)
            || plan.exists(|node| Ok(node.is::<StagedWriteExec>()))?
        {
            return Ok(None);
        }
        let mut leaves = vec![];
        plan.apply(|node| {
            leaves.extend(node.downcast_ref::<LeafExec>().map(|leaf| (leaf.index(), Arc::clone(node))));
            Ok(TreeNodeRecursion::Continue)
        })?;
        leaves.sort_by_key(|(index, _)| *index);
        if leaves.iter().any(|(_, leaf)| leaf.downcast_ref::<LeafExec>().is_none_or(|leaf| leaf.kind() != LeafKind::Exchange)) {
            return Ok(None);
        }
        let [all, first] = [0..partitions, 0..1].map(|slice| slices::leaf_contents(plan, slice, leaves.len()));
        let (Ok(all), Ok(first)) = (all, first) else { return Ok(None) };
        let mut hashed = Self { partitions, producers: vec![], whole: vec![] };
        for (((_, leaf), all), first) in leaves.iter().zip(all).zip(first) {
            if all == first {
                hashed.whole.push(Some(all));
            } else if let Some(producer) = spread(graph, stage, leaf, partitions) {
                hashed.producers.push(producer);
                hashed.whole.push(None);
            } else {
                return Ok(None);
            }
        }
        Ok((!hashed.producers.is_empty()).then_some(hashed))
    }

    /// What a task reads that runs these groups.
    fn bindings(&self, groups: &[Range<usize>], task: &Range<usize>) -> TaskBindings {
        let content = |whole: &Option<LeafContent>| match whole {
            Some(whole) => whole.clone(),
            None => {
                let group = |group: &Range<usize>| group.clone().map(|partition| volley_proto::PartitionId(partition as u32)).collect();
                LeafContent::Exchange(ExchangeSlices::new(groups[task.clone()].iter().map(group)))
            }
        };
        TaskBindings::new(task.start, task.len(), self.whole.iter().map(content).collect())
    }
}

/// The stage that a leaf reads partition by partition, if its rows are spread by the hash of a key.
fn spread(graph: &StageGraph, stage: &Stage, leaf: &Arc<dyn ExecutionPlan>, partitions: usize) -> Option<StageId> {
    let reader = leaf.downcast_ref::<LeafExec>()?.leaf().downcast_ref::<ExchangeReadExec>()?;
    let producer = graph.stages.get(reader.producer().0 as usize)?;
    let is_by_hash = matches!(&producer.output, Exchange::Hash { partitions: by, .. } if *by == partitions);
    let is_sliced = stage.shape.inputs.get(reader.input())?.read == InputRead::Slice;
    let each = reader.partitions().len() == partitions
        && reader.partitions().iter().enumerate().all(|(place, read)| matches!(read[..], [id] if id.0 as usize == place));
    (is_by_hash && is_sliced && each && reader.orderings().is_empty()).then_some(producer.shape.id)
}

/// Whether it makes no difference to readers which of the stage's partitions a row is made in.
fn may_move(graph: &StageGraph, stage: &Stage) -> bool {
    match stage.output {
        Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Broadcast => true,
        Exchange::RoundRobin { .. } => false,
        Exchange::Gather => graph.stages.iter().all(|consumer| {
            let reads = consumer.shape.inputs.iter().any(|input| input.producer == stage.shape.id);
            !reads || consumer.tasks.len() == 1
        }),
    }
}

/// Runs of partitions that are read as one.
fn together(bytes: &[u64], limits: &Limits) -> Vec<Range<usize>> {
    let total: u64 = bytes.iter().sum();
    let most = match total <= limits.tiny_bytes {
        true => limits.tiny_bytes,
        // As few as are worth it, but one for each slot.
        false => limits.partition_bytes.min(total.div_ceil(limits.slots as u64)),
    };
    runs(bytes.iter().copied(), |sum, next| sum + next > most)
}

/// Runs of groups, one for each task.
fn tasks(bytes: &[u64], groups: &[Range<usize>], planned: usize, limits: &Limits) -> Vec<Range<usize>> {
    let total: u64 = bytes.iter().sum();
    let worth = usize::try_from(total.div_ceil(limits.task_bytes.max(1))).unwrap_or(usize::MAX);
    let wanted = worth.max(limits.slots).min(planned).min(groups.len()).max(1) as u64;
    let group_bytes: Vec<u64> = groups.iter().map(|group| bytes[group.clone()].iter().sum()).collect();
    // Each ends with the group that has the middle of it on this side of its share's end.
    let mut ends = vec![];
    let mut before = 0;
    for (place, group) in group_bytes.iter().enumerate() {
        let left = group_bytes.len() - place;
        let missing = wanted as usize - ends.len();
        let share = total as u128 * (ends.len() as u128 + 1) / u128::from(wanted);
        let middle = u128::from(before) + u128::from(*group) / 2;
        let is_started = ends.last().is_none_or(|end| *end < place) && place > 0;
        if missing > 1 && is_started && (middle >= share || left < missing) {
            ends.push(place);
        }
        before += group;
    }
    ends.push(groups.len());
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| start..end).collect()
}

/// Runs of values; a run ends before a value that is too much for its sum.
fn runs(values: impl Iterator<Item = u64>, is_too_much: impl Fn(u64, u64) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    let mut sum = 0;
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

/// Whether the task that reads most reads a fifth less than was planned.
fn is_better_balanced(bytes: &[u64], stage: &Stage, groups: &[Range<usize>], tasks: &[Range<usize>]) -> bool {
    tasks.len() == stage.tasks.len() && most_bytes(bytes, groups, tasks) * 5 < planned_most_bytes(bytes, stage) * 4
}

fn most_bytes(bytes: &[u64], groups: &[Range<usize>], tasks: &[Range<usize>]) -> u64 {
    let task = |task: &Range<usize>| groups[task.clone()].iter().flat_map(|group| &bytes[group.clone()]).sum();
    tasks.iter().map(task).max().unwrap_or(0)
}

fn planned_most_bytes(bytes: &[u64], stage: &Stage) -> u64 {
    let task = |task: &TaskBindings| {
        let first = task.first_partition as usize;
        bytes.get(first..first + task.partitions as usize).map_or(0, |bytes| bytes.iter().sum())
    };
    stage.tasks.iter().map(task).max().unwrap_or(0)
}

fn reason(bytes: &[u64], stage: &Stage, groups: &[Range<usize>], tasks: &[Range<usize>]) -> String {
    let total: u64 = bytes.iter().sum();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let planned = format!("{} in {}", counted(bytes.len(), "partition"), counted(stage.tasks.len(), "task"));
    if groups.len() < bytes.len() {
        let now = format!("{} in {}", counted(groups.len(), "partition"), counted(tasks.len(), "task"));
        return format!("{now} instead of {planned}: {total} bytes came");
    }
    let (now, before) = (most_bytes(bytes, groups, tasks), planned_most_bytes(bytes, stage));
    format!("tasks of about equal bytes instead of partitions: of {total} the largest reads {now} instead of {before}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(slots: usize) -> Limits {
        Limits { slots, slots_per_task: 1, partition_bytes: 100, task_bytes: 200, tiny_bytes: 25 }
    }

    fn split(bytes: &[u64], planned: usize, limits: &Limits) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
        let groups = together(bytes, limits);
        let tasks = tasks(bytes, &groups, planned, limits);
        (groups, tasks)
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
}
