//! Where the rows of a job's root tasks are.

use std::sync::Arc;

use volley_proto::{AttemptId, InlineFrame};

use crate::state::ExecutorLife;

/// Where the rows of one root task are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootOutput {
    /// The attempt that is to be read.
    pub(crate) attempt: AttemptId,
    /// Who holds it.
    pub(crate) executor: ExecutorLife,
    /// `host:port` of its Flight server.
    pub(crate) address: Arc<str>,
    /// How often the task's rows had been announced before, since an attempt was last retracted.
    pub(crate) announced: u32,
    /// Whether all rows are there; else the attempt still runs.
    pub(crate) sealed: bool,
    /// All its rows, where they came with the report.
    pub(crate) inline: Option<Arc<[InlineFrame]>>,
}

/// The root tasks of a job, by their index.
#[derive(Debug, Default)]
pub(super) struct Roots {
    tasks: Vec<Root>,
}

#[derive(Debug, Clone, Default)]
struct Root {
    /// What is to be read.
    readable: Option<RootOutput>,
    /// An attempt that runs and has not written much yet.
    started: Option<RootOutput>,
}

impl Roots {
    /// So many tasks, of which nothing is known.
    pub(super) fn new(tasks: usize) -> Self {
        Self { tasks: vec![Root::default(); tasks] }
    }

    /// What is to be read of a task: `None` where there is no such task.
    pub(super) fn of(&self, task: usize) -> Option<Option<&RootOutput>> {
        self.tasks.get(task).map(|root| root.readable.as_ref())
    }

    /// Whether all rows of all tasks are there.
    pub(super) fn are_sealed(&self) -> bool {
        self.tasks.iter().all(|root| root.readable.as_ref().is_some_and(|output| output.sealed))
    }

    /// An attempt was launched whose rows may be read while it runs, once it has written some.
    pub(super) fn start(&mut self, output: RootOutput) {
        if let Some(root) = self.of_attempt(output.attempt) {
            root.started = Some(output);
        }
    }

    /// An attempt that was started has written rows: they may be read. True where that is news.
    pub(super) fn rows_come(&mut self, attempt: AttemptId, executor: &ExecutorLife) -> bool {
        let started =
            self.of_attempt(attempt).and_then(|root| root.started.take_if(|it| it.attempt == attempt && it.executor == *executor));
        started.is_some_and(|output| self.announce(output))
    }

    /// The rows of a task are there, or come. True where there is such a task.
    pub(super) fn announce(&mut self, mut output: RootOutput) -> bool {
        let Some(root) = self.of_attempt(output.attempt) else { return false };
        output.announced = root.readable.as_ref().map_or(0, |known| known.announced + 1);
        root.readable = Some(output);
        true
    }

    /// The rows of an attempt must not be read any more.
    pub(super) fn retract(&mut self, attempt: AttemptId) {
        if let Some(root) = self.of_attempt(attempt) {
            root.readable.take_if(|output| output.attempt == attempt);
            root.started.take_if(|output| output.attempt == attempt);
        }
    }

    /// Lets go of rows.
    pub(super) fn release(&mut self) {
        self.tasks.iter_mut().filter_map(|root| root.readable.as_mut()).for_each(|output| output.inline = None);
    }

    fn of_attempt(&mut self, attempt: AttemptId) -> Option<&mut Root> {
        self.tasks.get_mut(attempt.task.index as usize)
    }
}
