//! Executors on which too much fails get nothing new for a while, and then one task at a time until one succeeds.
//!
//! ```text
//!          failures of several tasks in a short time               time is up
//!  trusted ─────────────────────────────────────────▶ denied ─────────────────────▶ on probation
//!     ▲                                                  ▲   ◀───────────────────────    │
//!     └──────────────────────────────────────────────────┼─────  its task fails          │
//!                          its task succeeds             └───────────────────────────────┘
//! ```
//!
//! Counted are failures that another executor may not have. No more than half of the executors are denied at a time, and those that
//! are denied are trusted again when no trusted one is left.

use volley_proto::{AttemptId, Failure, Remedy, TaskId, TaskOutcome};

use super::cluster::{Cluster, Timer};
use super::effect::Effect;
use super::event::Timestamp;
use super::executors::{Executor, Presence};

/// Denials after which the time does not get longer any more: 16 times the first.
const MOST_DOUBLINGS: u32 = 4;

/// How far an executor is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Trust {
    /// Tasks that failed there lately, each once, with the moment.
    failures: Vec<(Timestamp, TaskId)>,
    /// How often it was denied since a task succeeded.
    denials: u32,
    pub(super) standing: Standing,
}

/// What may be launched on an executor as far as trust goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// Anything.
    #[default]
    Trusted,
    /// Nothing, until this moment.
    Denied(Timestamp),
    /// One task at a time.
    Probation,
}

impl Trust {
    /// Whether something may be launched, where nothing runs or something does.
    pub(super) fn admits(&self, is_idle: bool) -> bool {
        match self.standing {
            Standing::Trusted => true,
            Standing::Denied(_) => false,
            Standing::Probation => is_idle,
        }
    }

    /// Notes that a task failed: whether that makes `most` of them since `since`.
    fn is_too_much(&mut self, task: TaskId, now: Timestamp, since: Timestamp, most: u32) -> bool {
        self.failures.retain(|(at, other)| *at >= since && *other != task);
        self.failures.push((now, task));
        self.standing == Standing::Probation || self.failures.len() as u64 >= u64::from(most)
    }
}

impl Cluster {
    /// An attempt that was not told to stop has ended on an executor.
    pub(super) fn note_trust(&mut self, index: u32, attempt: AttemptId, outcome: &TaskOutcome) {
        match outcome {
            TaskOutcome::Sealed { .. } if self.executors.get(index).trust.standing == Standing::Probation => {
                self.executors.update(index, |executor| executor.trust = Trust::default());
            }
            TaskOutcome::Failed(Failure { remedy: Remedy::Retry, .. }) if self.settings.deny_after_failures > 0 => {
                let (now, most) = (self.now, self.settings.deny_after_failures);
                let since = Timestamp(now.0.saturating_sub(self.settings.deny_window_ms * 1000));
                if self.executors.update(index, |executor| executor.trust.is_too_much(attempt.task, now, since, most)) {
                    self.deny(index);
                }
            }
            _ => {}
        }
    }

    /// Nothing new goes to an executor for a while, if there is another one.
    fn deny(&mut self, index: u32) {
        // What fails on many of them is not theirs: a store that does not answer, say.
        let here = self.executors.iter().filter(|(_, executor)| executor.presence == Presence::Live && !executor.draining).count();
        if (self.executors.denied().len() + 1) * 2 > here {
            return;
        }
        let trust = &self.executors.get(index).trust;
        if matches!(trust.standing, Standing::Denied(_)) {
            return;
        }
        let for_ms = self.settings.deny_ms << trust.denials.min(MOST_DOUBLINGS);
        let until = self.now.after_millis(for_ms);
        let life = self.executors.update(index, |executor| {
            let denials = executor.trust.denials.saturating_add(1);
            executor.trust = Trust { failures: vec![], denials, standing: Standing::Denied(until) };
            executor.life.clone()
        });
        self.timers.insert((until, Timer::Denied(index)));
        self.effects.push(Effect::ExecutorDenied { executor: life, for_ms });
    }

    /// The time of a denied executor may be up.
    pub(super) fn look_at_denied(&mut self, index: u32) {
        if matches!(self.executors.get(index).trust.standing, Standing::Denied(until) if until <= self.now) {
            self.executors.update(index, |executor| executor.trust.standing = Standing::Probation);
        }
    }

    /// Takes denied executors back where no other one is left.
    pub(super) fn take_back_denied(&mut self) {
        if self.executors.denied().is_empty() || self.executors.iter().any(|(_, executor)| is_trusted(executor)) {
            return;
        }
        for index in self.executors.denied().clone() {
            self.executors.update(index, |executor| executor.trust.standing = Standing::Trusted);
        }
    }
}

/// Whether tasks go to an executor as far as it has slots.
fn is_trusted(executor: &Executor) -> bool {
    executor.presence == Presence::Live && !executor.draining && executor.trust.standing == Standing::Trusted
}
