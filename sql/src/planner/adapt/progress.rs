//! How far a job has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use volley_proto::{PartitionStats, StageId};

/// What is known of a job's stages while it runs.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    complete: BTreeMap<StageId, Complete>,
    started: BTreeSet<StageId>,
}

#[derive(Debug, Clone)]
struct Complete {
    sizes: Arc<[PartitionStats]>,
    is_exact: bool,
}

/// Rows and bytes of an exchange, or of a partition of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Progress {
    /// A stage is complete. Unless they are exact, its sizes are those of rows which are not all there any more: an estimate.
    pub fn completed(&mut self, stage: StageId, sizes: Arc<[PartitionStats]>, is_exact: bool) {
        self.started.insert(stage);
        self.complete.insert(stage, Complete { sizes, is_exact });
    }

    /// Tasks of a stage have been launched.
    pub fn started(&mut self, stage: StageId) {
        self.started.insert(stage);
    }

    /// Whether tasks of the stage have been launched, as far as is known.
    pub(super) fn is_started(&self, stage: StageId) -> bool {
        self.started.contains(&stage)
    }

    /// Bytes of the first partitions of a complete stage; behind them is what it tells of its rows.
    pub(super) fn bytes(&self, stage: StageId, partitions: usize) -> Option<Vec<u64>> {
        Some(self.complete.get(&stage)?.sizes.iter().take(partitions).map(|size| size.bytes).collect())
    }

    /// What came of a complete stage, in so many partitions.
    pub(super) fn came(&self, stage: StageId, partitions: usize) -> Option<Came> {
        let sizes = self.complete.get(&stage)?.sizes.iter().take(partitions);
        Some(sizes.fold(Came::default(), |sum, size| Came { rows: sum.rows + size.rows, bytes: sum.bytes + size.bytes }))
    }

    /// Whether a complete stage has no row, for certain.
    pub(super) fn is_empty(&self, stage: StageId, partitions: usize) -> bool {
        self.complete.get(&stage).is_some_and(|complete| complete.is_exact)
            && self.came(stage, partitions).is_some_and(|came| came.rows == 0)
    }
}
