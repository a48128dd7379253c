//! One stage: its tasks in a dense list, counts by phase, folded partition sizes, and where its outputs are.

use std::collections::VecDeque;
use std::sync::Arc;

use volley_proto::{AttemptLocation, Edge, PartitionStats, StageShape};

use super::executors::Executors;
use super::pace::Pace;
use super::task::{Phase, Task};

/// Whether the planner was asked about what follows this stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Not yet.
    Unasked,
    /// It is at it: consumers not yet launched wait.
    Asked,
    /// It has answered.
    Answered,
}

/// Where a stage's outputs are: shared by all launches that read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Locations {
    /// By task.
    pub(super) attempts: Arc<[AttemptLocation]>,
    /// Indexes of the executors that hold something, in order, each once.
    pub(super) holders: Arc<[u32]>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    /// What the planner says of it.
    pub(super) shape: StageShape,
    /// Version of its plan.
    pub(super) version: u32,
    /// Distance from the root.
    pub(super) depth: u32,
    /// Stages that read it, with the edge.
    pub(super) consumers: Vec<(u32, Edge)>,
    /// By index.
    pub(super) tasks: Vec<Task>,
    /// Waiting tasks; an entry may be out of date.
    pub(super) ready: VecDeque<u32>,
    /// Tasks that wait.
    pub(super) waiting: u32,
    /// Tasks that run.
    pub(super) running: u32,
    /// Tasks with an output that can be read.
    pub(super) sealed: u32,
    /// Tasks whose output was there once.
    pub(super) gone: u32,
    /// Whether somebody needs its output.
    pub(super) wanted: bool,
    /// Whether attempts were stopped because nobody wanted them, though somebody may have read from them while they ran.
    pub(super) given_up: bool,
    /// Whether the planner was asked.
    pub(super) question: Question,
    /// Rows and bytes by output partition, over tasks sealed for the first time.
    pub(super) sizes: Vec<PartitionStats>,
    /// Whether these are the sizes of what is there now.
    pub(super) exact: bool,
    /// Made when a consumer is launched, dropped when an output moves.
    locations: Option<Locations>,
    /// Attempts launched.
    pub(super) attempts: u64,
    /// Of these: at tasks that had been sealed.
    pub(super) reruns: u64,
    /// Second attempts beside slow ones.
    pub(super) rivals: u64,
    /// Attempts that failed.
    pub(super) failures: u64,
    /// How fast its tasks are.
    pub(super) pace: Pace,
}

impl Stage {
    /// A stage that was never launched.
    pub(super) fn new(shape: StageShape, version: u32) -> Self {
        let tasks = shape.tasks;
        Self {
            version,
            depth: 0,
            consumers: Vec::new(),
            tasks: vec![if version == 0 { Task::new() } else { Task::replaced() }; tasks as usize],
            ready: (0..tasks).collect(),
            waiting: tasks,
            running: 0,
            sealed: 0,
            gone: 0,
            wanted: true,
            given_up: false,
            question: Question::Unasked,
            sizes: Vec::new(),
            exact: true,
            locations: None,
            attempts: 0,
            reruns: 0,
            rivals: 0,
            failures: 0,
            pace: Pace::default(),
            shape,
        }
    }

    /// Whether an attempt of it was ever launched, or none is needed: its shape stays as it is.
    pub(super) fn is_started(&self) -> bool {
        self.attempts > 0
    }

    /// Whether all its tasks have been sealed and none has to run again.
    pub(super) fn is_committed(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    /// Whether a consumer over `edge` may be launched as far as this stage is concerned.
    pub(super) fn is_readable(&self, edge: Edge) -> bool {
        self.question != Question::Asked
            && match edge {
                Edge::Sealed => self.sealed as usize == self.tasks.len(),
                Edge::Streaming => (self.sealed + self.running) as usize == self.tasks.len(),
            }
    }

    /// Whether consumers read it while it runs.
    pub(super) fn streams_out(&self) -> bool {
        self.consumers.iter().any(|(_, edge)| *edge == Edge::Streaming)
    }

    /// Whether it reads producers that run.
    pub(super) fn streams_in(&self) -> bool {
        self.shape.inputs.iter().any(|input| input.edge == Edge::Streaming)
    }

    /// Moves a task to another phase, with the counts.
    pub(super) fn set_phase(&mut self, index: u32, phase: Phase) {
        let before = self.tasks[index as usize].phase;
        *self.count(before) -= 1;
        *self.count(phase) += 1;
        self.tasks[index as usize].phase = phase;
        if (before, phase) != (Phase::Running, Phase::Sealed) {
            self.locations = None;
        }
        if phase == Phase::Waiting && !self.tasks[index as usize].queued {
            self.tasks[index as usize].queued = true;
            self.ready.push_back(index);
        }
    }

    /// Takes the next waiting task out of the ready queue.
    pub(super) fn pop_ready(&mut self) -> Option<u32> {
        while let Some(index) = self.ready.pop_front() {
            let task = &mut self.tasks[index as usize];
            task.queued = false;
            if task.phase == Phase::Waiting {
                return Some(index);
            }
        }
        None
    }

    /// Puts a waiting task back at the head of the ready queue.
    pub(super) fn unpop_ready(&mut self, index: u32) {
        self.tasks[index as usize].queued = true;
        self.ready.push_front(index);
    }

    /// Adds the sizes of a task's output to the sums, once for each task.
    pub(super) fn fold(&mut self, index: u32, outputs: &[PartitionStats]) {
        let task = &mut self.tasks[index as usize];
        if task.folded {
            // A deterministic stage writes the same again. Else the sums are those of the first runs.
            self.exact &= self.shape.deterministic;
            return;
        }
        task.folded = true;
        if self.sizes.is_empty() {
            self.sizes = vec![PartitionStats::default(); self.shape.output_partitions as usize];
        }
        for (sum, output) in self.sizes.iter_mut().zip(outputs) {
            sum.rows += output.rows;
            sum.bytes += output.bytes;
        }
    }

    /// A task's output is, or is going to be, elsewhere.
    pub(super) fn moved(&mut self) {
        self.locations = None;
    }

    /// Where its outputs are. Every task is running or sealed.
    pub(super) fn locations(&mut self, executors: &Executors) -> &Locations {
        let tasks = &self.tasks;
        self.locations.get_or_insert_with(|| {
            let attempts = tasks.iter().enumerate().map(|(index, task)| {
                let executor = executors.get(task.executor);
                AttemptLocation {
                    task: index as u32,
                    attempt: task.attempt,
                    executor: executor.life.id.clone(),
                    incarnation: executor.life.incarnation,
                    address: executor.address.clone(),
                }
            });
            let mut holders: Vec<u32> = tasks.iter().map(|task| task.executor).collect();
            holders.sort_unstable();
            holders.dedup();
            Locations { attempts: attempts.collect(), holders: holders.into() }
        })
    }

    /// Heap bytes that grow with the number of tasks or partitions; for the check that bookkeeping stays linear.
    pub(super) fn entries(&self) -> usize {
        self.ready.len() + self.tasks.len() + self.sizes.len() + self.locations.as_ref().map_or(0, |l| l.attempts.len() + l.holders.len())
    }

    fn count(&mut self, phase: Phase) -> &mut u32 {
        match phase {
            Phase::Waiting => &mut self.waiting,
            Phase::Running => &mut self.running,
            Phase::Sealed => &mut self.sealed,
            Phase::Gone => &mut self.gone,
        }
    }
}
