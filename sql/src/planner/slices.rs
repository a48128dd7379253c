//! What the leaves of a stage's plan read in a task that runs a slice of the stage's partitions.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::exchanges::collected_left;
use crate::build_keys::BuildKeysExec;
use crate::catalog::GeneratorExec;
use crate::codec::{ExchangeSlices, FileGroups, GeneratorSlices, LeafContent};
use crate::exchange::ExchangeReadExec;
use crate::leaf::{LeafExec, LeafKind, file_scan};

/// The content of each of `leaves` leaves, by index, when a task runs `slice` of the partitions of `plan`.
pub(super) fn leaf_contents(plan: &Arc<dyn ExecutionPlan>, slice: Range<usize>, leaves: usize) -> Result<Vec<LeafContent>> {
    let mut contents = vec![None; leaves];
    visit(plan, slice, &mut contents)?;
    contents.into_iter().enumerate().map(|(index, content)| content.ok_or_else(|| unreached(index))).collect()
}

fn visit(node: &Arc<dyn ExecutionPlan>, slice: Range<usize>, contents: &mut Vec<Option<LeafContent>>) -> Result<()> {
    if let Some(leaf) = node.downcast_ref::<LeafExec>() {
        let content = leaf_content(leaf, slice)?;
        let place = contents.get_mut(leaf.index());
        *place.ok_or_else(|| DataFusionError::Internal(format!("a stage has no leaf {}", leaf.index())))? = Some(content);
        return Ok(());
    }
    if let Some(union) = node.downcast_ref::<UnionExec>() {
        return visit_union(union, slice, contents);
    }
    let partitions = node.output_partitioning().partition_count();
    let collected = collected_left(node).map(|(left, _)| Arc::clone(left));
    for child in node.children() {
        let child_partitions = child.output_partitioning().partition_count();
        let is_collected = collected.as_ref().is_some_and(|left| Arc::ptr_eq(left, child));
        if is_collected || BuildKeysExec::reads_whole(node, child) || (partitions == 1 && child_partitions != 1) {
            // Whoever runs this node needs all of the child; a task that does not run it needs nothing.
            let all = if slice.is_empty() { 0..0 } else { 0..child_partitions };
            visit(child, all, contents)?;
        } else if child_partitions == partitions {
            visit(child, slice.clone(), contents)?;
        } else {
            return Err(DataFusionError::Internal(format!(
                "{} has {partitions} partitions and an input of {child_partitions}: it can't be split into tasks",
                node.name()
            )));
        }
    }
    Ok(())
}

/// A union's partitions are those of its inputs, one after the other.
fn visit_union(union: &UnionExec, slice: Range<usize>, contents: &mut Vec<Option<LeafContent>>) -> Result<()> {
    let mut first = 0;
    for input in union.inputs() {
        let partitions = input.output_partitioning().partition_count();
        let end = first + partitions;
        let (from, to) = (slice.start.clamp(first, end), slice.end.clamp(first, end));
        visit(input, from - first..to.max(from) - first, contents)?;
        first = end;
    }
    Ok(())
}

fn leaf_content(leaf: &LeafExec, slice: Range<usize>) -> Result<LeafContent> {
    let out_of_range = || DataFusionError::Internal(format!("leaf {} has no partitions {slice:?}", leaf.index()));
    match leaf.kind() {
        LeafKind::Files => {
            let scan = file_scan(leaf.leaf()).ok_or_else(out_of_range)?;
            let groups = scan.file_groups.get(slice.clone()).ok_or_else(out_of_range)?;
            Ok(LeafContent::Files(FileGroups::try_new(scan, groups)?))
        }
        LeafKind::Exchange => {
            let read = leaf.leaf().downcast_ref::<ExchangeReadExec>().ok_or_else(out_of_range)?;
            let slices = read.partitions().get(slice.clone()).ok_or_else(out_of_range)?;
            Ok(LeafContent::Exchange(ExchangeSlices::new(slices.iter().cloned())))
        }
        LeafKind::Generator => {
            let generator = leaf.leaf().downcast_ref::<GeneratorExec>().ok_or_else(out_of_range)?;
            let parts = generator.partitions().get(slice.clone()).ok_or_else(out_of_range)?;
            Ok(LeafContent::Generator(GeneratorSlices::new(parts)))
        }
        LeafKind::Whole => {
            let partitions = leaf.leaf().output_partitioning().partition_count();
            if slice.len() == partitions || slice.is_empty() { Ok(LeafContent::Whole(!slice.is_empty())) } else { Err(out_of_range()) }
        }
    }
}

/// The content of every leaf when one task runs the whole plan.
pub(super) fn all_contents(plan: &Arc<dyn ExecutionPlan>, leaves: usize) -> Result<Vec<LeafContent>> {
    let mut contents = vec![None; leaves];
    plan.apply(|node| {
        if let Some(leaf) = node.downcast_ref::<LeafExec>() {
            visit(node, 0..leaf.leaf().output_partitioning().partition_count(), &mut contents)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    contents.into_iter().enumerate().map(|(index, content)| content.ok_or_else(|| unreached(index))).collect()
}

fn unreached(index: usize) -> DataFusionError {
    DataFusionError::Internal(format!("leaf {index} of a stage was not reached when its tasks were bound"))
}
