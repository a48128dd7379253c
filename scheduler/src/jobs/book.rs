//! All jobs that the shell knows: those at work, and the last ones that ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use volley_proto::JobId;

use super::Job;

/// Jobs by id. The number of ended jobs that stay is bounded.
#[derive(Debug)]
pub(crate) struct JobBook {
    inner: Mutex<Inner>,
    kept: usize,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobId, Arc<Job>>,
    ended: VecDeque<JobId>,
}

impl JobBook {
    /// A book that keeps so many ended jobs.
    pub(crate) fn new(kept: usize) -> Self {
        Self { inner: Mutex::default(), kept }
    }

    /// Adds a job.
    pub(crate) fn add(&self, job: Arc<Job>) {
        self.inner.lock().jobs.insert(job.id, job);
    }

    /// A job, if it is known.
    pub(crate) fn get(&self, job: JobId) -> Option<Arc<Job>> {
        self.inner.lock().jobs.get(&job).cloned()
    }

    /// All jobs, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Job>> {
        let mut jobs: Vec<_> = self.inner.lock().jobs.values().cloned().collect();
        jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
        jobs
    }

    /// The oldest job that has not ended.
    pub(crate) fn oldest_at_work(&self) -> Option<JobId> {
        let inner = self.inner.lock();
        inner.jobs.values().filter(|job| !job.is_ended()).map(|job| job.id).min()
    }

    /// Nothing of the job is left in the cluster: from now on it is kept for reports alone, until others push it out.
    pub(crate) fn forget(&self, job: JobId) {
        let mut inner = self.inner.lock();
        if inner.ended.contains(&job) || !inner.jobs.contains_key(&job) {
            return;
        }
        inner.ended.push_back(job);
        while inner.ended.len() > self.kept {
            if let Some(oldest) = inner.ended.pop_front() {
                inner.jobs.remove(&oldest);
            }
        }
    }
}
