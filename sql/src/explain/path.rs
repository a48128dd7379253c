//! The chain of stages that a job's time went by: from the root, always to the input that was complete last.

use std::collections::BTreeMap;
use std::fmt::Write;

use volley_proto::StageId;

use super::StageMeasures;
use crate::graph::StageGraph;

/// The stages of the slowest path, the root first; none where nothing was measured.
pub(super) fn slowest(graph: &StageGraph, measured: &BTreeMap<StageId, StageMeasures>) -> Vec<StageId> {
    let ended = |id: &StageId| measured.get(id).map_or(0, |measures| measures.ended_ns);
    let mut path = vec![];
    let mut next = Some(graph.root()).filter(|root| ended(root) > 0);
    while let Some(id) = next {
        path.push(id);
        let inputs = graph.stages.get(id.0 as usize).map_or(&[][..], |stage| &stage.shape.inputs);
        next = inputs.iter().map(|input| input.producer).filter(|producer| ended(producer) > 0).max_by_key(|producer| ended(producer));
    }
    path
}

/// That path as text: how long each of its stages took after the one before it was complete.
pub(super) fn text(path: &[StageId], measured: &BTreeMap<StageId, StageMeasures>) -> String {
    let ended = |id: &StageId| measured.get(id).map_or(0, |measures| measures.ended_ns);
    let mut text = String::from("slowest path (marked *):");
    for (place, id) in path.iter().enumerate() {
        let before = path.get(place + 1).map_or(0, ended);
        // Writing to a String can't fail.
        let _ = write!(text, "{} {id} {:.3}s", if place > 0 { " <-" } else { "" }, ended(id).saturating_sub(before) as f64 / 1e9);
    }
    text
}
