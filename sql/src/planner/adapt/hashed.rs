//! Which stages may read their partitions in another way, and what a task reads then.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use volley_proto::{InputRead, PartitionId, StageId};

use super::super::slices;
use super::pieces::{Piece, Sizes};
use super::progress::Progress;
use crate::codec::{ExchangeSlices, LeafContent, TaskBindings};
use crate::exchange::{Exchange, ExchangeReadExec, Part, Share, Wave};
use crate::graph::{Stage, StageGraph};
use crate::leaf::{LeafExec, LeafKind};
use crate::merge::OneMatchExec;
use crate::write::StagedWriteExec;

/// A stage all of whose inputs are spread by the hash of a key, or read whole by every task.
pub(super) struct Hashed {
    pub(super) partitions: usize,
    leaves: Vec<Leaf>,
    /// The leaf whose rows the operators above take one by one, so that several local partitions may share a partition of it.
    shared: Option<usize>,
}

/// What a leaf reads.
enum Leaf {
    /// A slice of a stage's output.
    Spread(Spread),
    /// The same in every task.
    Whole(LeafContent),
}

/// An exchange of which each task reads some partitions.
struct Spread {
    producer: StageId,
    /// The columns by whose hash rows are spread; `None` where that is of something else.
    keys: Option<Vec<usize>>,
    /// Whether a join holds its rows in memory.
    is_built: bool,
}

impl Hashed {
    pub(super) fn of(graph: &StageGraph, stage: &Stage) -> Result<Option<Self>> {
        let [plan] = stage.plan.children()[..] else { return Ok(None) };
        let partitions = plan.output_partitioning().partition_count();
        // The order of its rows, and of the tasks that they are of, is what a client sees of the root.
        if stage.shape.id == graph.root()
            || stage.tasks.len() < 2
            || !may_move(graph, stage)
            || plan.exists(|node| Ok(node.is::<StagedWriteExec>()))?
        {
            return Ok(None);
        }
        let mut found = vec![];
        plan.apply(|node| {
            found.extend(node.downcast_ref::<LeafExec>().map(|leaf| (leaf.index(), Arc::clone(node))));
            Ok(TreeNodeRecursion::Continue)
        })?;
        found.sort_by_key(|(index, _)| *index);
        if found.iter().any(|(_, leaf)| leaf.downcast_ref::<LeafExec>().is_none_or(|leaf| leaf.kind() != LeafKind::Exchange)) {
            return Ok(None);
        }
        let [all, first] = [0..partitions, 0..1].map(|slice| slices::leaf_contents(plan, slice, found.len()));
        let (Ok(all), Ok(first)) = (all, first) else { return Ok(None) };
        let built = built(plan)?;
        let mut leaves = vec![];
        for (((index, leaf), all), first) in found.iter().zip(all).zip(first) {
            leaves.push(match spread(graph, stage, leaf, partitions, built.contains(index)) {
                _ if all == first => Leaf::Whole(all),
                Some(spread) => Leaf::Spread(spread),
                None => return Ok(None),
            });
        }
        // Every part makes the build sides anew: they must come out the same, and no operator may know of other parts.
        let may_repeat = stage.shape.deterministic && !plan.exists(|node| Ok(node.is::<OneMatchExec>()))?;
        let shared = one_by_one(plan).filter(|shared| may_repeat && matches!(leaves.get(*shared), Some(Leaf::Spread(_))));
        let is_spread = leaves.iter().any(|leaf| matches!(leaf, Leaf::Spread(_)));
        Ok(is_spread.then_some(Self { partitions, leaves, shared }))
    }

    /// What came for each partition; `None` where something is not complete.
    pub(super) fn sizes(&self, graph: &StageGraph, progress: &Progress) -> Option<Sizes> {
        let mut sizes = Sizes { all: vec![0; self.partitions], built: vec![0; self.partitions], shared: None, has_waves: true };
        for (place, leaf) in self.leaves.iter().enumerate() {
            let Leaf::Spread(Spread { producer, keys, is_built }) = leaf else { continue };
            let bytes = progress.bytes(*producer, self.partitions)?;
            sizes.all.iter_mut().zip(&bytes).for_each(|(sum, bytes)| *sum += bytes);
            if *is_built {
                sizes.built.iter_mut().zip(&bytes).for_each(|(sum, bytes)| *sum += bytes);
            }
            sizes.has_waves &= keys.is_some();
            if self.shared == Some(place) && bytes.len() == self.partitions {
                sizes.shared = graph.stages.get(producer.0 as usize).map(|producer| (bytes, producer.shape.tasks));
            }
        }
        Some(sizes)
    }

