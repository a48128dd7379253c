//! With the cut: which joins tell scans of other stages what their build side has for keys ([`crate::build_keys`]).
//!
//! A scan that listens starts when the build side is complete. So a join tells only where its build side costs little beside such scans, and where
//! something on that side leaves rows out: all keys there are would drop nothing.

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
use crate::build_keys::can_tell;
use crate::exchange::Exchange;
use crate::graph::ClusterShape;
use crate::leaf::{LeafExec, file_scan};
use crate::options::VolleyOptions;

/// How many times the bytes of the build side listening scans must read, to wait for it.
const WORTH_WAITING: u64 = 2;
/// Bits of a Bloom filter for each key, where there is room.
const BITS_PER_KEY: u64 = 16;
/// Fewer say too little.
const LEAST_BITS_PER_KEY: u64 = 4;
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
    let (made_of, listening) = (size::scanned_bytes(join.left())?, listening_bytes(join.right(), id, false)?);
    if listening < WORTH_WAITING.saturating_mul(made_of) || listening == 0 {
        return Ok(None);
    }
    let Some(bloom_bytes) = bloom_bytes(join.left(), options, cluster)? else { return Ok(None) };
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

/// Bytes of the scans below an exchange that have the dynamic filter `id`.
fn listening_bytes(node: &Arc<dyn ExecutionPlan>, id: u64, is_elsewhere: bool) -> Result<u64> {
    if let Some(scan) = file_scan(node) {
        let listens = is_elsewhere && scan.file_source().filter().is_some_and(|predicate| has_filter(&predicate, id));
        return if listens { size::scanned_bytes(node) } else { Ok(0) };
    }
    let boundary = exchanges::boundary(node)?;
    let mut bytes = 0u64;
    for (place, child) in node.children().into_iter().enumerate() {
        let is_cut_off = match boundary {
            Some(Boundary::Replace { .. } | Boundary::Merge) => true,
            Some(Boundary::BroadcastLeft) => place == 0,
            None => false,
        };
        bytes = bytes.saturating_add(listening_bytes(child, id, is_elsewhere || is_cut_off)?);
    }
    Ok(bytes)
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

/// How large a Bloom filter of the rows of `build` is; `None` where it would say too little.
fn bloom_bytes(build: &Arc<dyn ExecutionPlan>, options: &VolleyOptions, cluster: ClusterShape) -> Result<Option<usize>> {
    let statistics = StatisticsContext::new().compute(build.as_ref(), &StatisticsArgs::new())?;
    let rows = match statistics.num_rows.get_value() {
        Some(rows) => *rows as u64,
        None => size::scanned_bytes(build)? / size::BYTES_PER_ROW,
    };
    let tasks = cluster.slots.max(1).saturating_mul(options.tasks_per_slot.max(1)) as u64;
    let most = (BLOOMS_BYTES / tasks).clamp(BLOOM_BYTES.0, BLOOM_BYTES.1);
    let bytes = (rows.saturating_mul(BITS_PER_KEY) / 8).clamp(BLOOM_BYTES.0, most).next_power_of_two().min(BLOOM_BYTES.1);
    Ok((bytes.saturating_mul(8) >= rows.saturating_mul(LEAST_BITS_PER_KEY)).then_some(bytes as usize))
}
