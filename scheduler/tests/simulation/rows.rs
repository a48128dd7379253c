//! What simulated tasks read and write, and what the right answer is.
//!
//! A leaf task makes a few rows with ids of their own; every other task passes on the rows of its slice, spread over its
//! output partitions by their ids. A task of a stage that is not deterministic spreads them by the attempt as well, as a
//! round robin does: a reader that mixes two attempts loses rows or gets them twice. Each output also says which
//! attempts of such tasks went into it, so that also a mixture that happens to have the right rows is found.

use std::collections::BTreeMap;

use volley_proto::{InputRead, StageShape};

use super::rng::mix;

/// The rows of one output partition: ids.
pub(super) type Rows = Vec<u64>;

/// Which attempt of each task that is not deterministic something was made from: (stage, task) to launch number.
pub(super) type Sources = BTreeMap<(u32, u32), u64>;

/// What one attempt wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) partitions: Vec<Rows>,
    pub(super) sources: Sources,
    /// What is wrong with it, if anything is.
    pub(super) flaw: Option<String>,
}

/// Adds sources; says so if they contradict each other.
pub(super) fn merge_sources(into: &mut Sources, from: &Sources) -> Option<String> {
    let mut flaw = None;
    for (task, launch) in from {
        if let Some(other) = into.insert(*task, *launch).filter(|other| other != launch) {
            flaw = Some(format!("launches {other} and {launch} of s{}/t{} are mixed", task.0, task.1));
        }
    }
    flaw
}

/// The rows that a leaf task makes.
fn leaf_rows(stage: u32, task: u32) -> Rows {
    let count = mix(&[u64::from(stage), u64::from(task)]) % 4;
    (0..count).map(|row| (u64::from(stage) << 32) | (u64::from(task) << 8) | row).collect()
}

/// All rows of a stage's output in the right answer, sorted.
pub(super) fn expected_rows(shapes: &[StageShape], limits: &[bool], stage: u32) -> Rows {
    let shape = &shapes[stage as usize];
    if limits[stage as usize] || shape.tasks == 0 {
        return Rows::new();
    }
    let slices = shape.inputs.iter().filter(|input| input.read == InputRead::Slice);
    let mut rows: Rows = slices.flat_map(|input| expected_rows(shapes, limits, input.producer.0)).collect();
    if shape.inputs.is_empty() {
        rows = (0..shape.tasks).flat_map(|task| leaf_rows(stage, task)).collect();
    }
    rows.sort_unstable();
    rows
}

/// One attempt at work.
pub(super) struct Work<'a> {
    pub(super) shapes: &'a [StageShape],
    /// Stages that end before they have read everything, and write nothing.
    pub(super) limits: &'a [bool],
    pub(super) stage: u32,
    pub(super) task: u32,
    /// A number that no other launch has.
    pub(super) launch: u64,
}

impl Work<'_> {
    /// What the attempt writes, given every producer task's output for each input.
    pub(super) fn run(&self, inputs: &[Vec<&Output>]) -> Output {
        let shape = &self.shapes[self.stage as usize];
        let mut output = Output { partitions: vec![Rows::new(); shape.output_partitions as usize], ..Output::default() };
        let mut rows = if shape.inputs.is_empty() { leaf_rows(self.stage, self.task) } else { Rows::new() };
        for (input, producers) in shape.inputs.iter().zip(inputs) {
            let read = self.read(&mut output, input.read, producers);
            if input.read == InputRead::Slice {
                rows.extend(read);
            } else if sorted(read) != expected_rows(self.shapes, self.limits, input.producer.0) {
                output.flaw.get_or_insert(format!("s{}/t{} did not get all rows of {}", self.stage, self.task, input.producer));
            }
        }
        let salt = if shape.deterministic { 0 } else { self.launch };
        if !shape.deterministic {
            output.sources.insert((self.stage, self.task), self.launch);
        }
        if !self.limits[self.stage as usize] && shape.output_partitions > 0 {
            for row in rows {
                let partition = mix(&[row, u64::from(self.stage), salt]) % u64::from(shape.output_partitions);
                output.partitions[partition as usize].push(row);
            }
        }
        output
    }

    fn read(&self, output: &mut Output, read: InputRead, producers: &[&Output]) -> Rows {
        let tasks = self.shapes[self.stage as usize].tasks as usize;
        let mut rows = Rows::new();
        for producer in producers {
            let flaw = merge_sources(&mut output.sources, &producer.sources).or_else(|| producer.flaw.clone());
            output.flaw = output.flaw.take().or(flaw);
            for (partition, content) in producer.partitions.iter().enumerate() {
                if read == InputRead::All || partition % tasks == self.task as usize {
                    rows.extend(content);
                }
            }
        }
        rows
    }
}

/// The rows in order.
pub(super) fn sorted(mut rows: Rows) -> Rows {
    rows.sort_unstable();
    rows
}
