//! A result as the stream of a DoGet: its schema, then the rows of the root tasks in their order.
//!
//! A row once shown can't be taken back. So a sealed attempt's frames are held back until all of them are here, or [`HOLD_BACK`]
//! is reached: up to there, an executor that dies while its rows are fetched costs a re-run and not the job. Of a job whose results
//! are eager, an attempt that still runs is read as well once it has written something, and its rows go on as they come.
//!
//! Rows that are few come with the report that their attempt is sealed, and nothing is fetched for them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::Bytes;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tonic::Status;
use volley_proto::{AttemptId, Failure, InlineFrame};

use super::fetch::Fetch;
use super::{Claim, FetchError, Frame, ResultEntry, Results, Source};
use crate::jobs::{Job, RootOutput};
use crate::service::status;
use crate::state::Event;

/// Bytes of an attempt that are kept here before the first of them is shown.
const HOLD_BACK: usize = 16 << 20;
/// How long the executor's word on an attempt is waited for whose rows ended too early.
const WORD_WAIT: Duration = Duration::from_secs(15);
/// Frames on their way to the client.
pub(super) const QUEUE: usize = 4;

/// The frames of a result. Dropped before its end, it gives the reader some time to come back.
#[derive(Debug)]
pub(crate) struct ResultStream {
    frames: mpsc::Receiver<Frame>,
    guard: Guard,
}

#[derive(Debug)]
struct Guard {
    results: Arc<Results>,
    entry: Arc<ResultEntry>,
    claim: Arc<Claim>,
    linger: Duration,
    complete: bool,
}

impl Stream for ResultStream {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let next = self.frames.poll_recv(context);
        if let Poll::Ready(None) = next {
            self.guard.complete = true;
        }
        next
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A job that was over before it was journaled should leave nothing there, and costs little to run again.
        let keep = !self.linger.is_zero() && self.entry.is_journaled();
        let read = self.complete && self.entry.attention.holds(&self.claim);
        if read && !keep {
            self.results.close_entry(&self.entry);
        } else {
            self.entry.attention.dropped(&self.claim, if read { self.linger } else { self.results.grace });
        }
    }
}

/// Starts sending; once sent to its end the result is kept for `linger`.
pub(super) fn start(results: Arc<Results>, entry: Arc<ResultEntry>, linger: Duration) -> ResultStream {
    let (queue, frames) = mpsc::channel(QUEUE);
    let claim = Arc::new(entry.attention.claim());
    let guard = Guard { results: Arc::clone(&results), entry: Arc::clone(&entry), claim: Arc::clone(&claim), linger, complete: false };
    tokio::spawn(async move {
        let taken = || Status::aborted("the result is read by a later request");
        let end = tokio::select! {
            end = send(&results, &entry.source, &queue) => end,
            () = claim.lost() => Err(taken()),
            () = queue.closed() => return,
        };
        if let Err(status) = end {
            // The reader may have gone meanwhile.
            let _ = queue.send(Err(status)).await;
        }
    });
    ResultStream { frames, guard }
}

async fn send(results: &Results, source: &Source, queue: &mpsc::Sender<Frame>) -> Result<(), Status> {
    match source {
        Source::Batches { schema, batches } => {
            let rows = futures::stream::iter(batches.to_vec()).map(Ok);
            let mut frames = FlightDataEncoderBuilder::new().with_schema(Arc::clone(schema)).build(rows);
            while let Some(frame) = frames.try_next().await.map_err(|error| status::internal("the result can't be encoded", error))? {
                put(queue, frame).await?;
            }
            Ok(())
        }
        Source::Job(job) => {
            let failed = |failure: Failure| status::of_failure(&failure, Some(job.id));
            let planned = job.wait_planned().await.map_err(failed)?;
            put(queue, SchemaAsIpc::new(&planned.schema, &IpcWriteOptions::default()).into()).await?;
            let Some(root) = planned.root() else { return Ok(()) };
            for task in 0..root.shape.tasks as usize {
                send_task(results, job, task, root.shape.output_partitions, queue).await?;
            }
            Ok(())
        }
    }
}

/// Sends the schema and the rows of one root task.
pub(super) async fn send_part(results: &Results, job: &Arc<Job>, task: u32, queue: &mpsc::Sender<Frame>) -> Result<(), Status> {
    let planned = job.wait_planned().await.map_err(|failure| status::of_failure(&failure, Some(job.id)))?;
    put(queue, SchemaAsIpc::new(&planned.schema, &IpcWriteOptions::default()).into()).await?;
    match planned.root() {
        Some(root) if task < root.shape.tasks => send_task(results, job, task as usize, root.shape.output_partitions, queue).await,
        _ => Err(Status::invalid_argument(format!("the result of {} has no part {task}", job.id))),
    }
}

