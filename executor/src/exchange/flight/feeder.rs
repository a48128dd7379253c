//! The producer's end of one `DoExchange`: sends what its reader subscribed to, within its credit.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::FlightData;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use volley_proto::shuffle::{ChunkHeader, ChunkKind, ExchangeTicket, ReaderMessage, TaskAttempt};
use volley_proto::{Failure, PartitionId, TaskId, wire};

use super::frames::{Frame, encode_chunk, encode_header};
use crate::exchange::Exchange;
use crate::exchange::store::{Chunk, ChunkChecksum, CursorStep, PartitionCursor};

/// Chunks of one stream that are encoded or wait for the transport at a time.
const CHUNKS_UNDER_WAY: usize = 4;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Serves one stream until its reader is gone.
pub(super) struct Feeder {
    exchange: Arc<Exchange>,
    ticket: ExchangeTicket,
    feeds: HashMap<FeedKey, Feed>,
    reading: FuturesUnordered<Boxed<(Reading, Result<CursorStep, Failure>)>>,
    sending: FuturesOrdered<Boxed<Sending>>,
}

/// One partition of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FeedKey {
    subscription: u32,
    partition: PartitionId,
}

#[derive(Default)]
struct Feed {
    /// Bytes that may still be sent; below zero after a chunk that was larger than the rest.
    credit: i64,
    /// Chunks that wait for credit, with the cursors that found them.
    parked: VecDeque<(Reading, Arc<Chunk>)>,
    /// What was sent of each attempt.
    sent: HashMap<TaskAttempt, Tally>,
}

#[derive(Default)]
struct Tally {
    rows: u64,
    chunks: u64,
    checksum: ChunkChecksum,
}

/// A cursor and whom it reads for.
struct Reading {
    feed: FeedKey,
    attempt: TaskAttempt,
    cursor: PartitionCursor,
}

/// What is to be sent next, in the order of the stream.
struct Sending {
    feed: FeedKey,
    attempt: TaskAttempt,
    /// Bytes that were subtracted from the credit when the chunk was taken.
    charged: i64,
    what: Result<Option<Vec<Frame>>, Failure>,
}

impl Feeder {
    pub(super) fn new(exchange: Arc<Exchange>, ticket: ExchangeTicket) -> Self {
        Self { exchange, ticket, feeds: HashMap::new(), reading: FuturesUnordered::new(), sending: FuturesOrdered::new() }
    }

