//! What others wait for of a job.

use std::sync::Arc;
use std::time::Duration;

use volley_proto::{AttemptId, Failure};

use super::job::{Inner, Job, Phase, failure};
use super::plan::PlannedJob;
use super::roots::RootOutput;
use crate::state::JobOutcome;

/// How long a client waits for its ticket while the journal is not written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

impl Job {
    /// Waits for the plan.
    pub(crate) async fn wait_planned(&self) -> Result<Arc<PlannedJob>, Failure> {
        self.wait(|inner| match (&inner.planned, &inner.phase) {
            (_, Phase::Ended(outcome)) if *outcome != JobOutcome::Succeeded => Some(Err(failure(outcome))),
            (Some(planned), _) => Some(Ok(Arc::clone(planned))),
            (None, Phase::Ended(_)) => Some(Err(Failure::internal("the job ended without a plan"))),
            (None, _) => None,
        })
        .await
    }

    /// Waits until a scheduler after this one would go on with it, or there is nothing left to go on with; not for long, for a journal may not
    /// get written.
    pub(crate) async fn wait_written(&self) {
        let written = self.wait(|inner| {
            let is_over = matches!(inner.phase, Phase::Ended(_)) || (inner.planned.is_some() && inner.roots.are_sealed());
            (inner.written || is_over).then_some(())
        });
        // Without it, a scheduler that dies right now loses the job, and its client is told to run it again.
        let _ = tokio::time::timeout(WRITTEN_WITHIN, written).await;
    }

    /// Waits for the rows of root task `task`; `after` is an announcement that turned out not to be readable.
    pub(crate) async fn wait_root(&self, task: usize, after: Option<&RootOutput>) -> Result<RootOutput, Failure> {
        self.wait(|inner| match (inner.roots.of(task), &inner.phase) {
            (_, Phase::Ended(outcome)) if *outcome != JobOutcome::Succeeded => Some(Err(failure(outcome))),
            (Some(Some(root)), _) if Some(root) != after => Some(Ok(root.clone())),
            // Nothing of it runs again.
            (_, Phase::Ended(outcome)) => Some(Err(failure(outcome))),
            (None, _) => Some(Err(Failure::internal(format!("the result has no task {task}")))),
            _ => None,
        })
        .await
    }

    /// Waits until all its rows are there, or it ended in another way.
    pub(crate) async fn wait_sealed(&self) -> Result<(), Failure> {
        self.wait(|inner| match &inner.phase {
            Phase::Ended(JobOutcome::Succeeded) => Some(Ok(())),
            Phase::Ended(outcome) => Some(Err(failure(outcome))),
            _ if inner.planned.is_some() && inner.roots.are_sealed() => Some(Ok(())),
            _ => None,
        })
        .await
    }

    /// Waits for its end.
    pub(crate) async fn wait_ended(&self) -> JobOutcome {
        self.wait(|inner| match &inner.phase {
            Phase::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        })
        .await
    }

    /// Resolves when an attempt at a root task is no longer the one to read.
    pub(crate) async fn wait_retracted(&self, attempt: AttemptId) {
        let task = attempt.task.index as usize;
        self.wait(|inner| {
            let current = inner.roots.of(task).flatten();
            let given_up = matches!(&inner.phase, Phase::Ended(outcome) if *outcome != JobOutcome::Succeeded);
            (given_up || current.is_none_or(|root| root.attempt != attempt)).then_some(())
        })
        .await;
    }

    /// Waits until a root attempt that ran is sealed (true), or is no longer the one to read (false).
    pub(crate) async fn wait_root_decided(&self, attempt: AttemptId) -> bool {
        let task = attempt.task.index as usize;
        self.wait(|inner| match (inner.roots.of(task).flatten(), &inner.phase) {
            (_, Phase::Ended(outcome)) if *outcome != JobOutcome::Succeeded => Some(false),
            (Some(root), _) if root.attempt == attempt => root.sealed.then_some(true),
            _ => Some(false),
        })
        .await
    }

    async fn wait<T>(&self, mut look: impl FnMut(&Inner) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = look(&self.inner.lock()) {
                return found;
            }
            if changes.changed().await.is_err() {
                // The sender lives in `self`, which is borrowed here: this is never reached, and if it were, nothing changes any more.
                std::future::pending::<()>().await;
            }
        }
    }
}
