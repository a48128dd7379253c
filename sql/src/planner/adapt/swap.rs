//! A join builds from the smaller of its inputs, whatever was expected of them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use volley_proto::StageId;

use super::inputs::exchange_below;
use super::limits::Limits;
use super::progress::{Came, Progress};
use crate::graph::Stage;

/// How many times the rows and bytes of the probe side a build side must have, to change places with it.
const WORTH_SWAPPING: u64 = 2;

/// The stage with joins by hash that build from the smaller of their inputs, and why; `None` where all of them do. Only joins that read
/// exchanges on both sides: what else is below the probe side may rely on what the build side tells it.
pub(super) fn swapped(stage: &Stage, progress: &Progress, limits: &Limits) -> Result<Option<(Stage, String)>> {
    let mut reasons = vec![];
    let plan = Arc::clone(&stage.plan).transform_up(|node| {
        let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
        let sides = side(join.left(), progress).zip(side(join.right(), progress));
        let Some((build, probe)) = sides.filter(|(build, probe)| is_worth_it(join, build.1, probe.1, limits)) else {
            return Ok(Transformed::no(node));
        };
        reasons.push(reason(build, probe));
        Ok(Transformed::yes(swap(join)?))
    })?;
    if reasons.is_empty() {
        return Ok(None);
    }
    Ok(Some((Stage { plan: plan.data, ..stage.clone() }, reasons.join("; "))))
}

/// What a side of a join reads, if it is complete.
fn side(plan: &Arc<dyn ExecutionPlan>, progress: &Progress) -> Option<(StageId, Came)> {
    let producer = exchange_below(plan)?.producer();
    Some((producer, progress.came(producer, plan.output_partitioning().partition_count())?))
}

fn is_worth_it(join: &HashJoinExec, build: Came, probe: Came, limits: &Limits) -> bool {
    let is_larger = build.rows >= WORTH_SWAPPING * probe.rows && build.bytes >= WORTH_SWAPPING * probe.bytes;
    let may_swap = *join.partition_mode() == PartitionMode::Partitioned && !join.null_aware && join.fetch().is_none();
    may_swap && is_larger && build.bytes > limits.partition_bytes
}

fn swap(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    // Without what the join tells scans below its probe side: there are none.
    HashJoinExecBuilder::new(Arc::clone(join.left()), Arc::clone(join.right()), join.on().to_vec(), *join.join_type())
        .with_filter(join.filter().cloned())
        .with_projection_ref(join.projection.clone())
        .with_partition_mode(PartitionMode::Partitioned)
        .with_null_equality(join.null_equality())
        .build()?
        .swap_inputs(PartitionMode::Partitioned)
}

fn reason((build, of_build): (StageId, Came), (probe, of_probe): (StageId, Came)) -> String {
    format!(
        "the join builds from {probe} instead of {build}: {} rows, {} bytes came from {probe}, {} rows, {} bytes from {build}",
        of_probe.rows, of_probe.bytes, of_build.rows, of_build.bytes
    )
}
