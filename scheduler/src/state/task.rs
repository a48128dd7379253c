//! One task: where its attempts stand, and the one monotone rule by which reports are absorbed.
//!
//! At most one attempt of a task counts at a time, the one numbered `attempt`; a rival beside it (`rivals`) may take its place. Whatever else is said about another one, or by
//! another life of an executor, or again about one that has ended, changes nothing.

use volley_proto::TaskOutcome;

use super::event::Timestamp;

/// Stands for "no executor" where an index of one is kept.
pub(super) const NOBODY: u32 = u32::MAX;

/// More attempts than one task has in the life of one scheduler: each start gives numbers from the next thousand on.
pub const NUMBERS: u32 = 1000;

/// Attempts at a stage whose plan was replaced have numbers from here on, within a start's. Where the journal lost the new plan, what
/// those ran must not be taken for a task of the old one.
pub(super) const REPLACED: u32 = NUMBERS / 2;

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be launched when inputs and slots are there.
    Waiting,
    /// Its attempt was launched and has not ended.
    Running,
    /// Its attempt's output is complete and can be read.
    Sealed,
    /// It has been sealed, and its output was lost or freed; it runs again only if somebody needs it.
    Gone,
}

/// What a report means for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// Old news, or somebody else's.
    Nothing,
    /// It goes on.
    Progress,
    /// The attempt is complete.
    Sealed,
    /// The attempt ended without a result.
    Ended,
}

/// One task. Small on purpose: a job may have hundreds of thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// How it stands.
    pub(super) phase: Phase,
    /// Whether its index is in the stage's ready queue.
    pub(super) queued: bool,
    /// Whether its partition sizes are in the stage's sums.
    pub(super) folded: bool,
    /// Whether an attempt of it was ever sealed.
    pub(super) was_sealed: bool,
    /// Whether its attempt was told to stop and discard what it wrote.
    pub(super) discarded: bool,
    /// Whether it must have an executor to itself.
    pub(super) alone: bool,
    /// Whether the client has seen all its rows (root stage only).
    pub(super) delivered: bool,
    /// Attempts that failed and are charged to it.
    pub(super) failures: u16,
    /// Of these: bugs and panics.
    pub(super) bugs: u16,
    /// Executors lost while they ran it.
    pub(super) losses: u16,
    /// Attempts that ended without its fault.
    pub(super) restarts: u16,
    /// Second attempts that ran beside the one that counted.
    pub(super) rivals: u16,
    /// The attempt that counts, or counted last.
    pub(super) attempt: u32,
    /// The number of the attempt to be launched next.
    pub(super) next: u32,
    /// Numbers that were not given by this machine but by one before it.
    pub(super) skipped: u32,
    /// Numbers that were given to rivals since that attempt was launched.
    pub(super) beside: u32,
    /// Attempts with lower numbers read inputs that have been replaced since: nothing of them may be used.
    pub(super) valid_from: u32,
    /// The executor of that attempt.
    pub(super) executor: u32,
    /// The executor to be avoided: the last attempt failed there.
    pub(super) avoid: u32,
    /// Rows written by that attempt, as far as known.
    pub(super) rows: u64,
    /// When that attempt was launched.
    pub(super) launched: Timestamp,
}

impl Task {
    /// A task that was never tried.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Waiting,
            queued: true,
            folded: false,
            was_sealed: false,
            discarded: false,
            alone: false,
            delivered: false,
            failures: 0,
            bugs: 0,
            losses: 0,
            restarts: 0,
            rivals: 0,
            attempt: 0,
            next: 0,
            skipped: 0,
            beside: 0,
            valid_from: 0,
            executor: NOBODY,
            avoid: NOBODY,
            rows: 0,
            launched: Timestamp(0),
        }
    }

    /// A task of a stage whose plan was replaced.
    pub(super) fn replaced() -> Self {
        Self { next: REPLACED, skipped: REPLACED, ..Self::new() }
    }

    /// What a report of attempt `number` by `executor` means. A task only ever moves forward through the phases of one
    /// attempt, so a report repeated or overtaken means nothing.
    pub(super) fn absorb(&self, number: u32, executor: u32, outcome: &TaskOutcome) -> Absorbed {
        if self.phase != Phase::Running || self.attempt != number || self.executor != executor {
            return Absorbed::Nothing;
        }
        match outcome {
            TaskOutcome::Running { .. } => Absorbed::Progress,
            TaskOutcome::Sealed { .. } => Absorbed::Sealed,
            TaskOutcome::Failed(_) | TaskOutcome::Cancelled => Absorbed::Ended,
        }
    }

    /// Whether the attempt `number` may still be the one that counts: it is the newest but for rivals, was not told to stop, and what it
    /// read still stands.
    pub(super) fn may_adopt(&self, number: u32) -> bool {
        let newest = self.attempt == number && self.next == number + 1 + self.beside;
        self.phase == Phase::Waiting && newest && !self.discarded && number >= self.valid_from
    }

    /// Whether nothing is known of it but that the attempt `number` was launched by an earlier scheduler.
    pub(super) fn is_unknown(&self, number: u32) -> bool {
        let stands = !self.discarded && number >= self.valid_from;
        let of_first_plan = number % NUMBERS < REPLACED;
        self.phase == Phase::Waiting && self.executor == NOBODY && number < self.next && of_first_plan && stands
    }
}