/// Sends the rows of one root task, from whichever attempt can be read.
async fn send_task(results: &Results, job: &Arc<Job>, task: usize, partitions: u32, queue: &mpsc::Sender<Frame>) -> Result<(), Status> {
    let failed = |failure: Failure| status::of_failure(&failure, Some(job.id));
    let mut unreadable: Option<RootOutput> = None;
    loop {
        let root = job.wait_root(task, unreadable.as_ref()).await.map_err(failed)?;
        let mut shown = false;
        let sent = tokio::select! {
            sent = send_attempt(results, &root, partitions, queue, &mut shown) => sent,
            () = job.wait_retracted(root.attempt) => Err(Cut::Retracted),
        };
        let (attempt, executor) = (root.attempt, root.executor.clone());
        let sent = if root.sealed { sent } else { decide(job, attempt, shown, sent).await };
        match sent {
            Ok(rows) => {
                job.rows_sent(task, rows);
                results.inbox.send(Event::ResultDelivered { attempt });
                return Ok(());
            }
            Err(Cut::Reader(status)) => return Err(status),
            Err(Cut::Fetch(error)) => {
                tracing::warn!(%attempt, %executor, %error, shown, "rows could not be fetched");
                results.inbox.send(Event::ResultFetchFailed { attempt, executor, partly_shown: shown });
            }
            Err(Cut::Retracted) if shown => results.inbox.send(Event::ResultFetchFailed { attempt, executor, partly_shown: true }),
            Err(Cut::Retracted) => {}
            // The same attempt again, now that all of it is there.
            Err(Cut::TooEarly) => continue,
        }
        if shown {
            // The machine ends the job now; its failure is what the reader gets.
            let outcome = job.wait_ended().await;
            return Err(failed(crate::jobs::failure(&outcome)));
        }
        unreadable = Some(root);
    }
}

/// Why an attempt was not sent to its end.
enum Cut {
    Reader(Status),
    Fetch(FetchError),
    Retracted,
    TooEarly,
}

/// What it means that reading an attempt that was not sealed came to an end: the executor's word on the attempt decides, which is
/// on its way to the machine.
async fn decide(job: &Job, attempt: AttemptId, shown: bool, sent: Result<u64, Cut>) -> Result<u64, Cut> {
    match sent {
        Ok(rows) => {
            if job.wait_root_decided(attempt).await {
                Ok(rows)
            } else {
                Err(Cut::Retracted)
            }
        }
        Err(Cut::Fetch(_)) if !shown => {
            if job.wait_root_decided(attempt).await {
                Err(Cut::TooEarly)
            } else {
                Err(Cut::Retracted)
            }
        }
        // A failure of the attempt says more than that its rows ended; but a reader must not wait long where none comes.
        Err(Cut::Fetch(error)) => match tokio::time::timeout(WORD_WAIT, job.wait_root_decided(attempt)).await {
            Ok(false) => Err(Cut::Retracted),
            Ok(true) | Err(_) => Err(Cut::Fetch(error)),
        },
        other => other,
    }
}

async fn send_attempt(
    results: &Results,
    root: &RootOutput,
    partitions: u32,
    queue: &mpsc::Sender<Frame>,
    shown: &mut bool,
) -> Result<u64, Cut> {
    if let Some(frames) = &root.inline {
        return send_inline(root.attempt, frames, queue, shown).await;
    }
    let mut fetch = Fetch::start(results, root, partitions).await.map_err(Cut::Fetch)?;
    let hold_back = if root.sealed { HOLD_BACK } else { 0 };
    let (mut held, mut bytes) = (Vec::new(), 0);
    let mark = mark(root.attempt);
    while let Some(frame) = fetch.next(root).await.map_err(Cut::Fetch)? {
        let frame = FlightData { app_metadata: mark.clone(), ..frame };
        bytes += frame.data_body.len();
        held.push(frame);
        if bytes > hold_back {
            *shown = true;
            for frame in held.drain(..) {
                put(queue, frame).await.map_err(Cut::Reader)?;
            }
        }
    }
    // From here on nothing can be lost: all of it is in this process.
    for frame in held {
        *shown = true;
        put(queue, frame).await.map_err(Cut::Reader)?;
    }
    Ok(fetch.rows_so_far())
}

/// What tells a client which attempt rows are of: after a restart of the scheduler it asks again, and the rows of an attempt are the same.
fn mark(attempt: AttemptId) -> Bytes {
    attempt.to_string().into()
}

/// Sends rows that are here already.
async fn send_inline(attempt: AttemptId, frames: &[InlineFrame], queue: &mpsc::Sender<Frame>, shown: &mut bool) -> Result<u64, Cut> {
    for frame in frames {
        *shown = true;
        let (data_header, data_body) = (frame.header.clone(), frame.body.clone());
        let data = FlightData { data_header, data_body, app_metadata: mark(attempt), ..FlightData::default() };
        put(queue, data).await.map_err(Cut::Reader)?;
    }
    Ok(frames.iter().map(|frame| frame.rows).sum())
}

async fn put(queue: &mpsc::Sender<Frame>, frame: FlightData) -> Result<(), Status> {
    queue.send(Ok(frame)).await.map_err(|_| Status::cancelled("the reader went away"))
}

/// The frames of a result as a boxed stream, as Flight services answer.
pub(crate) fn frames(stream: ResultStream) -> Pin<Box<dyn Stream<Item = Frame> + Send + 'static>> {
    stream.boxed()
}
