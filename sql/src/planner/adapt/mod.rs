//! Pass 12, while a job runs: how the partitions of a stage are spread over tasks, from the exact sizes of what it reads.
//!
//! The number of partitions was chosen from estimates. Once what a stage reads is complete, small partitions are read together: each of
//! them has all rows of its keys, so any number of them read as one gives the same rows. A partition that has far more than an even share is
//! read in parts by several tasks, where the rows of one input make their results one by one: each part is what some of the producer's tasks
//! wrote, and all parts read the other inputs whole. Tasks then get partitions of about equal bytes instead of equal numbers of partitions.
//! What a stage writes does not change, nor does its plan, so that other stages need not know.

mod hashed;
mod pieces;

use std::ops::Range;

use datafusion::error::Result;
use volley_proto::{PartitionStats, StageId};

use self::hashed::Hashed;
use self::pieces::{Piece, Sizes, most_bytes, pieces, tasks};
use crate::codec::TaskBindings;
use crate::exchange::{Exchange, Share};
use crate::graph::{Stage, StageGraph};
use crate::options::VolleyOptions;

/// Bytes up to which partitions are read as one.
const PARTITION_BYTES: u64 = 1 << 20;
/// Bytes for which a task is worth what it costs, where every slot has one.
const TASK_BYTES: u64 = 2 << 20;
/// Bytes that one task reads in a moment.
const TINY_BYTES: u64 = 256 << 10;
/// Bytes that a part of a partition is worth.
const SPLIT_BYTES: u64 = 4 << 20;

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
    /// Least bytes of a part of a partition.
    split_bytes: u64,
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
            split_bytes: SPLIT_BYTES.min(least),
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
    let Some(mut sizes) = hashed.sizes(graph, sizes) else { return Ok(None) };
    let planned = stage.tasks.len();
    let mut read = pieces(&sizes, planned, limits);
    // Where a partition of the stage is one of its output, there must not be more of them than readers know.
    let is_spread_again = matches!(stage.output, Exchange::Hash { .. } | Exchange::Range { .. });
    if !is_spread_again && read.len() > hashed.partitions {
        sizes.shared = None;
        read = pieces(&sizes, planned, limits);
    }
    let tasks = tasks(&read, planned, limits);
    let is_same = read.len() == hashed.partitions && read.iter().all(|piece| piece.share == Share::WHOLE);
    if is_same && !is_better_balanced(&sizes, stage, &read, &tasks) {
        return Ok(None);
    }
    Ok(Some(Adapted {
        slots_per_task: tasks.iter().map(Range::len).max().unwrap_or(1).clamp(1, limits.slots_per_task) as u32,
        reason: reason(&sizes, stage, &read, &tasks),
        tasks: tasks.iter().map(|task| hashed.bindings(&read, task)).collect(),
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

/// Whether the task that reads most reads a fifth less than was planned.
fn is_better_balanced(sizes: &Sizes, stage: &Stage, pieces: &[Piece], tasks: &[Range<usize>]) -> bool {
    tasks.len() == stage.tasks.len() && most_bytes(pieces, tasks) * 5 < planned_most_bytes(sizes, stage) * 4
}

fn planned_most_bytes(sizes: &Sizes, stage: &Stage) -> u64 {
    let task = |task: &TaskBindings| {
        let first = task.first_partition as usize;
        sizes.all.get(first..first + task.partitions as usize).map_or(0, |bytes| bytes.iter().sum())
    };
    stage.tasks.iter().map(task).max().unwrap_or(0)
}

fn reason(sizes: &Sizes, stage: &Stage, pieces: &[Piece], tasks: &[Range<usize>]) -> String {
    let total = sizes.total();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (now, before) = (most_bytes(pieces, tasks), planned_most_bytes(sizes, stage));
    if let Some(largest) = pieces.iter().filter(|piece| piece.share.of > 1).max_by_key(|piece| sizes.all[piece.partitions.start]) {
        let (partition, bytes) = (largest.partitions.start, sizes.all[largest.partitions.start]);
        return format!(
            "partition {partition} is read in {} parts: {bytes} of {total} bytes came for it, and the largest task reads {now} instead of {before}",
            largest.share.of
        );
    }
    let planned = format!("{} in {}", counted(sizes.all.len(), "partition"), counted(stage.tasks.len(), "task"));
    if pieces.len() < sizes.all.len() {
        let now = format!("{} in {}", counted(pieces.len(), "partition"), counted(tasks.len(), "task"));
        return format!("{now} instead of {planned}: {total} bytes came");
    }
    format!("tasks of about equal bytes instead of partitions: of {total} the largest reads {now} instead of {before}")
}
