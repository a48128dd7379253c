//! What was decided about a stage's tasks and why, for people.

use std::ops::Range;

use super::pieces::{Piece, Sizes, most_bytes};
use crate::codec::TaskBindings;
use crate::graph::Stage;

pub(super) fn reason(sizes: &Sizes, stage: &Stage, pieces: &[Piece], tasks: &[Range<usize>]) -> String {
    let total = sizes.total();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (now, before) = (most_bytes(pieces, tasks), planned_most_bytes(sizes, stage));
    if let Some(largest) = pieces.iter().filter(|piece| piece.waves > 1).max_by_key(|piece| sizes.built[piece.partitions.start]) {
        let (partition, built) = (largest.partitions.start, sizes.built[largest.partitions.start]);
        return format!(
            "partition {partition} is joined in {} waves: {built} bytes came for its build side, more than a task has room for",
            largest.waves
        );
    }
    if let Some(largest) = pieces.iter().filter(|piece| piece.share.of > 1).max_by_key(|piece| sizes.all[piece.partitions.start]) {
        let (partition, bytes) = (largest.partitions.start, sizes.all[largest.partitions.start]);
        return format!(
            "partition {partition} is read in {} parts: {bytes} of {total} bytes came for it, and the largest task reads {now} instead of {before}",
            largest.share.of
        );
    }
    let planned = format!("{} in {}", counted(sizes.all.len(), "partition"), counted(stage.tasks.len(), "task"));
    let as_it_is = format!("{} in {}", counted(pieces.len(), "partition"), counted(tasks.len(), "task"));
    if pieces.len() < sizes.all.len() {
        return format!("{as_it_is} instead of {planned}: {total} bytes came");
    }
    if tasks.len() > stage.tasks.len() {
        let built: u64 = sizes.built.iter().sum();
        return format!("{as_it_is} instead of {planned}: {built} bytes came for build sides, more than fewer tasks have room for");
    }
    format!("tasks of about equal bytes instead of partitions: of {total} the largest reads {now} instead of {before}")
}

/// Bytes of the planned task that reads most.
pub(super) fn planned_most_bytes(sizes: &Sizes, stage: &Stage) -> u64 {
    let task = |task: &TaskBindings| {
        let first = task.first_partition as usize;
        sizes.all.get(first..first + task.partitions as usize).map_or(0, |bytes| bytes.iter().sum())
    };
    stage.tasks.iter().map(task).max().unwrap_or(0)
}
