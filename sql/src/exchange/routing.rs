//! How rows find their partition.

use std::fmt;
use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, RangePartitioning};
use itertools::Itertools;

/// How a producer's rows are spread over the partitions of its exchange.
#[derive(Debug, Clone)]
pub enum Exchange {
    /// By the hash of some expressions, so that equal keys meet.
    Hash {
        /// What is hashed.
        keys: Vec<Arc<dyn PhysicalExpr>>,
        /// Number of exchange partitions.
        partitions: usize,
    },
    /// By ranges of some expressions, so that each partition's rows come after those of the partition before.
    Range {
        /// The expressions, and where each range but the first begins.
        by: RangePartitioning,
    },
    /// Evenly, without regard to content.
    RoundRobin {
        /// Number of exchange partitions.
        partitions: usize,
    },
    /// Each stage partition stays one exchange partition; one consumer task reads them all, so that an order within each
    /// survives. The root stage's output is a gather that the client reads.
    Gather,
    /// As `Gather`, but every consumer task reads all of it.
    Broadcast,
}

impl Exchange {
    /// Number of exchange partitions, given how many partitions the producing stage has.
    pub fn partitions(&self, stage_partitions: usize) -> usize {
        match self {
            Self::Hash { partitions, .. } | Self::RoundRobin { partitions } => *partitions,
            Self::Range { by } => by.partition_count(),
            Self::Gather | Self::Broadcast => stage_partitions,
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash { keys, partitions } => write!(f, "Hash([{}], {partitions})", keys.iter().join(", ")),
            Self::Range { by } => write!(f, "Range([{}], {})", by.ordering(), by.partition_count()),
            Self::RoundRobin { partitions } => write!(f, "RoundRobin({partitions})"),
            Self::Gather => f.write_str("Gather"),
            Self::Broadcast => f.write_str("Broadcast"),
        }
    }
}
