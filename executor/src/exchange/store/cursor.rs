//! A reader's place in one partition of one attempt's output.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;
use volley_proto::{AttemptId, Failure, PartitionId};

use super::chunk::Chunk;
use super::output::Output;
use super::outputs::{Found, PartitionStore};
use super::partition::Next;

pub(in crate::exchange) use super::partition::{ChunkChecksum, PartitionEnd};

/// Reads one partition of one attempt's output, chunk by chunk, while it is written or later.
#[derive(Debug)]
pub(in crate::exchange) struct PartitionCursor {
    store: Arc<PartitionStore>,
    attempt: AttemptId,
    partition: u32,
    output: Option<Arc<Output>>,
    next: usize,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What a cursor comes to.
#[derive(Debug)]
pub(in crate::exchange) enum CursorStep {
    Chunk(Arc<Chunk>),
    End(PartitionEnd),
}

impl PartitionCursor {
    /// A cursor at the start. It waits up to `patience` for an output that the store doesn't know.
    pub(in crate::exchange) fn new(store: Arc<PartitionStore>, attempt: AttemptId, partition: PartitionId, patience: Duration) -> Self {
        Self { store, attempt, partition: partition.0, output: None, next: 0, patience, deadline: None }
    }

    /// The output that it reads, once there is one.
    pub(in crate::exchange) fn output(&self) -> Option<&Arc<Output>> {
        self.output.as_ref()
    }

    /// The next chunk, or the end; an output that is gone is a failure that charges its producer.
    pub(in crate::exchange) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<CursorStep, Failure>> {
        let output = match &self.output {
            Some(output) => Arc::clone(output),
            None => ready!(self.poll_output(context))?,
        };
        Poll::Ready(match output.next(self.partition, self.next, context.waker())? {
            Next::Chunk(chunk) => {
                self.next += 1;
                Ok(CursorStep::Chunk(chunk))
            }
            Next::End(end) => Ok(CursorStep::End(end)),
            Next::Failed(reason) => Err(self.gone(&format!("{} did not finish: {reason}", self.attempt))),
            Next::Wait => return Poll::Pending,
        })
    }

    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Result<Arc<Output>, Failure>> {
        match self.store.find(self.attempt, context.waker()) {
            Found::Output(output) => {
                self.deadline = None;
                self.output = Some(Arc::clone(&output));
                Poll::Ready(Ok(output))
            }
            Found::Gone(reason) => Poll::Ready(Err(self.gone(&reason))),
            Found::Wait => {
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
                ready!(deadline.as_mut().poll(context));
                let waited = self.patience.as_secs_f32();
                Poll::Ready(Err(self.gone(&format!("the output of {} did not appear within {waited} s", self.attempt))))
            }
        }
    }

    fn gone(&self, reason: &str) -> Failure {
        let executor = self.store.executor();
        Failure::rerun(self.attempt, executor.clone(), format!("executor {executor}: {reason}"))
    }
}
