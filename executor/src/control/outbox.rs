//! What is to be said to the scheduler.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;
use volley_proto::control::Notice;
use volley_proto::{AttemptId, Failure, JobId, StageId, TaskOutcome, TaskReport};

use crate::exchange::ResultReaders;
use crate::task::Reports;

/// Notices in order, and the ends of attempts until nobody can ask for them again.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Notice>,
    /// How each attempt ended, said anew on every stream.
    ends: BTreeMap<AttemptId, Notice>,
}

impl Outbox {
    /// Says `notice` once, if there is a stream.
    pub(crate) fn say(&self, notice: Notice) {
        self.state.lock().queue.push_back(notice);
        self.filled.notify_one();
    }

    /// Says that an attempt was not started.
    pub(crate) fn refuse(&self, attempt: AttemptId, failure: Failure) {
        self.end(attempt, Notice::LaunchRefused { attempt, failure });
    }

    /// Whether the end of `attempt` was said.
    pub(crate) fn has_ended(&self, attempt: AttemptId) -> bool {
        self.state.lock().ends.contains_key(&attempt)
    }

    /// The next notice, when there is one. Cancelling the call loses none.
    pub(super) async fn next(&self) -> Notice {
        loop {
            let filled = self.filled.notified();
            if let Some(notice) = self.state.lock().queue.pop_front() {
                return notice;
            }
            filled.await;
        }
    }

    /// What is left to say, at once.
    pub(super) fn drain(&self) -> Vec<Notice> {
        self.state.lock().queue.drain(..).collect()
    }

    /// Prepares for a new stream: what an older one may have lost is said again, what is stale is not.
    pub(super) fn start_over(&self) {
        let mut state = self.state.lock();
        let draining = state.queue.iter().any(|notice| *notice == Notice::Draining);
        state.queue = state.ends.values().cloned().chain(draining.then_some(Notice::Draining)).collect();
        drop(state);
        self.filled.notify_one();
    }

    /// Nobody asks for the attempts of a stage any more.
    pub(crate) fn forget_stage(&self, job: JobId, stage: StageId) {
        self.state.lock().ends.retain(|id, _| (id.task.job, id.task.stage) != (job, stage));
    }

    /// Nobody asks for the attempts of a job any more.
    pub(crate) fn forget_job(&self, job: JobId) {
        let mut state = self.state.lock();
        state.ends.retain(|id, _| id.task.job != job);
        state.queue.retain(|notice| attempt_of(notice).is_none_or(|id| id.task.job != job));
    }

    /// Nobody asks for anything that was before.
    pub(crate) fn forget_all(&self) {
        *self.state.lock() = State::default();
    }

    fn end(&self, attempt: AttemptId, notice: Notice) {
        let mut state = self.state.lock();
        state.ends.insert(attempt, notice.clone());
        state.queue.push_back(notice);
        drop(state);
        self.filled.notify_one();
    }
}

impl ResultReaders for Outbox {
    /// Said once: where it is lost with a stream, the result is kept until it expires.
    fn sent(&self, attempt: AttemptId, rows: u64) {
        self.say(Notice::ResultSent { attempt, rows });
    }
}

impl Reports for Outbox {
    fn report(&self, report: TaskReport) {
        match report.outcome {
            TaskOutcome::Running { .. } => self.say(Notice::Report(report)),
            TaskOutcome::Sealed { .. } | TaskOutcome::Failed(_) | TaskOutcome::Cancelled => {
                self.end(report.attempt, Notice::Report(report))
            }
        }
    }
}

fn attempt_of(notice: &Notice) -> Option<AttemptId> {
    match notice {
        Notice::Report(report) => Some(report.attempt),
        Notice::LaunchRefused { attempt, .. } | Notice::ResultSent { attempt, .. } => Some(*attempt),
        Notice::Register(_) | Notice::Heartbeat(_) | Notice::Draining | Notice::Leaving => None,
    }
}

#[cfg(test)]
mod tests {
    use volley_proto::{ExecutorId, Incarnation, TaskId};

    use super::*;

    fn report(attempt: AttemptId, outcome: TaskOutcome) -> TaskReport {
        TaskReport { attempt, executor: ExecutorId::new("e1"), incarnation: Incarnation(1), outcome }
    }

    fn attempt(job: u64, index: u32) -> AttemptId {
        TaskId::new(JobId(job), StageId(0), index).attempt(0)
    }

    #[test]
    fn ends_are_said_again_on_a_new_stream_and_progress_is_not() {
        let outbox = Outbox::default();
        outbox.report(report(attempt(1, 0), TaskOutcome::Running { rows: 5 }));
        outbox.report(report(attempt(1, 0), TaskOutcome::Cancelled));
        outbox.refuse(attempt(2, 0), Failure::retry("no plan"));
        assert_eq!(outbox.drain().len(), 3);

        outbox.report(report(attempt(2, 1), TaskOutcome::Running { rows: 7 }));
        outbox.start_over();
        let said: Vec<_> = outbox.drain().iter().filter_map(attempt_of).collect();
        assert_eq!(said, [attempt(1, 0), attempt(2, 0)]);
    }

    #[test]
    fn a_forgotten_job_is_not_spoken_of() {
        let outbox = Outbox::default();
        outbox.report(report(attempt(1, 0), TaskOutcome::Cancelled));
        outbox.report(report(attempt(2, 0), TaskOutcome::Cancelled));
        outbox.forget_job(JobId(1));
        outbox.forget_stage(JobId(2), StageId(9));
        assert!(!outbox.has_ended(attempt(1, 0)) && outbox.has_ended(attempt(2, 0)));
        assert_eq!(outbox.drain().iter().filter_map(attempt_of).collect::<Vec<_>>(), [attempt(2, 0)]);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let outbox = std::sync::Arc::new(Outbox::default());
        let reader = tokio::spawn({
            let outbox = std::sync::Arc::clone(&outbox);
            async move { outbox.next().await }
        });
        outbox.say(Notice::Draining);
        assert_eq!(reader.await.unwrap(), Notice::Draining);
    }
}
