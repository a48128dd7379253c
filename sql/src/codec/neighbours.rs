//! The operator that gives rows of ranges to other ranges, in a plan's bytes.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;

use super::messages::{ColumnOrder, NeighbourRowsNode};
use crate::neighbours::{Mode, NeighbourRowsExec, Reach};

pub(super) fn encode(node: &NeighbourRowsExec) -> NeighbourRowsNode {
    let Reach { first, before, after, last } = node.reach();
    let order = |options: &SortOptions| ColumnOrder { descending: options.descending, nulls_first: options.nulls_first };
    let ranges = match node.mode() {
        Mode::Partial => None,
        Mode::Final { ranges } => Some(*ranges),
    };
    NeighbourRowsNode { order: node.order().iter().map(order).collect(), first, before, after, last, ranges }
}

pub(super) fn decode(node: &NeighbourRowsNode, input: Arc<dyn ExecutionPlan>) -> Result<NeighbourRowsExec> {
    let order = node.order.iter().map(|order| SortOptions { descending: order.descending, nulls_first: order.nulls_first });
    let reach = Reach { first: node.first, before: node.before, after: node.after, last: node.last };
    let mode = node.ranges.map_or(Mode::Partial, |ranges| Mode::Final { ranges });
    NeighbourRowsExec::try_new(input, order.collect(), reach, mode)
}