    /// Runs until the reader ends its side or stops listening.
    pub(super) async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<FlightData, Status>> + Unpin,
        out: mpsc::Sender<Result<FlightData, Status>>,
    ) {
        loop {
            tokio::select! {
                biased;
                request = requests.next() => {
                    // A broken or ended request stream means that the reader is gone.
                    let Some(Ok(request)) = request else { return };
                    if let Err(status) = self.handle(&request) {
                        // Nobody listens any more if this fails.
                        let _ = out.send(Err(status)).await;
                        return;
                    }
                }
                Some(sending) = self.sending.next() => {
                    for data in self.flight(sending) {
                        if out.send(Ok(data)).await.is_err() {
                            return;
                        }
                    }
                }
                Some((reading, step)) = self.reading.next(), if self.sending.len() < CHUNKS_UNDER_WAY => self.advance(reading, step),
            }
        }
    }

    /// Takes in one message of the reader.
    pub(super) fn handle(&mut self, request: &FlightData) -> Result<(), Status> {
        if request.app_metadata.is_empty() {
            return Ok(());
        }
        let message = wire::shuffle::v1::ReaderMessage::decode(request.app_metadata.clone());
        let message = message.map_err(|e| Status::invalid_argument(format!("the app_metadata is no reader message: {e}")))?;
        let message = ReaderMessage::try_from(message).map_err(|e| Status::invalid_argument(e.to_string()))?;
        match message {
            ReaderMessage::Subscribe { subscription, selection, credit_bytes } => {
                for partition in selection.partitions {
                    let feed = FeedKey { subscription, partition };
                    self.feeds.entry(feed).or_default().credit += signed(credit_bytes);
                    for &attempt in &selection.attempts {
                        self.read_on(self.reading(feed, attempt));
                    }
                }
            }
            ReaderMessage::Credit { subscription, partition, bytes } => self.credit(FeedKey { subscription, partition }, signed(bytes)),
            ReaderMessage::Unsubscribe { subscription, partition } => {
                self.feeds.retain(|feed, _| feed.subscription != subscription || partition.is_some_and(|one| one != feed.partition));
            }
        }
        Ok(())
    }

    fn reading(&self, feed: FeedKey, attempt: TaskAttempt) -> Reading {
        let producer = TaskId::new(self.ticket.job, self.ticket.stage, attempt.task).attempt(attempt.attempt);
        let store = Arc::clone(&self.exchange.store);
        let cursor = PartitionCursor::new(store, producer, feed.partition, self.exchange.config.subscribe_timeout);
        Reading { feed, attempt, cursor }
    }

    fn read_on(&self, mut reading: Reading) {
        let step = async move {
            let step = poll_fn(|context| reading.cursor.poll_next(context)).await;
            (reading, step)
        };
        self.reading.push(step.boxed());
    }

    /// Grants credit and sends what waited for it.
    fn credit(&mut self, key: FeedKey, bytes: i64) {
        let Some(feed) = self.feeds.get_mut(&key) else { return };
        feed.credit += bytes;
        while let Some(feed) = self.feeds.get_mut(&key).filter(|feed| feed.credit > 0) {
            let Some((reading, chunk)) = feed.parked.pop_front() else { return };
            self.send(reading, chunk);
        }
    }

    /// A cursor came to something.
    fn advance(&mut self, reading: Reading, step: Result<CursorStep, Failure>) {
        let Reading { feed: key, attempt, .. } = reading;
        // The reader may have left in the meantime.
        let Some(feed) = self.feeds.get_mut(&key) else { return };
        let what = match step {
            Ok(CursorStep::Chunk(chunk)) if feed.credit > 0 => return self.send(reading, chunk),
            Ok(CursorStep::Chunk(chunk)) => return feed.parked.push_back((reading, chunk)),
            Ok(CursorStep::End(_)) => Ok(None),
            Err(failure) => Err(failure),
        };
        self.sending.push_back(async move { Sending { feed: key, attempt, charged: 0, what } }.boxed());
    }

    /// Encodes a chunk behind all that is under way, and lets its cursor go on.
    fn send(&mut self, reading: Reading, chunk: Arc<Chunk>) {
        let Reading { feed: key, attempt, .. } = reading;
        let charged = signed(chunk.bytes() as u64);
        if let Some(feed) = self.feeds.get_mut(&key) {
            feed.credit -= charged;
        }
        let Some(output) = reading.cursor.output() else { return };
        let wire = output.wire_of(chunk.partition()).clone();
        let encode = encode_chunk(chunk, wire, self.ticket.compression, self.exchange.store.hooks().clone());
        self.sending.push_back(async move { Sending { feed: key, attempt, charged, what: encode.await.map(Some) } }.boxed());
        self.read_on(reading);
    }

    /// What goes onto the wire, and what it does to the books.
    fn flight(&mut self, sending: Sending) -> Vec<FlightData> {
        let Sending { feed: key, attempt, charged, what } = sending;
        let Some(feed) = self.feeds.get_mut(&key) else { return Vec::new() };
        let header = |kind| ChunkHeader { subscription: key.subscription, partition: key.partition, attempt, kind };
        let only = |kind| vec![FlightData { app_metadata: encode_header(header(kind)), ..FlightData::default() }];
        match what {
            Ok(Some(frames)) => {
                let tally = feed.sent.entry(attempt).or_default();
                let mut out = Vec::with_capacity(frames.len());
                let mut bytes = 0;
                for frame in frames {
                    tally.rows += frame.rows;
                    tally.chunks += 1;
                    tally.checksum.add(frame.rows);
                    bytes += signed(frame.len() as u64);
                    let rows = frame.rows;
                    out.extend(frame.into_flight(header(ChunkKind::Chunk { rows })));
                }
                // The reader counts encoded bytes; until now the chunk was charged with what it takes in memory.
                self.credit(key, charged - bytes);
                out
            }
            Ok(None) => {
                let tally = feed.sent.remove(&attempt).unwrap_or_default();
                only(ChunkKind::End { rows: tally.rows, chunks: tally.chunks, checksum: tally.checksum.value() })
            }
            Err(failure) => {
                feed.parked.retain(|(reading, _)| reading.attempt != attempt);
                only(ChunkKind::Gone { message: failure.message })
            }
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
