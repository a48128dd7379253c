//! All jobs that the shell knows: those at work, and the last ones that ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use volley_proto::JobId;

use super::Job;

/// Jobs by id. The number of ended jobs that stay is bounded.
#[derive(Debug)]
pub(crate) struct JobBook {
    inner: Mutex<Inner>,
    kept: usize,
    /// Told of each job that is forgotten.
    forgotten: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobId, Arc<Job>>,
    ended: VecDeque<JobId>,
    /// How many of the last ones were not taken note of yet.
    fresh: usize,
}

impl JobBook {
    /// A book that keeps so many ended jobs.
    pub(crate) fn new(kept: usize) -> Self {
        Self { inner: Mutex::default(), kept, forgotten: Notify::new() }
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
        inner.fresh += 1;
        self.forgotten.notify_one();
        while inner.ended.len() > self.kept {
            if let Some(oldest) = inner.ended.pop_front() {
                inner.jobs.remove(&oldest);
            }
        }
        inner.fresh = inner.fresh.min(inner.ended.len());
    }

    /// Waits until there is a job to take by [`Self::take_forgotten`].
    pub(crate) async fn wait_forgotten(&self) {
        while self.inner.lock().fresh == 0 {
            self.forgotten.notified().await;
        }
    }

    /// The jobs that were forgotten since this was asked last, without those that others pushed out since.
    pub(crate) fn take_forgotten(&self) -> Vec<Arc<Job>> {
        let mut inner = self.inner.lock();
        let fresh = std::mem::take(&mut inner.fresh);
        let first = inner.ended.len() - fresh;
        inner.ended.range(first..).filter_map(|id| inner.jobs.get(id).cloned()).collect()
    }
}
