//! The contest for slots: the jobs that want some, in the order in which they are served.
//!
//! The order is kept while shares change, and not made anew for each slot that becomes free: with a thousand jobs that took most of the
//! machine's time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use volley_proto::JobId;

use super::placement::Share;

/// Jobs that want slots.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Contest {
    order: BTreeSet<Place>,
    shares: BTreeMap<JobId, Share>,
}

/// A job with the share that it stands with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    share: Share,
    pub(super) job: JobId,
}

impl Contest {
    /// A job wants slots; one that is here already stands with `share` from now on.
    pub(super) fn enter(&mut self, job: JobId, share: Share) {
        let before = self.shares.insert(job, share);
        if before == Some(share) {
            return;
        }
        if let Some(share) = before {
            self.order.remove(&Place { share, job });
        }
        self.order.insert(Place { share, job });
    }

    /// The share of a job has changed, which may not want any slots.
    pub(super) fn stand(&mut self, job: JobId, share: Share) {
        if self.contains(job) {
            self.enter(job, share);
        }
    }

    /// A job wants no slots any more.
    pub(super) fn leave(&mut self, job: JobId) {
        if let Some(share) = self.shares.remove(&job) {
            self.order.remove(&Place { share, job });
        }
    }

    /// Who is served first among those behind `place`; of all without one.
    pub(super) fn behind(&self, place: Option<Place>) -> Option<Place> {
        match place {
            None => self.order.first().copied(),
            Some(place) => self.order.range((std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded)).next().copied(),
        }
    }

    pub(super) fn contains(&self, job: JobId) -> bool {
        self.shares.contains_key(&job)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// The jobs with their shares, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, Share)> {
        self.shares.iter().map(|(job, share)| (*job, *share))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.share.compare(&other.share).then(self.job.cmp(&other.job))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(slots: u32, weight: u32) -> Share {
        Share { slots, weight, served: 0 }
    }

    fn order(contest: &Contest) -> Vec<u64> {
        let first = contest.behind(None);
        std::iter::successors(first, |place| contest.behind(Some(*place))).map(|place| place.job.0).collect()
    }

    #[test]
    fn the_fewest_slots_for_its_weight_come_first() {
        let mut contest = Contest::default();
        contest.enter(JobId(1), share(4, 1));
        contest.enter(JobId(2), share(4, 2));
        contest.enter(JobId(3), share(0, 1));
        contest.enter(JobId(4), share(0, 9));
        assert_eq!(order(&contest), [3, 4, 2, 1]);
        contest.enter(JobId(3), share(3, 1));
        contest.stand(JobId(4), share(90, 9));
        contest.stand(JobId(5), share(0, 1));
        assert_eq!(order(&contest), [2, 3, 1, 4], "it moves, and only who entered stands");
        contest.leave(JobId(2));
        contest.leave(JobId(2));
        assert_eq!(order(&contest), [3, 1, 4]);
        assert!(!contest.contains(JobId(2)) && !contest.is_empty());
    }
}
