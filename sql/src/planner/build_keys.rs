//! With the cut: which joins tell scans of other stages what their build side has for keys ([`crate::build_keys`]).
//!
//! A scan that listens starts when the build side is complete. So a join tells only where its build side costs little beside such scans, or has few
//! rows beside theirs: its tasks keep the slots busy meanwhile. And only where something on that side leaves rows out: all keys there are would
//! drop nothing.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};
use volley_proto::{PartitionId, StageId};

use super::exchanges::{self, Boundary};
use super::size;
use crate::build_keys::{BITS_PER_KEY, can_tell};
use crate::exchange::Exchange;
use crate::graph::ClusterShape;
use crate::leaf::{LeafExec, file_scan};
use crate::options::VolleyOptions;

/// How many times the bytes of the build side listening scans must read, to wait for it whatever it leaves out.
const WORTH_WAITING: u64 = 2;
/// How many times the rows of the build side listening scans must have, to wait for it though it costs as much as they do.
const WORTH_ITS_ROWS: u64 = 4;
/// How many times the bytes of listening scans the build side may read, so that most of the cluster does not wait for the last of its tasks.
const LONGEST_WAIT: u64 = 4;
/// Fewer for each row that is expected are not tried, though far fewer rows than expected may come: what came decides whether a filter is told.
const LEAST_BITS_PER_KEY: u64 = 1;
/// Bytes of a Bloom filter: at least, and at most.
const BLOOM_BYTES: (u64, u64) = (1 << 14, 4 << 20);
/// Bytes of the Bloom filters of all tasks of a build side, each of which every listening task reads.
const BLOOMS_BYTES: u64 = 32 << 20;

/// A join that tells.
pub(super) struct Teller {
    /// What listening scans have.
    pub(super) filter: Arc<DynamicFilterPhysicalExpr>,
    /// Its id.
    pub(super) id: u64,
    /// Over the build side's rows.
    pub(super) keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Of a task's Bloom filter.
    pub(super) bloom_bytes: usize,
}

/// The stage of a build side whose keys are told.
pub(super) struct Teaching {
    /// What listening scans have.
    pub(super) filter: Arc<DynamicFilterPhysicalExpr>,
    /// Its id.
    pub(super) id: u64,
    /// The stage.
    pub(super) stage: StageId,
    /// Where in its output it is told.
    pub(super) partition: PartitionId,
    /// How it is told.
    pub(super) schema: SchemaRef,
}

/// How `node` tells its keys, if it is a join whose build side is cut off and for whose keys scans should wait.
pub(super) fn teller(node: &Arc<dyn ExecutionPlan>, options: &VolleyOptions, cluster: ClusterShape) -> Result<Option<Teller>> {
    let Some(join) = node.downcast_ref::<HashJoinExec>().filter(|_| options.build_keys) else { return Ok(None) };
    let Some(filter) = node.dynamic_expressions_produced().into_iter().find_map(dynamic_filter) else { return Ok(None) };
    let Some(id) = filter.expression_id() else { return Ok(None) };
    let schema = join.left().schema();
    for (left, right) in join.on() {
        if !left.is::<Column>() || !right.is::<Column>() || !can_tell(&left.data_type(&schema)?) {
            return Ok(None);
        }
    }
    if join.null_equality() != NullEquality::NullEqualsNothing || !is_cut_off(node, join)? || !leaves_rows_out(join.left())? {
        return Ok(None);
    }
    let (made_of, rows) = (size::scanned_bytes(join.left())?, estimated_rows(join.left())?);
    if !Scans::listening(join.right(), id, false)?.are_worth_waiting(made_of, rows) {
        return Ok(None);
    }
    let Some(bloom_bytes) = bloom_bytes(rows, options, cluster) else { return Ok(None) };
    let keys = join.on().iter().map(|(left, _)| Arc::clone(left)).collect();
    Ok(Some(Teller { filter, id, keys, bloom_bytes }))
}

fn dynamic_filter(expr: Arc<dyn PhysicalExpr>) -> Option<Arc<DynamicFilterPhysicalExpr>> {
    Arc::downcast(expr as Arc<dyn Any + Send + Sync>).ok()
}

/// Whether the build side is a stage of its own.
fn is_cut_off(node: &Arc<dyn ExecutionPlan>, join: &HashJoinExec) -> Result<bool> {
    Ok(match join.partition_mode() {
        PartitionMode::Partitioned => {
            matches!(exchanges::boundary(join.left())?, Some(Boundary::Replace { exchange: Exchange::Hash { .. } }))
        }
        _ => matches!(exchanges::boundary(node)?, Some(Boundary::BroadcastLeft)),
    })
}

