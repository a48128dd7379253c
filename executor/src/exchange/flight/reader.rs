//! Reads partitions of attempts that one other executor holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use volley_proto::shuffle::{ChunkHeader, ChunkKind, Selection, TaskAttempt};
use volley_proto::{AttemptId, ExecutorId, Failure, Incarnation, JobId, PartitionId, StageId, TaskId};

use super::peer::{Arrival, Broken, PeerKey, Subscription};
use crate::exchange::Exchange;
use crate::exchange::encoding::WireSchema;
use crate::exchange::source::ReadCounters;
use crate::exchange::store::{ChunkChecksum, PartitionEnd};

/// Waits before a broken stream is opened again. After the last one the output is taken for gone.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// A reader's share of the credit is at most this: more would not make it faster.
const MOST_CREDIT: u64 = 8 << 20;
/// A partition's share of it is at least this.
const LEAST_CREDIT: u64 = 256 << 10;

/// Who holds the outputs of some producer tasks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::exchange) struct Producer {
    /// The job.
    pub(in crate::exchange) job: JobId,
    /// The producer stage.
    pub(in crate::exchange) stage: StageId,
    /// The executor.
    pub(in crate::exchange) executor: ExecutorId,
    /// Its life.
    pub(in crate::exchange) incarnation: Incarnation,
    /// `host:port` of its Flight server.
    pub(in crate::exchange) address: Arc<str>,
}

/// Reads some partitions of some attempts from one peer.
#[derive(Debug)]
pub(in crate::exchange) struct RemoteReader {
    exchange: Arc<Exchange>,
    producer: Producer,
    wire: WireSchema,
    counters: Arc<ReadCounters>,
    /// What is still to come; in order, so that the failure of a lost peer always names the same attempt.
    unfinished: BTreeMap<(TaskAttempt, PartitionId), Progress>,
    subscription: Option<Subscription>,
    /// Bytes that a partition may have under way.
    credit: u64,
    /// Bytes taken of each partition that the peer has no new credit for yet.
    owed: HashMap<PartitionId, u64>,
    retries: usize,
}

/// How far one attempt's partition was read.
#[derive(Debug, Default)]
struct Progress {
    /// Rows handed to the task, over all streams.
    delivered: u64,
    /// Rows, chunks and checksum seen on this stream.
    rows: u64,
    chunks: u64,
    checksum: ChunkChecksum,
}

impl RemoteReader {
    pub(in crate::exchange) fn new(
        exchange: Arc<Exchange>,
        producer: Producer,
        attempts: &[TaskAttempt],
        partitions: &[PartitionId],
        wire: WireSchema,
        counters: Arc<ReadCounters>,
    ) -> Self {
        let unfinished = attempts.iter().flat_map(|attempt| partitions.iter().map(|partition| (*attempt, *partition)));
        Self {
            unfinished: unfinished.map(|key| (key, Progress::default())).collect(),
            exchange,
            producer,
            wire,
            counters,
            subscription: None,
            credit: LEAST_CREDIT,
            owed: HashMap::new(),
            retries: 0,
        }
    }

