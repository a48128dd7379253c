//! Random stage graphs, and random changes to them as a planner makes in mid job.

use volley_proto::{Edge, InputRead, StageId, StageInput, StageShape};

use super::rng::Rng;

/// A graph of a few stages, each of which is read by another one, but for the last. The flags say which stages end early.
pub(super) fn random_graph(rng: &mut Rng) -> (Vec<StageShape>, Vec<bool>) {
    let count = rng.within(1, 7) as u32;
    let streaming = rng.pick(&[0, 0, 300, 700]);
    let indeterminate = rng.pick(&[0, 200, 500]);
    let mut shapes: Vec<StageShape> = (0..count).map(|id| random_stage(rng, id, indeterminate)).collect();
    if rng.permille(4) {
        let large = rng.within(0, u64::from(count)) as usize;
        shapes[large].tasks *= 70;
    }
    for producer in 0..count.saturating_sub(1) {
        let consumer = rng.within(u64::from(producer) + 1, u64::from(count)) as usize;
        shapes[consumer].inputs.push(random_input(rng, producer, streaming));
        if rng.permille(200) {
            let other = rng.within(u64::from(producer) + 1, u64::from(count)) as usize;
            shapes[other].inputs.push(random_input(rng, producer, streaming));
        }
    }
    let limits = shapes.iter().map(|shape| !shape.inputs.is_empty() && rng.permille(120)).collect::<Vec<_>>();
    for (shape, _) in shapes.iter_mut().zip(&limits).filter(|(_, limit)| **limit) {
        shape.deterministic = false;
    }
    (shapes, limits)
}

fn random_stage(rng: &mut Rng, id: u32, indeterminate: u64) -> StageShape {
    StageShape {
        id: StageId(id),
        inputs: Vec::new(),
        tasks: if rng.permille(30) { 0 } else { rng.within(1, 7) as u32 },
        slots_per_task: rng.pick(&[1, 1, 1, 2, 4]),
        output_partitions: rng.within(1, 6) as u32,
        deterministic: !rng.permille(indeterminate),
    }
}

fn random_input(rng: &mut Rng, producer: u32, streaming: u64) -> StageInput {
    StageInput {
        producer: StageId(producer),
        edge: if rng.permille(streaming) { Edge::Streaming } else { Edge::Sealed },
        read: if rng.permille(250) { InputRead::All } else { InputRead::Slice },
    }
}

/// A changed list of stages that leaves alone what `started` says has been launched, or `None`.
pub(super) fn random_change(rng: &mut Rng, shapes: &[StageShape], started: &[bool]) -> Option<Vec<StageShape>> {
    let mut shapes = shapes.to_vec();
    let open: Vec<usize> = (0..shapes.len()).filter(|stage| !started[*stage]).collect();
    if open.is_empty() || rng.permille(300) {
        return None;
    }
    match rng.within(0, 3) {
        0 => {
            let stage = rng.pick(&open);
            shapes[stage].tasks = rng.within(1, 5) as u32;
        }
        1 => {
            let stage = rng.pick(&open);
            let is_root = stage + 1 == shapes.len();
            let readers =
                shapes.iter().enumerate().filter(|(_, shape)| shape.inputs.iter().any(|input| input.producer.0 as usize == stage));
            if !is_root && readers.clone().all(|(reader, _)| !started[reader]) {
                shapes[stage].tasks = 0;
                shapes[stage].inputs.clear();
                shapes.iter_mut().for_each(|shape| shape.inputs.retain(|input| input.producer.0 as usize != stage));
            }
        }
        _ => {
            if !started[shapes.len() - 1] {
                let old_root = shapes.len() as u32 - 1;
                let mut root = random_stage(rng, old_root + 1, 0);
                root.inputs.push(random_input(rng, old_root, 0));
                shapes.push(root);
            }
        }
    }
    Some(shapes)
}

/// A list of stages in which one that reads others and is not the root has another number of tasks, or `None`: what a planner changes
/// that may be forgotten with a scheduler.
pub(super) fn random_spread(rng: &mut Rng, shapes: &[StageShape], started: &[bool]) -> Option<Vec<StageShape>> {
    let mut shapes = shapes.to_vec();
    let may_change = |stage: &usize| !started[*stage] && !shapes[*stage].inputs.is_empty() && shapes[*stage].tasks > 0;
    let open: Vec<usize> = (0..shapes.len().saturating_sub(1)).filter(may_change).collect();
    if open.is_empty() || rng.permille(200) {
        return None;
    }
    let stage = rng.pick(&open);
    shapes[stage].tasks = rng.within(1, 5) as u32;
    Some(shapes)
}