    /// What a task reads that runs some of these pieces.
    pub(super) fn bindings(&self, pieces: &[Piece], task: &Range<usize>) -> TaskBindings {
        let content = |(place, leaf): (usize, &Leaf)| match leaf {
            Leaf::Whole(content) => content.clone(),
            Leaf::Spread(Spread { keys, .. }) => {
                let slice = |piece: &Piece| {
                    let share = if self.shared == Some(place) { piece.share } else { Share::WHOLE };
                    let wave = keys.clone().filter(|_| piece.waves > 1).map(|keys| Wave { keys, number: piece.wave, of: piece.waves });
                    (piece.partitions.clone().map(|partition| PartitionId(partition as u32)).collect(), Part { share, wave })
                };
                LeafContent::Exchange(ExchangeSlices::in_parts(pieces[task.clone()].iter().map(slice)))
            }
        };
        TaskBindings::new(task.start, task.len(), self.leaves.iter().enumerate().map(content).collect())
    }
}

/// What a leaf reads partition by partition, if its rows are spread by the hash of a key.
fn spread(graph: &StageGraph, stage: &Stage, leaf: &Arc<dyn ExecutionPlan>, partitions: usize, is_built: bool) -> Option<Spread> {
    let reader = leaf.downcast_ref::<LeafExec>()?.leaf().downcast_ref::<ExchangeReadExec>()?;
    let producer = graph.stages.get(reader.producer().0 as usize)?;
    let Exchange::Hash { keys, partitions: by } = &producer.output else { return None };
    let is_sliced = stage.shape.inputs.get(reader.input())?.read == InputRead::Slice;
    let each = reader.partitions().len() == partitions
        && reader.partitions().iter().enumerate().all(|(place, read)| matches!(read[..], [id] if id.0 as usize == place));
    let keys = keys.iter().map(|key| key.downcast_ref::<Column>().map(Column::index)).collect();
    (*by == partitions && is_sliced && each && reader.orderings().is_empty()).then_some(Spread {
        producer: producer.shape.id,
        keys,
        is_built,
    })
}

/// The leaves, by index, whose rows joins by hash hold in memory.
fn built(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<usize>> {
    let mut built = vec![];
    plan.apply(|node| {
        if let Some(join) = node.downcast_ref::<HashJoinExec>().filter(|join| *join.partition_mode() == PartitionMode::Partitioned) {
            join.left().apply(|node| {
                built.extend(node.downcast_ref::<LeafExec>().map(LeafExec::index));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(built)
}

/// Whether it makes no difference to readers which of the stage's partitions a row is made in.
fn may_move(graph: &StageGraph, stage: &Stage) -> bool {
    match stage.output {
        Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Broadcast => true,
        Exchange::RoundRobin { .. } => false,
        Exchange::Gather => graph.stages.iter().all(|consumer| {
            let reads = consumer.shape.inputs.iter().any(|input| input.producer == stage.shape.id);
            !reads || consumer.tasks.len() == 1
        }),
    }
}

/// The leaf, by index, each of whose rows makes the same of the stage's rows whatever other rows come with it: the last of the probe sides,
/// as long as no join has to know all rows of its probe side at the end.
fn one_by_one(node: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    match node.downcast_ref::<LeafExec>() {
        Some(leaf) => Some(leaf.index()),
        None => one_by_one(taken_one_by_one(node)?),
    }
}

/// The input of an operator each of whose rows makes the same of the operator's rows whatever other rows come with it.
pub(super) fn taken_one_by_one(node: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    if node.fetch().is_some() {
        return None;
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let of_probe_rows = matches!(join.join_type(), JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
        return (of_probe_rows && !join.null_aware).then(|| join.right());
    }
    let is_partial = |aggregate: &AggregateExec| *aggregate.mode() == AggregateMode::Partial && aggregate.limit_options().is_none();
    let passes = node.is::<ProjectionExec>() || node.is::<FilterExec>() || node.downcast_ref::<AggregateExec>().is_some_and(is_partial);
    match node.children()[..] {
        [child] if passes => Some(child),
        _ => None,
    }
}