    /// The next batch, decoded on the calling thread; `None` after the last row of the last producer.
    pub(in crate::exchange) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        while !self.unfinished.is_empty() {
            let arrival = match &mut self.subscription {
                Some(subscription) => subscription.next().await,
                None => match self.subscribe() {
                    Ok(subscription) => {
                        self.subscription = Some(subscription);
                        continue;
                    }
                    Err(broken) => Err(broken),
                },
            };
            match arrival {
                Ok(arrival) => {
                    if let Some(batch) = self.take(arrival)? {
                        return Ok(Some(batch));
                    }
                }
                Err(broken) => self.recover(&broken).await?,
            }
        }
        self.subscription = None;
        Ok(None)
    }

    fn subscribe(&mut self) -> Result<Subscription, Broken> {
        let Some(access) = self.exchange.access() else {
            let message = format!("executor {} is not yet registered with a scheduler", self.exchange.config.executor);
            return Err(Broken { message, again: false });
        };
        for progress in self.unfinished.values_mut() {
            *progress = Progress { delivered: progress.delivered, ..Progress::default() };
        }
        self.owed.clear();
        let selection = self.selection();
        let share = self.exchange.config.credit_bytes as u64 / (self.exchange.peers.readers() as u64 + 1);
        self.credit = (share.min(MOST_CREDIT) / selection.partitions.len().max(1) as u64).max(LEAST_CREDIT);
        let Producer { job, stage, executor, incarnation, address } = self.producer.clone();
        let key = PeerKey { executor, incarnation, address, job, stage, term: access.term };
        self.exchange.peers.subscribe(&self.exchange, &key, &selection, self.credit)
    }

    /// Everything that is not finished. After a break it may name a finished pair as well, whose rows are then dropped.
    fn selection(&self) -> Selection {
        let mut attempts: Vec<_> = self.unfinished.keys().map(|(attempt, _)| *attempt).collect();
        attempts.dedup();
        let mut partitions: Vec<_> = self.unfinished.keys().map(|(_, partition)| *partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        Selection { partitions, attempts }
    }

    /// Takes in one message; the rows that it brings, unless they were delivered before.
    pub(super) fn take(&mut self, arrival: Arrival) -> Result<Option<RecordBatch>, Failure> {
        let ChunkHeader { partition, attempt, ref kind, .. } = arrival.header;
        match kind {
            ChunkKind::Chunk { rows } => {
                self.counters.add_flight(arrival.bytes);
                self.repay(partition, arrival.bytes as u64);
                self.take_chunk(partition, attempt, *rows, &arrival)
            }
            ChunkKind::End { rows, chunks, checksum } => {
                let promised = PartitionEnd { rows: *rows, chunks: *chunks, checksum: *checksum };
                self.finish(partition, attempt, promised).map(|()| None)
            }
            ChunkKind::Gone { .. } if !self.unfinished.contains_key(&(attempt, partition)) => Ok(None),
            ChunkKind::Gone { message } => Err(Failure::rerun(self.attempt(attempt), self.producer.executor.clone(), message)),
        }
    }

    fn take_chunk(
        &mut self,
        partition: PartitionId,
        attempt: TaskAttempt,
        rows: u64,
        arrival: &Arrival,
    ) -> Result<Option<RecordBatch>, Failure> {
        let damaged = |reason: String| {
            let (producer, executor) = (self.attempt(attempt), &self.producer.executor);
            Failure::rerun(producer, executor.clone(), format!("partition {partition} of {producer} from executor {executor}: {reason}"))
        };
        if !self.unfinished.contains_key(&(attempt, partition)) {
            return Ok(None);
        }
        let batch = self.wire.decode_all(&arrival.messages).map_err(|e| damaged(format!("a chunk can't be decoded: {e}")))?;
        if batch.num_rows() as u64 != rows {
            return Err(damaged(format!("a chunk has {} rows instead of {rows}", batch.num_rows())));
        }
        let Some(progress) = self.unfinished.get_mut(&(attempt, partition)) else { return Ok(None) };
        // What an earlier stream delivered is not delivered twice.
        let skip = progress.delivered.saturating_sub(progress.rows).min(rows);
        progress.rows += rows;
        progress.chunks += 1;
        progress.checksum.add(rows);
        progress.delivered = progress.delivered.max(progress.rows);
        if skip == rows {
            return Ok(None);
        }
        // New rows show that the peer is well: the next break gets all its tries.
        self.retries = 0;
        Ok(Some(batch.slice(skip as usize, (rows - skip) as usize)))
    }

    fn finish(&mut self, partition: PartitionId, attempt: TaskAttempt, promised: PartitionEnd) -> Result<(), Failure> {
        let Some(progress) = self.unfinished.remove(&(attempt, partition)) else { return Ok(()) };
        let seen = PartitionEnd { rows: progress.rows, chunks: progress.chunks, checksum: progress.checksum.value() };
        if seen == promised && progress.delivered == progress.rows {
            return Ok(());
        }
        let (producer, executor) = (self.attempt(attempt), &self.producer.executor);
        let PartitionEnd { rows, chunks, .. } = promised;
        let message = format!(
            "partition {partition} of {producer} from executor {executor} came with {} rows in {} chunks instead of {rows} in {chunks}",
            seen.rows, seen.chunks
        );
        Err(Failure::rerun(producer, executor.clone(), message))
    }

    /// Grants new credit once half of it was used.
    fn repay(&mut self, partition: PartitionId, bytes: u64) {
        let owed = self.owed.entry(partition).or_default();
        *owed += bytes;
        if *owed * 2 >= self.credit
            && let Some(subscription) = &self.subscription
        {
            subscription.credit(partition, std::mem::take(owed));
        }
    }

    /// Waits before the next try, or gives up.
    async fn recover(&mut self, broken: &Broken) -> Result<(), Failure> {
        self.subscription = None;
        if let Some(wait) = RETRY_AFTER.get(self.retries).filter(|_| broken.again) {
            self.retries += 1;
            tokio::time::sleep(*wait).await;
            return Ok(());
        }
        let Producer { executor, address, .. } = &self.producer;
        let first = self.unfinished.keys().next().map(|(attempt, _)| self.attempt(*attempt));
        let message = format!("executor {executor} at {address} can't be read: {}", broken.message);
        Err(first.map_or_else(|| Failure::retry(&message), |producer| Failure::rerun(producer, executor.clone(), &message)))
    }

    fn attempt(&self, attempt: TaskAttempt) -> AttemptId {
        TaskId::new(self.producer.job, self.producer.stage, attempt.task).attempt(attempt.attempt)
    }
}
