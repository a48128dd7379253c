//! Plans of stages whose inputs become others.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use volley_proto::{Edge, InputRead, StageId, StageInput};

use crate::exchange::ExchangeReadExec;
use crate::graph::{Stage, StageGraph};
use crate::leaf::LeafExec;

/// The exchange whose rows `plan` hands on, filtered and projected at most.
pub(super) fn exchange_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&ExchangeReadExec> {
    if let Some(leaf) = plan.downcast_ref::<LeafExec>() {
        return leaf.leaf().downcast_ref();
    }
    match plan.children()[..] {
        [child] if plan.fetch().is_none() && (plan.is::<ProjectionExec>() || plan.is::<FilterExec>()) => exchange_below(child),
        _ => None,
    }
}

/// `plan` with another leaf in the place of its only one.
pub(super) fn with_leaf(plan: &Arc<dyn ExecutionPlan>, leaf: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let replaced = Arc::clone(plan)
        .transform_up(|node| Ok(if node.is::<LeafExec>() { Transformed::yes(Arc::clone(leaf)) } else { Transformed::no(node) }))?;
    Ok(replaced.data)
}

/// How many inputs of stages are the output of `producer`.
pub(super) fn readers(graph: &StageGraph, producer: StageId) -> usize {
    graph.stages.iter().flat_map(|stage| &stage.shape.inputs).filter(|input| input.producer == producer).count()
}

/// How each producer of some stages is read.
pub(super) fn reads<'a>(stages: impl IntoIterator<Item = &'a Stage>) -> BTreeMap<StageId, InputRead> {
    stages.into_iter().flat_map(|stage| &stage.shape.inputs).map(|input| (input.producer, input.read)).collect()
}

/// A plan whose leaves are numbered, and what they read.
pub(super) struct Numbered {
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) inputs: Vec<StageInput>,
    pub(super) leaves: usize,
}

/// Numbers the leaves of a plan that was put together from others, and its inputs.
pub(super) fn numbered(plan: Arc<dyn ExecutionPlan>, reads: &BTreeMap<StageId, InputRead>) -> Result<Numbered> {
    let (mut inputs, mut leaves) = (vec![], 0);
    let plan = plan.transform_up(|node| {
        let Some(leaf) = node.downcast_ref::<LeafExec>() else { return Ok(Transformed::no(node)) };
        let inner = match leaf.leaf().downcast_ref::<ExchangeReadExec>() {
            Some(reader) => {
                let producer = reader.producer();
                let read = reads.get(&producer).copied();
                let read =
                    read.ok_or_else(|| DataFusionError::Internal(format!("a plan reads {producer}, which none of its parts read")))?;
                inputs.push(StageInput { producer, edge: Edge::Sealed, read });
                Arc::new(reader.as_input(inputs.len() - 1)) as Arc<dyn ExecutionPlan>
            }
            None => Arc::clone(leaf.leaf()),
        };
        leaves += 1;
        Ok(Transformed::yes(Arc::new(LeafExec::new(leaves - 1, inner)) as _))
    })?;
    Ok(Numbered { plan: plan.data, inputs, leaves })
}
