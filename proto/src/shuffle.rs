//! The conversation of two executors about an exchange, inside Arrow Flight.
//!
//! A reader opens one `DoExchange` for each (producer executor, exchange), names it by a signed [`ExchangeTicket`] and
//! subscribes to partitions of attempts, with credits. A foreign reader puts what it wants into the ticket of a `DoGet`.

use crate::ids::{ExecutorId, Incarnation, JobId, PartitionId, StageId, Term};

/// Names one exchange on one executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeTicket {
    /// The reader's term: a holder that knows a newer one refuses.
    pub term: Term,
    /// The job.
    pub job: JobId,
    /// The producer stage.
    pub stage: StageId,
    /// Who should hold it.
    pub executor: ExecutorId,
    /// In which life.
    pub incarnation: Incarnation,
    /// How record batches are to be compressed.
    pub compression: Compression,
    /// For a `DoGet`: what to send, in this order. Empty in a `DoExchange`.
    pub selections: Vec<Selection>,
}

/// How record batches on a stream are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all: right within a host.
    #[default]
    None,
    /// By LZ4 frames: right across hosts.
    Lz4,
}

/// Every listed partition of every listed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Partitions of the exchange.
    pub partitions: Vec<PartitionId>,
    /// Producer tasks and the attempt of each.
    pub attempts: Vec<TaskAttempt>,
}

/// An attempt within a stage that the context names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskAttempt {
    /// The task's index.
    pub task: u32,
    /// The attempt's number.
    pub attempt: u32,
}

/// What a reader says, in the `app_metadata` of its request stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderMessage {
    /// Start sending.
    Subscribe {
        /// Drawn by the reader, never reused on a stream: two tasks may read the same partition.
        subscription: u32,
        /// What to send.
        selection: Selection,
        /// Bytes that may be sent of each partition before more credit comes.
        credit_bytes: u64,
    },
    /// More of a partition may be sent.
    Credit {
        /// The subscription.
        subscription: u32,
        /// The partition.
        partition: PartitionId,
        /// How many bytes more.
        bytes: u64,
    },
    /// Stop sending.
    Unsubscribe {
        /// The subscription.
        subscription: u32,
        /// One partition of it, or all of them.
        partition: Option<PartitionId>,
    },
}

/// What comes with each message of the answer, in its `app_metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The subscription that it answers; 0 in a `DoGet`.
    pub subscription: u32,
    /// The partition.
    pub partition: PartitionId,
    /// The producer's attempt.
    pub attempt: TaskAttempt,
    /// What the message is.
    pub kind: ChunkKind,
}

/// What a message of the answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkKind {
    /// Rows, in the body.
    Chunk {
        /// How many.
        rows: u64,
    },
    /// The attempt's partition is complete: what the reader must have seen of it.
    End {
        /// Rows.
        rows: u64,
        /// Chunks.
        chunks: u64,
        /// As the partition store defines it.
        checksum: u64,
    },
    /// The attempt's output is not here, or no longer: its producer is to be run again.
    Gone {
        /// What is missing and where.
        message: String,
    },
}
