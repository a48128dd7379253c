//! Pass 2: how many partitions, from the bytes that leaves read.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs};

use crate::graph::ClusterShape;
use crate::leaf::file_scan;
use crate::options::VolleyOptions;

/// What a row is taken for where only the number of rows is known, in bytes.
pub(super) const BYTES_PER_ROW: u64 = 64;
/// Partitions for each slot beyond which more of them cost more than they save.
const PARTITIONS_PER_SLOT: usize = 16;

/// Whose slots a plan may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parallelism {
    /// The largest executor's.
    OneExecutor,
    /// All.
    Cluster,
}

impl Parallelism {
    /// The slots.
    pub(super) fn slots(self, cluster: ClusterShape) -> usize {
        match self {
            Self::OneExecutor => cluster.largest_slots.max(1),
            Self::Cluster => cluster.slots.max(1),
        }
    }
}

/// Partitions for `plan`: one for every `min_bytes_per_partition` that its leaves read, at least one for each slot, and a
/// multiple of the slots, so that the last wave is as full as the others.
pub(super) fn partitions(plan: &Arc<dyn ExecutionPlan>, options: &VolleyOptions, slots: usize) -> Result<usize> {
    let most = if options.max_partitions > 0 { options.max_partitions } else { slots * PARTITIONS_PER_SLOT };
    let wanted = usize::try_from(scanned_bytes(plan)?.div_ceil(options.min_bytes_per_partition)).unwrap_or(usize::MAX);
    let wanted = wanted.clamp(1, most.max(1)).max(slots.min(most.max(1)));
    Ok(if wanted > slots { wanted.next_multiple_of(slots).min(most.max(slots)) } else { wanted })
}

/// Bytes that the leaves of `plan` read, as estimated from file sizes and statistics.
pub(super) fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let mut bytes = 0u64;
    plan.apply(|node| {
        if node.children().is_empty() {
            bytes = bytes.saturating_add(leaf_bytes(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

fn leaf_bytes(leaf: &Arc<dyn ExecutionPlan>) -> u64 {
    if let Some(scan) = file_scan(leaf) {
        let files = scan.file_groups.iter().flat_map(|group| group.files());
        let bytes: u64 = files.map(|file| file.effective_size()).sum();
        // Formats that store columns apart read only those asked for.
        let columns = scan.file_schema().fields().len().max(1) as u64;
        let read = (leaf.schema().fields().len() as u64).clamp(1, columns);
        return if scan.file_source().file_type() == "parquet" { bytes / columns * read } else { bytes };
    }
    leaf.statistics_from_inputs(&[], &StatisticsArgs::new()).map_or(0, |statistics| statistics_bytes(&statistics))
}

fn statistics_bytes(statistics: &Statistics) -> u64 {
    match (statistics.total_byte_size.get_value(), statistics.num_rows.get_value()) {
        (Some(&bytes), _) => bytes as u64,
        (None, Some(&rows)) => rows as u64 * BYTES_PER_ROW,
        (None, None) => 0,
    }
}
