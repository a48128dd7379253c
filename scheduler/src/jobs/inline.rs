//! Rows that came with the reports of root tasks, kept until their job is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use volley_proto::{AttemptId, InlineFrame, JobId};

use crate::state::ExecutorLife;

/// Bytes that are kept of all jobs together. What comes beyond that is fetched from its executor when it is wanted.
const MOST_BYTES: usize = 64 << 20;

/// The rows of small results.
#[derive(Debug)]
pub(crate) struct InlineRows {
    inner: Mutex<Inner>,
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobId, Vec<Kept>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    attempt: AttemptId,
    executor: ExecutorLife,
    frames: Arc<[InlineFrame]>,
    bytes: usize,
}

impl Default for InlineRows {
    fn default() -> Self {
        Self { inner: Mutex::default(), most: MOST_BYTES }
    }
}

impl InlineRows {
    /// Keeps what came with the report of an attempt, if there is room for it.
    pub(crate) fn keep(&self, attempt: AttemptId, executor: ExecutorLife, frames: &[InlineFrame]) {
        let bytes = frames.iter().map(|frame| frame.header.len() + frame.body.len()).sum();
        let mut inner = self.inner.lock();
        // What is said again, by an executor that opened a new stream, is what was said before.
        if inner.bytes + bytes > self.most || inner.find(attempt, &executor).is_some() {
            return;
        }
        inner.bytes += bytes;
        inner.jobs.entry(attempt.task.job).or_default().push(Kept { attempt, executor, frames: frames.into(), bytes });
    }

    /// What this life of an executor sent of an attempt.
    pub(crate) fn get(&self, attempt: AttemptId, executor: &ExecutorLife) -> Option<Arc<[InlineFrame]>> {
        self.inner.lock().find(attempt, executor).map(|kept| Arc::clone(&kept.frames))
    }

    /// Lets go of everything of a job.
    pub(crate) fn forget(&self, job: JobId) {
        let mut inner = self.inner.lock();
        let bytes: usize = inner.jobs.remove(&job).iter().flatten().map(|kept| kept.bytes).sum();
        inner.bytes -= bytes;
    }
}

impl Inner {
    fn find(&self, attempt: AttemptId, executor: &ExecutorLife) -> Option<&Kept> {
        let mut of_job = self.jobs.get(&attempt.task.job)?.iter();
        of_job.find(|kept| kept.attempt == attempt && kept.executor == *executor)
    }
}

#[cfg(test)]
mod tests {
    use volley_proto::{ExecutorId, Incarnation, StageId, TaskId};

    use super::*;

    fn attempt(job: u64, index: u32) -> AttemptId {
        TaskId::new(JobId(job), StageId(0), index).attempt(0)
    }

    fn life(incarnation: u64) -> ExecutorLife {
        ExecutorLife { id: ExecutorId::new("e1"), incarnation: Incarnation(incarnation) }
    }

    fn frames(bytes: usize) -> Vec<InlineFrame> {
        vec![InlineFrame { header: vec![1; 4].into(), body: vec![2; bytes - 4].into(), rows: 1 }]
    }

    #[test]
    fn rows_are_those_of_one_life() {
        let rows = InlineRows::default();
        rows.keep(attempt(1, 0), life(1), &frames(10));
        rows.keep(attempt(1, 0), life(2), &frames(20));
        assert_eq!(rows.get(attempt(1, 0), &life(1)).as_deref(), Some(&*frames(10)));
        assert_eq!(rows.get(attempt(1, 0), &life(2)).as_deref(), Some(&*frames(20)));
        assert_eq!(rows.get(attempt(1, 0), &life(3)), None);
        assert_eq!(rows.get(attempt(1, 1), &life(1)), None);
    }

    #[test]
    fn there_is_a_bound_and_forgetting_makes_room() {
        let rows = InlineRows { most: 25, ..InlineRows::default() };
        rows.keep(attempt(1, 0), life(1), &frames(20));
        rows.keep(attempt(1, 0), life(1), &frames(20));
        rows.keep(attempt(2, 0), life(1), &frames(10));
        assert_eq!(rows.get(attempt(2, 0), &life(1)), None, "there was no room");
        rows.forget(JobId(1));
        assert_eq!(rows.get(attempt(1, 0), &life(1)), None);
        rows.keep(attempt(2, 0), life(1), &frames(25));
        assert!(rows.get(attempt(2, 0), &life(1)).is_some());
    }
}
