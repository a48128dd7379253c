//! Pass 13, while a job runs: how a stage runs best, from the exact sizes of what it reads.
//!
//! Plans are made from estimates. Once what a stage reads is complete:
//!
//! * a join of which no row can come is not made, nor is what it would have read ([`empty`]);
//! * a join whose build side turned out small does the work of the stage that would have spread its probe side ([`broadcast`]);
//! * a join whose build side turned out larger than its probe side changes them ([`swap`]);
//! * small partitions are read together: each of them has all rows of its keys, so any number of them read as one gives the same rows;
//! * a partition that has far more than an even share is read in parts by several tasks, where the rows of one input make their results one by
//!   one: each part is what some of the producer's tasks wrote, and all parts read the other inputs whole;
//! * a partition whose build side is too large for a task's memory is joined in waves: each has some of its keys;
//! * tasks get partitions of about equal bytes instead of equal numbers of partitions, and no more build sides than they have room for.
//!
//! What a stage writes does not change, so that stages after it need not know.

mod broadcast;
mod empty;
mod hashed;
mod inputs;
mod limits;
mod pieces;
mod progress;
mod reason;
mod swap;

use std::ops::Range;

use datafusion::error::Result;
use volley_proto::{StageId, StageShape};

use self::hashed::Hashed;
pub use self::limits::Limits;
use self::pieces::{Piece, Sizes, most_bytes, pieces, tasks};
pub use self::progress::Progress;
use self::reason::{planned_most_bytes, reason};
use crate::exchange::{Exchange, Share};
use crate::graph::{Stage, StageGraph};

/// The stages that may run in another way, whatever the sizes of their inputs turn out to be.
pub fn adaptable(graph: &StageGraph) -> Vec<StageId> {
    graph.stages.iter().filter(|stage| matches!(Hashed::of(graph, stage), Ok(Some(_)))).map(|stage| stage.shape.id).collect()
}

/// The stages that change, where `stage` runs best in another way than it does now; none where something that this depends on is not complete.
pub fn adapt(graph: &StageGraph, stage: StageId, progress: &Progress, limits: &Limits) -> Result<Vec<Stage>> {
    let Some(stage) = graph.stages.get(stage.0 as usize) else { return Ok(vec![]) };
    let Some(hashed) = Hashed::of(graph, stage)? else { return Ok(vec![]) };
    if let Some(stages) = empty::emptied(graph, stage, progress, limits)? {
        return Ok(stages);
    }
    if let Some(stages) = broadcast::switched(graph, stage, progress, limits)? {
        return Ok(stages);
    }
    let Some(sizes) = hashed.sizes(graph, progress) else { return Ok(vec![]) };
    let Some((swapped, why)) = swap::swapped(stage, progress, limits)? else {
        return Ok(spread(stage, &hashed, sizes, limits).into_iter().collect());
    };
    // Its build sides are others now.
    let spread = match Hashed::of(graph, &swapped)? {
        Some(hashed) => hashed.sizes(graph, progress).and_then(|sizes| spread(&swapped, &hashed, sizes, limits)),
        None => None,
    };
    let stage = spread.unwrap_or(swapped);
    let adapted = stage.adapted.iter().fold(why, |all, other| format!("{all}; {other}"));
    Ok(vec![Stage { adapted: Some(adapted), ..stage }])
}

/// The stage with its partitions spread over tasks by their sizes; `None` where that is as it was planned.
fn spread(stage: &Stage, hashed: &Hashed, mut sizes: Sizes, limits: &Limits) -> Option<Stage> {
    let planned = stage.tasks.len();
    let mut read = pieces(&sizes, planned, limits);
    // Where a partition of the stage is one of its output, there must not be more of them than readers know.
    let is_spread_again = matches!(stage.output, Exchange::Hash { .. } | Exchange::Range { .. });
    if !is_spread_again && read.len() > hashed.partitions {
        (sizes.shared, sizes.has_waves) = (None, false);
        read = pieces(&sizes, planned, limits);
    }
    let tasks = tasks(&read, planned, limits);
    let is_same = read.len() == hashed.partitions && read.iter().all(|piece| piece.share == Share::WHOLE && piece.waves == 1);
    if is_same && tasks.len() <= planned && !is_better_balanced(&sizes, stage, &read, &tasks) {
        return None;
    }
    let slots_per_task = tasks.iter().map(Range::len).max().unwrap_or(1).clamp(1, limits.slots_per_task) as u32;
    let adapted = Some(reason(&sizes, stage, &read, &tasks));
    let shape = StageShape { tasks: tasks.len() as u32, slots_per_task, ..stage.shape.clone() };
    let tasks = tasks.iter().map(|task| hashed.bindings(&read, task)).collect();
    Some(Stage { shape, tasks, adapted, ..stage.clone() })
}

/// Whether the task that reads most reads a fifth less than was planned.
fn is_better_balanced(sizes: &Sizes, stage: &Stage, pieces: &[Piece], tasks: &[Range<usize>]) -> bool {
    tasks.len() == stage.tasks.len() && most_bytes(pieces, tasks) * 5 < planned_most_bytes(sizes, stage) * 4
}

impl StageGraph {
    /// The graph in which these stages take the places of those that have their ids.
    #[must_use]
    pub fn with_stages(&self, stages: impl IntoIterator<Item = Stage>) -> Self {
        let mut graph = self.clone();
        for stage in stages {
            if let Some(place) = graph.stages.get_mut(stage.shape.id.0 as usize) {
                *place = stage;
            }
        }
        graph
    }
}
