//! What is ready to run, and which of it comes next.

use std::collections::VecDeque;
use std::sync::Arc;

use super::scope::JobShare;

/// How often the freshest entry of a stage may go before the oldest one.
const MAX_FRESH_IN_A_ROW: u32 = 16;

/// Where a ready entry stands among those of its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Next: what it waits for was just made on this pool and is still in the cache.
    Front,
    /// Last: it gave way by itself, or was woken from outside.
    Back,
}

/// Ready entries by job and stage. The least served job goes first, then the stage nearest the root (which drains
/// memory), then the oldest, except that fresh wakes may pass (but not for ever).
#[derive(Debug)]
pub(super) struct ReadyQueue<T> {
    jobs: Vec<JobQueue<T>>,
    /// How much the job that was served last had been served: where newcomers start.
    clock: u64,
}

#[derive(Debug)]
struct JobQueue<T> {
    share: Arc<JobShare>,
    /// Sorted by depth; kept when empty, for a stage comes back thousands of times.
    stages: Vec<StageQueue<T>>,
    ready: usize,
}

#[derive(Debug)]
struct StageQueue<T> {
    depth: u32,
    fresh: Vec<T>,
    waiting: VecDeque<T>,
    fresh_in_a_row: u32,
}

impl<T> ReadyQueue<T> {
    pub(super) fn new() -> Self {
        Self { jobs: Vec::new(), clock: 0 }
    }

    pub(super) fn push(&mut self, share: &Arc<JobShare>, depth: u32, place: Place, entry: T) {
        let clock = self.clock;
        let job = self.job(share);
        if job.ready == 0 {
            share.catch_up(clock);
        }
        job.ready += 1;
        let stage = job.stage(depth);
        match place {
            Place::Front => stage.fresh.push(entry),
            Place::Back => stage.waiting.push_back(entry),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let job = self.jobs.iter_mut().filter(|job| job.ready > 0).min_by_key(|job| job.share.served())?;
        self.clock = self.clock.max(job.share.served());
        job.ready -= 1;
        job.stages.iter_mut().find_map(StageQueue::pop)
    }

    fn job(&mut self, share: &Arc<JobShare>) -> &mut JobQueue<T> {
        let index = match self.jobs.iter().position(|job| Arc::ptr_eq(&job.share, share)) {
            Some(index) => index,
            None => {
                // Jobs whose scopes are gone have nothing ready and never will.
                self.jobs.retain(|job| job.ready > 0 || !job.share.is_over());
                self.jobs.push(JobQueue { share: Arc::clone(share), stages: Vec::new(), ready: 0 });
                self.jobs.len() - 1
            }
        };
        &mut self.jobs[index]
    }
}

impl<T> JobQueue<T> {
    fn stage(&mut self, depth: u32) -> &mut StageQueue<T> {
        let index = match self.stages.binary_search_by_key(&depth, |stage| stage.depth) {
            Ok(index) => index,
            Err(index) => {
                let stage = StageQueue { depth, fresh: Vec::new(), waiting: VecDeque::new(), fresh_in_a_row: 0 };
                self.stages.insert(index, stage);
                index
            }
        };
        &mut self.stages[index]
    }
}

impl<T> StageQueue<T> {
    fn pop(&mut self) -> Option<T> {
        let fresh_first = self.fresh_in_a_row < MAX_FRESH_IN_A_ROW || self.waiting.is_empty();
        if fresh_first && let Some(entry) = self.fresh.pop() {
            self.fresh_in_a_row += 1;
            return Some(entry);
        }
        self.fresh_in_a_row = 0;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicUsize;

    use volley_proto::JobId;

    use super::super::scope::TaskScope;
    use super::*;

    fn share(job: u64, weight: u32) -> Arc<JobShare> {
        JobShare::new(Some(JobId(job)), NonZeroU32::new(weight).unwrap(), &Arc::new(AtomicUsize::new(0)))
    }

    #[test]
    fn the_stage_nearest_the_root_goes_first_then_the_oldest() {
        let mut queue = ReadyQueue::new();
        let job = share(1, 1);
        for (depth, name) in [(2, "a"), (0, "b"), (1, "c"), (0, "d")] {
            queue.push(&job, depth, Place::Back, name);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["b", "d", "c", "a"]);
    }

    #[test]
    fn jobs_are_served_by_weight() {
        let mut queue = ReadyQueue::new();
        let (light, heavy) = (share(1, 1), share(2, 3));
        let scopes = [TaskScope::new(Arc::clone(&light), 0), TaskScope::new(Arc::clone(&heavy), 0)];
        for index in [0, 1] {
            queue.push(&scopes[index].share, 0, Place::Back, index);
        }
        let mut runs = [0, 0];
        for _ in 0..400 {
            let index = queue.pop().unwrap();
            runs[index] += 1;
            scopes[index].charge(1_000_000);
            queue.push(&scopes[index].share, 0, Place::Back, index);
        }
        assert!((295..=305).contains(&runs[1]), "weight 3 got {runs:?} of 400");
    }

    #[test]
    fn a_job_that_slept_does_not_claim_the_past() {
        let mut queue = ReadyQueue::new();
        let (busy, sleeper) = (share(1, 1), share(2, 1));
        let scopes = [TaskScope::new(busy, 0), TaskScope::new(sleeper, 0)];
        queue.push(&scopes[0].share, 0, Place::Back, 0);
        for _ in 0..1000 {
            assert_eq!(queue.pop(), Some(0));
            scopes[0].charge(1_000_000);
            queue.push(&scopes[0].share, 0, Place::Back, 0);
        }
        queue.push(&scopes[1].share, 0, Place::Back, 1);
        let mut runs = [0, 0];
        for _ in 0..100 {
            let index = queue.pop().unwrap();
            runs[index] += 1;
            scopes[index].charge(1_000_000);
            queue.push(&scopes[index].share, 0, Place::Back, index);
        }
        assert!(runs[1] >= 50, "the newcomer goes first: {runs:?}");
        assert!(runs[0] >= 45, "but takes no more than its share: {runs:?}");
    }

    #[test]
    fn fresh_wakes_pass_but_not_for_ever() {
        let mut queue = ReadyQueue::new();
        let job = share(1, 1);
        queue.push(&job, 0, Place::Back, "old");
        let mut before = 0;
        loop {
            queue.push(&job, 0, Place::Front, "fresh");
            match queue.pop() {
                Some("fresh") => before += 1,
                other => break assert_eq!(other, Some("old")),
            }
        }
        assert_eq!(before, MAX_FRESH_IN_A_ROW);
    }
}
