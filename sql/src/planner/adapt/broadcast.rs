//! A join by hash whose build side turns out small becomes one in which every task that makes rows of the probe side has all of the build side.
//!
//! The probe side's rows stay where they are made then, instead of being spread by their keys and read again: its stage is dropped, and the
//! join's stage does its work. So this is done as long as that stage has not started, as where it waits for what the build side tells.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use volley_proto::{InputRead, PartitionId, StageId, StageShape};

use super::super::{exchanges, joins, size, slices};
use super::hashed::taken_one_by_one;
use super::inputs::{Numbered, exchange_below, numbered, readers, reads, with_leaf};
use super::limits::Limits;
use super::progress::{Came, Progress};
use crate::build_keys::BuildKeysExec;
use crate::codec::TaskBindings;
use crate::exchange::{Exchange, ExchangeReadExec};
use crate::graph::{Stage, StageGraph};
use crate::leaf::LeafExec;

/// The stage, doing its probe side's work, and that of the probe side, which is dropped; `None` where the join stays as it is.
pub(super) fn switched(graph: &StageGraph, stage: &Stage, progress: &Progress, limits: &Limits) -> Result<Option<Vec<Stage>>> {
    let Exchange::Hash { .. } = stage.output else { return Ok(None) };
    let [plan] = stage.plan.children()[..] else { return Ok(None) };
    let Some(node) = join_by_hash(plan) else { return Ok(None) };
    let Some(join) = node.downcast_ref::<HashJoinExec>().filter(|join| joins::is_broadcast_safe(*join.join_type())) else {
        return Ok(None);
    };
    let Some((build, probe)) = exchange_below(join.left()).zip(exchange_below(join.right())) else { return Ok(None) };
    let Some(probe) = graph.stages.get(probe.producer().0 as usize) else { return Ok(None) };
    let Some(came) = progress.came(build.producer(), build.partitions().len()) else { return Ok(None) };
    if !is_alone(graph, stage, probe, progress) || !is_worth_it(came, probe, progress, limits)? {
        return Ok(None);
    }
    let plan = merged(plan, node, join, probe)?;
    let joined = joined(stage, probe, build.producer(), plan)?;
    let (build, probe_id, id) = (build.producer(), probe.shape.id, stage.shape.id);
    let why = format!("{} rows, {} bytes came from {build}", came.rows, came.bytes);
    let joined = Stage { adapted: Some(format!("every task joins with all of {build}, where {probe_id} would have run: {why}")), ..joined };
    Ok(Some(vec![dropped(probe, format!("{id} does its work: {why}")), joined]))
}

/// A stage that does not run.
pub(super) fn dropped(stage: &Stage, why: String) -> Stage {
    let shape = StageShape { tasks: 0, inputs: vec![], ..stage.shape.clone() };
    Stage { shape, tasks: vec![], adapted: Some(format!("dropped: {why}")), ..stage.clone() }
}

/// The first join by hash on the way down that rows of the probe side come up, whatever partition they are in.
fn join_by_hash(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    match plan.downcast_ref::<HashJoinExec>() {
        Some(join) if *join.partition_mode() == PartitionMode::Partitioned => taken_one_by_one(plan).map(|_| plan),
        _ => join_by_hash(taken_one_by_one(plan)?),
    }
}

/// Whether the probe side's stage runs as it was planned, has not started, and is there for nobody else.
fn is_alone(graph: &StageGraph, stage: &Stage, probe: &Stage, progress: &Progress) -> bool {
    let is_divided = probe.tasks.len() > 1 || probe.tasks.iter().all(|task| task.partitions == 1);
    let is_planned = probe.adapted.is_none() && stage.adapted.is_none();
    is_planned && is_divided && !progress.is_started(probe.shape.id) && readers(graph, probe.shape.id) == 1
}

/// Whether all tasks together read and build less than the probe side's stage reads.
fn is_worth_it(build: Came, probe: &Stage, progress: &Progress, limits: &Limits) -> Result<bool> {
    let copies = build.bytes.saturating_mul(probe.tasks.len() as u64);
    if build.bytes > limits.broadcast_bytes.min(limits.build_bytes) {
        return Ok(false);
    }
    let mut read = 0u64;
    probe.plan.apply(|node| {
        let Some(leaf) = node.downcast_ref::<LeafExec>() else { return Ok(TreeNodeRecursion::Continue) };
        read = read.saturating_add(match leaf.leaf().downcast_ref::<ExchangeReadExec>() {
            Some(reader) => progress.came(reader.producer(), reader.partitions().len()).map_or(0, |came| came.bytes),
            None => size::scanned_bytes(leaf.leaf())?,
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(copies <= read)
}

/// `plan`, in which `node` is the join, with the probe side's plan in its place.
fn merged(
    plan: &Arc<dyn ExecutionPlan>,
    node: &Arc<dyn ExecutionPlan>,
    join: &HashJoinExec,
    probe: &Stage,
) -> Result<Arc<dyn ExecutionPlan>> {
    let [rows] = probe.plan.children()[..] else { return Err(DataFusionError::Internal("an exchange writer has one input".into())) };
    let filters: Vec<_> = node.dynamic_expressions_produced().iter().filter_map(|filter| filter.expression_id()).collect();
    let rows = Arc::clone(rows).transform_up(|node| {
        // The join tells the scans itself now.
        let without = node.downcast_ref::<BuildKeysExec>().map(|keys| keys.without(&filters));
        Ok(without.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    let build = with_leaf(join.left(), &whole(join.left())?)?;
    let children = vec![build, with_leaf(join.right(), &rows.data)?];
    let collected = join.builder().with_partition_mode(PartitionMode::CollectLeft).with_new_children(children)?;
    let collected = collected.recompute_properties().build_exec()?;
    let merged = Arc::clone(plan).transform_down(|other| {
        Ok(if Arc::ptr_eq(&other, node) {
            Transformed::new(Arc::clone(&collected), true, TreeNodeRecursion::Stop)
        } else {
            Transformed::no(other)
        })
    })?;
    Ok(merged.data)
}

/// The leaf that reads all partitions of the exchange below `plan` as one.
fn whole(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let reader = exchange_below(plan).ok_or_else(|| DataFusionError::Internal("a build side reads no exchange".into()))?;
    let all: Vec<PartitionId> = reader.partitions().iter().flatten().copied().collect();
    let reader = ExchangeReadExec::new(reader.input(), reader.producer(), reader.schema(), vec![all], vec![]);
    Ok(Arc::new(LeafExec::new(0, Arc::new(reader))))
}

/// The stage that runs `plan`, in the tasks in which the probe side's stage would have run.
fn joined(stage: &Stage, probe: &Stage, build: StageId, plan: Arc<dyn ExecutionPlan>) -> Result<Stage> {
    let mut reads = reads([stage, probe]);
    reads.insert(build, InputRead::All);
    let Numbered { plan, inputs, leaves } = numbered(plan, &reads)?;
    let tasks = probe.tasks.iter().map(|task| {
        let (first, partitions) = (task.first_partition as usize, task.partitions as usize);
        Ok(TaskBindings::new(first, partitions, slices::leaf_contents(&plan, first..first + partitions, leaves)?))
    });
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let shape = StageShape {
        inputs,
        tasks: probe.shape.tasks,
        slots_per_task: probe.shape.slots_per_task,
        deterministic: exchanges::is_deterministic(&plan, &stage.output)?,
        ..stage.shape.clone()
    };
    let plan = replace_children_if_necessary(Arc::clone(&stage.plan), vec![plan])?;
    Ok(Stage { shape, plan, tasks, ..stage.clone() })
}
