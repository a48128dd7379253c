//! Who gets the next free slots: pure functions over what is free and what is asked for.
//!
//! Between jobs, the one that uses the fewest slots for its weight comes first, so that a tiny job beside a huge one
//! gets the very next slot. Within a job, stages near the root come first, which drains memory. A task that finds no
//! executor with enough free slots holds one back from tasks that come after it, so that wide tasks don't starve.

use std::cmp::Ordering;

use volley_proto::JobId;

use super::executors::Executors;
use super::task::NOBODY;

/// How a job stands in the contest for slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Slots in use.
    pub(super) slots: u32,
    /// The job's weight, at least 1.
    pub(super) weight: u32,
    /// When it was last served, as a count of launches.
    pub(super) served: u64,
}

impl Share {
    /// Less means: first.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let left = u64::from(self.slots) * u64::from(other.weight.max(1));
        let right = u64::from(other.slots) * u64::from(self.weight.max(1));
        left.cmp(&right).then(self.served.cmp(&other.served))
    }
}

/// What a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// Slots that it can use.
    pub(super) slots: u32,
    /// Whether nothing else may run beside it.
    pub(super) alone: bool,
    /// The executor where it failed last.
    pub(super) avoid: u32,
}

/// What a task gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// So many slots on this executor, now.
    Take {
        /// Where.
        executor: u32,
        /// How many.
        slots: u32,
    },
    /// Nothing now, but this executor should be kept for it.
    Reserve {
        /// Which.
        executor: u32,
    },
    /// Nothing.
    Nothing,
}

/// An executor that is kept for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    /// For whom.
    pub(super) job: JobId,
    /// Which.
    pub(super) executor: u32,
}

fn is_reserved(reserved: &[Reservation], executor: u32) -> bool {
    reserved.iter().any(|reservation| reservation.executor == executor)
}

/// Finds an executor for a task; those in `reserved` are kept for others.
pub(super) fn choose_executor(executors: &Executors, wish: Wish, reserved: &[Reservation]) -> Offer {
    if wish.alone {
        return choose_alone(executors, wish, reserved);
    }
    let least = wish.slots.min(executors.smallest()).max(1);
    let may_avoid = may_avoid(executors, wish.avoid);
    let mut best = Offer::Nothing;
    for (index, free) in executors.by_free_slots() {
        if is_reserved(reserved, index) || (may_avoid && index == wish.avoid) {
            continue;
        }
        let slots = wish.slots.min(executors.get(index).slots).max(1);
        if free >= slots {
            return Offer::Take { executor: index, slots };
        }
        if best == Offer::Nothing && wish.slots > 1 {
            best = Offer::Reserve { executor: index };
        }
        if free < least {
            break;
        }
    }
    best
}

/// Finds an executor on which nothing else runs: one with more memory than where it failed, if there is any.
fn choose_alone(executors: &Executors, wish: Wish, reserved: &[Reservation]) -> Offer {
    let failed_with = if wish.avoid == NOBODY { 0 } else { executors.get(wish.avoid).memory_bytes };
    let larger_exist = executors.by_free_slots().any(|(index, _)| executors.get(index).memory_bytes > failed_with);
    let may_avoid = may_avoid(executors, wish.avoid);
    let suits = |index: u32| match larger_exist {
        true => executors.get(index).memory_bytes > failed_with,
        false => !(may_avoid && index == wish.avoid),
    };
    executors
        .by_free_slots()
        .filter(|(index, _)| suits(*index) && !is_reserved(reserved, *index))
        .min_by_key(|(index, _)| (executors.get(*index).used, *index))
        .map_or(Offer::Nothing, |(executor, _)| match executors.get(executor).used {
            0 => Offer::Take { executor, slots: executors.get(executor).slots },
            _ => Offer::Reserve { executor },
        })
}

/// An executor is avoided only where there is another one.
fn may_avoid(executors: &Executors, avoid: u32) -> bool {
    avoid != NOBODY && executors.placeable() > usize::from(executors.get(avoid).is_placeable())
}
