//! What the scheduler commands, fenced by term and incarnation.

use std::sync::Arc;

use volley_proto::control::{Command, SchedulerMessage, Welcome};
use volley_proto::{AttemptId, ExecutorId, Incarnation, TaskOutcome, TaskReport, TaskSpec, Term};

use super::outbox::Outbox;
use crate::exchange::Exchange;
use crate::task::{Reports, TaskRunner};

/// Carries out commands. Nothing in it waits.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) executor: ExecutorId,
    pub(super) incarnation: Incarnation,
    pub(super) runner: TaskRunner,
    pub(super) exchange: Arc<Exchange>,
    pub(super) outbox: Arc<Outbox>,
    /// The newest term that was heard of.
    pub(super) term: Term,
}

/// What a command means for the stream that it came on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    Listen,
    /// The registration is accepted.
    Welcomed(Welcome),
    /// The registration is not accepted.
    Refused { reason: String, retry: bool },
    /// Leave without loss.
    Drain,
}

impl Commands {
    pub(super) fn obey(&mut self, message: SchedulerMessage) -> Next {
        let SchedulerMessage { term, incarnation, command } = message;
        if let Command::Refused { reason, retry } = command {
            // The scheduler may not have got as far as reading which life it refuses.
            return Next::Refused { reason, retry };
        }
        if incarnation != self.incarnation {
            tracing::warn!(%incarnation, ours = %self.incarnation, "a command for another life of this executor was dropped");
            return Next::Listen;
        }
        if term < self.term {
            tracing::warn!(%term, newest = %self.term, "a command of an older term was dropped");
            return Next::Listen;
        }
        self.term = term;
        match command {
            Command::Welcome(welcome) => {
                self.exchange.set_access(term, welcome.ticket_key.clone());
                return Next::Welcomed(welcome);
            }
            Command::Drain => return Next::Drain,
            Command::Plan(plan) => self.runner.keep_plan(plan),
            Command::Launch(spec) => self.launch(spec),
            Command::Cancel { attempt } => self.cancel(attempt),
            Command::ReleaseOutputs { job, stage } => {
                self.runner.release(job, stage);
                self.outbox.forget_stage(job, stage);
            }
            Command::ForgetJob { job } => {
                self.runner.forget_job(job);
                self.outbox.forget_job(job);
            }
            Command::Refused { .. } => {}
        }
        Next::Listen
    }

    fn launch(&self, spec: TaskSpec) {
        let attempt = spec.attempt;
        if spec.incarnation != self.incarnation || spec.term < self.term {
            tracing::warn!(%attempt, term = %spec.term, incarnation = %spec.incarnation, "a stale launch was dropped");
            return;
        }
        if let Err(failure) = self.runner.launch(spec) {
            tracing::debug!(%attempt, %failure, "a launch was refused");
            self.outbox.refuse(attempt, failure);
        }
    }

    fn cancel(&self, attempt: AttemptId) {
        if self.runner.cancel(attempt) {
            return;
        }
        if self.outbox.has_ended(attempt) {
            // Perhaps sealed, and nobody is going to read it.
            self.runner.discard(attempt);
        } else {
            // It never came here, or was forgotten: its slots are free either way.
            let (executor, incarnation) = (self.executor.clone(), self.incarnation);
            self.outbox.report(TaskReport { attempt, executor, incarnation, outcome: TaskOutcome::Cancelled });
        }
    }
}
