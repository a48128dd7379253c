//! From where on it is worth to change what was planned.

use crate::graph::ClusterShape;
use crate::options::VolleyOptions;

/// Bytes up to which partitions are read as one.
const PARTITION_BYTES: u64 = 1 << 20;
/// Bytes for which a task is worth what it costs, where every slot has one.
const TASK_BYTES: u64 = 2 << 20;
/// Bytes that one task reads in a moment.
const TINY_BYTES: u64 = 256 << 10;
/// Bytes that a part of a partition is worth.
const SPLIT_BYTES: u64 = 4 << 20;
/// The share of a slot's memory that build sides may take, as a divisor: the rest is for outputs, and for what else operators hold.
const BUILD_SHARE: u64 = 2;

/// From where on it is worth changing what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Slots of the cluster.
    pub slots: usize,
    /// Most slots that a task can get.
    pub slots_per_task: usize,
    /// Bytes up to which partitions are read as one.
    pub(super) partition_bytes: u64,
    pub(super) task_bytes: u64,
    pub(super) tiny_bytes: u64,
    /// Least bytes of a part of a partition.
    pub(super) split_bytes: u64,
    /// Most bytes of a build side that every task reads whole.
    pub(super) broadcast_bytes: u64,
    /// Bytes that the build sides of one task may take.
    pub(super) build_bytes: u64,
}

impl Limits {
    /// The limits of a session on a cluster; `None` where plans are not to be changed.
    pub fn new(options: &VolleyOptions, cluster: ClusterShape) -> Option<Self> {
        // Whoever asks for smaller partitions gets them.
        let least = options.min_bytes_per_partition;
        let slots_per_task = cluster.largest_slots.max(1);
        options.adapt.then(|| Self {
            slots: cluster.slots.max(1),
            slots_per_task,
            partition_bytes: PARTITION_BYTES.min(least),
            task_bytes: TASK_BYTES.min(least),
            tiny_bytes: TINY_BYTES.min(least),
            split_bytes: SPLIT_BYTES.min(least),
            broadcast_bytes: options.broadcast_bytes,
            build_bytes: (cluster.memory_bytes / slots_per_task as u64 / BUILD_SHARE).max(1),
        })
    }
}
