//! What windows in ranges need of other ranges: the rows that stand near each range in the order of all rows.
//!
//! ```text
//! rows ─ NeighbourRows, partial (each partition: the first and last rows of each range)
//!           └ gather ─ NeighbourRows, final (for each range, rows of the others) ─ beside the rows of each range
//! ```
//!
//! The rows have the number of their range and, after it, the columns that they are ordered by, which are all that they have. So rows that
//! tie are equal, and which of them is taken makes no difference.

mod exec;
mod kept;
mod node;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::error::{DataFusionError, Result};

pub(crate) use exec::NeighbourRowsExec;
pub(crate) use node::{NeighbourRows, NeighbourRowsPlanner};

/// How many rows of other ranges each range is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reach {
    /// The first ones of all rows.
    pub(crate) first: u64,
    /// Those that stand right before the range.
    pub(crate) before: u64,
    /// Those that stand right after it.
    pub(crate) after: u64,
    /// The last ones of all rows.
    pub(crate) last: u64,
}

impl Reach {
    /// What is enough for both.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            before: self.before.max(other.before),
            after: self.after.max(other.after),
            last: self.last.max(other.last),
        }
    }

    /// The most of its parts.
    pub(crate) fn most(self) -> u64 {
        self.first.max(self.before).max(self.after).max(self.last)
    }

    /// How many first rows of a range another may need.
    fn heads(self) -> usize {
        self.first.max(self.after) as usize
    }

    /// How many last rows of a range another may need.
    fn tails(self) -> usize {
        self.before.max(self.last) as usize
    }
}

/// Which rows an operator gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mode {
    /// The first and the last rows of each range.
    Partial,
    /// For each of so many ranges, the first of which has the number -1, rows of the others, with the number of the range that they are for.
    Final { ranges: u32 },
}

/// How the columns after the first are ordered.
pub(crate) type Order = Vec<SortOptions>;

/// The number of each row's range, of a batch whose first column it is.
fn ranges_of(batch: &RecordBatch) -> Result<&[i32]> {
    match batch.columns().first().and_then(|column| column.as_primitive_opt::<Int32Type>()) {
        Some(ranges) if ranges.null_count() == 0 => Ok(ranges.values()),
        _ => Err(DataFusionError::Internal("the first column of rows in ranges has no numbers of ranges".into())),
    }
}