fn leaves_rows_out(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| {
        let selects = |join: &HashJoinExec| {
            matches!(join.join_type(), JoinType::LeftSemi | JoinType::RightSemi | JoinType::LeftAnti | JoinType::RightAnti)
        };
        Ok(node.is::<FilterExec>() || node.fetch().is_some() || node.downcast_ref::<HashJoinExec>().is_some_and(selects))
    })
}

/// Scans below an exchange that have a dynamic filter.
#[derive(Debug, Clone, Copy, Default)]
struct Scans {
    bytes: u64,
    rows: u64,
}

impl Scans {
    /// Those that have the dynamic filter `id`.
    fn listening(node: &Arc<dyn ExecutionPlan>, id: u64, is_elsewhere: bool) -> Result<Self> {
        if let Some(scan) = file_scan(node) {
            let listens = is_elsewhere && scan.file_source().filter().is_some_and(|predicate| has_filter(&predicate, id));
            return if listens { Ok(Self { bytes: size::scanned_bytes(node)?, rows: estimated_rows(node)? }) } else { Ok(Self::default()) };
        }
        let boundary = exchanges::boundary(node)?;
        let mut scans = Self::default();
        for (place, child) in node.children().into_iter().enumerate() {
            let is_cut_off = match boundary {
                Some(Boundary::Replace { .. } | Boundary::Merge) => true,
                Some(Boundary::BroadcastLeft) => place == 0,
                None => false,
            };
            let more = Self::listening(child, id, is_elsewhere || is_cut_off)?;
            scans = Self { bytes: scans.bytes.saturating_add(more.bytes), rows: scans.rows.saturating_add(more.rows) };
        }
        Ok(scans)
    }

    /// Whether they should wait for a build side that reads `made_of` bytes and has `rows` rows.
    fn are_worth_waiting(self, made_of: u64, rows: u64) -> bool {
        let costs_little = self.bytes >= WORTH_WAITING.saturating_mul(made_of);
        let has_few = self.rows >= WORTH_ITS_ROWS.saturating_mul(rows) && made_of <= LONGEST_WAIT.saturating_mul(self.bytes);
        self.bytes > 0 && (costs_little || has_few)
    }
}

/// Rows of a plan, as statistics or sizes tell.
fn estimated_rows(plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    Ok(match statistics.num_rows.get_value() {
        Some(rows) => *rows as u64,
        None => size::scanned_bytes(plan)? / size::BYTES_PER_ROW,
    })
}

fn has_filter(predicate: &Arc<dyn PhysicalExpr>, id: u64) -> bool {
    let is_it = |part: &Arc<dyn PhysicalExpr>| part.is::<DynamicFilterPhysicalExpr>() && part.expression_id() == Some(id);
    predicate.exists(|part| Ok(is_it(part))).unwrap_or(false)
}

/// Whether a scan of a stage's plan has the dynamic filter `id`.
pub(super) fn listens(plan: &Arc<dyn ExecutionPlan>, id: u64) -> Result<bool> {
    plan.exists(|node| {
        let scan = node.downcast_ref::<LeafExec>().and_then(|leaf| file_scan(leaf.leaf()));
        Ok(scan.and_then(|scan| scan.file_source().filter()).is_some_and(|predicate| has_filter(&predicate, id)))
    })
}

/// How large a Bloom filter of so many rows is; `None` where it would say too little.
fn bloom_bytes(rows: u64, options: &VolleyOptions, cluster: ClusterShape) -> Option<usize> {
    let tasks = cluster.slots.max(1).saturating_mul(options.tasks_per_slot.max(1)) as u64;
    let most = (BLOOMS_BYTES / tasks).clamp(BLOOM_BYTES.0, BLOOM_BYTES.1);
    let bytes = (rows.saturating_mul(BITS_PER_KEY) / 8).clamp(BLOOM_BYTES.0, most).next_power_of_two().min(BLOOM_BYTES.1);
    (bytes.saturating_mul(8) >= rows.saturating_mul(LEAST_BITS_PER_KEY)).then_some(bytes as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_wait_for_what_costs_little_or_has_few_rows() {
        let scans = Scans { bytes: 1000, rows: 1000 };
        for (made_of, rows, waits) in
            [(500, 1000, true), (501, 1000, false), (501, 250, true), (501, 251, false), (4000, 0, true), (4001, 0, false)]
        {
            assert_eq!(scans.are_worth_waiting(made_of, rows), waits, "{made_of} bytes, {rows} rows");
        }
        assert!(!Scans::default().are_worth_waiting(0, 0), "nobody listens");
    }
}
