//! Results that are read in parts: the rows of each root task by themselves, from here or from the executor that holds them.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use volley_proto::client::ResultPart;
use volley_proto::shuffle::{Compression, ExchangeTicket, Selection, TaskAttempt};
use volley_proto::{AttemptId, Failure, PartitionId};

use super::stream::{QUEUE, send_part};
use super::{Claim, Frame, ResultEntry, Results, Source};
use crate::jobs::{Job, RootOutput};

/// A part, and where it is besides here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    /// What its ticket says.
    pub(crate) part: ResultPart,
    /// `host:port` of the executor that holds it; `None` where it is only here.
    pub(crate) address: Option<Arc<str>>,
}

/// Somebody waits for a result to be complete, which keeps it.
struct Waiting<'a> {
    entry: &'a ResultEntry,
    claim: Claim,
    /// How long it is kept after that.
    then: Duration,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.entry.attention.dropped(&self.claim, self.then);
    }
}

impl Results {
    /// Waits until a job's result is complete, and says where its parts are; `None` where it has to be read as a whole, since what runs
    /// again after a loss may give other rows than those that a client had of another part.
    pub(crate) async fn parts(&self, entry: &ResultEntry, job: &Job) -> Result<Option<Vec<Located>>, Failure> {
        let planned = job.wait_planned().await?;
        if !planned.stages.iter().all(|stage| stage.shape.deterministic) {
            return Ok(None);
        }
        let mut waiting = Waiting { entry, claim: entry.attention.claim(), then: self.grace };
        job.wait_sealed().await?;
        waiting.then = self.expiry;
        let Some(root) = planned.root() else { return Ok(None) };
        let outputs = (0..root.shape.tasks).map(|task| job.wait_root(task as usize, None).now_or_never()?.ok());
        let located = |output: RootOutput| self.located(&output, root.shape.output_partitions);
        Ok(outputs.map(|output| output.map(located)).collect())
    }

    fn located(&self, root: &RootOutput, partitions: u32) -> Located {
        let task = root.attempt.task.index;
        if root.inline.is_some() {
            return Located { part: ResultPart { task, exchange: None }, address: None };
        }
        let part = ResultPart { task, exchange: Some(self.exchange_ticket(root, partitions)) };
        Located { part, address: Some(Arc::clone(&root.address)) }
    }

    /// What an executor is asked for that holds the rows of a root task.
    pub(super) fn exchange_ticket(&self, root: &RootOutput, partitions: u32) -> ExchangeTicket {
        let whole = Selection {
            partitions: (0..partitions).map(PartitionId).collect(),
            attempts: vec![TaskAttempt { task: root.attempt.task.index, attempt: root.attempt.number }],
        };
        ExchangeTicket {
            term: self.term,
            job: root.attempt.task.job,
            stage: root.attempt.task.stage,
            executor: root.executor.id.clone(),
            incarnation: root.executor.incarnation,
            // Foreign clients can't be asked what they decompress.
            compression: Compression::None,
            selections: vec![whole],
        }
    }

    /// Reads one part from row 0.
    pub(crate) fn read_part(self: &Arc<Self>, entry: Arc<ResultEntry>, task: u32) -> Result<BoxStream<'static, Frame>, Status> {
        let Source::Job(job) = &entry.source else { return Err(Status::invalid_argument("the result has no parts")) };
        let (queue, frames) = mpsc::channel(QUEUE);
        let (results, job) = (Arc::clone(self), Arc::clone(job));
        let (expiry, read) = (self.expiry, Arc::clone(&entry));
        read.attention.touch(expiry);
        tokio::spawn(async move {
            let end = tokio::select! {
                end = send_part(&results, &job, task, &queue) => end,
                () = queue.closed() => return,
            };
            match end {
                Ok(()) => results.sent(&entry, &job, task),
                // The reader may have gone meanwhile.
                Err(status) => drop(queue.send(Err(status)).await),
            }
        });
        let frames = ReceiverStream::new(frames).inspect(move |_| read.attention.touch(expiry));
        Ok(frames.boxed())
    }

    /// An executor sent a part to a client.
    pub(crate) fn part_sent(&self, attempt: AttemptId, rows: u64) {
        let Some(entry) = self.get(attempt.task.job) else { return };
        let Source::Job(job) = &entry.source else { return };
        job.rows_sent(attempt.task.index as usize, rows);
        self.sent(&entry, job, attempt.task.index);
    }

    /// Takes note of a part that was sent: with the last one the result has been read.
    fn sent(&self, entry: &ResultEntry, job: &Job, task: u32) {
        let tasks = job.plan().and_then(|planned| planned.root().map(|root| root.shape.tasks));
        let mut sent = entry.sent.lock();
        sent.insert(task);
        if tasks.is_some_and(|tasks| sent.len() >= tasks as usize) {
            entry.attention.all_sent(self.linger);
        }
    }
}
