//! How the exchange operators reach the partitions of other tasks.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use volley_proto::PartitionId;

/// Whose rows a reader gets of partitions that several readers share out among themselves: those of producer tasks whose number has the
/// remainder `part` when it is divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Below `of`.
    pub part: u32,
    /// Number of readers, at least 1.
    pub of: u32,
}

impl Share {
    /// All rows, for one reader.
    pub const WHOLE: Self = Self { part: 0, of: 1 };

    /// Whether the rows of the producer's task `task` are in it.
    pub fn has(self, task: u32) -> bool {
        task % self.of.max(1) == self.part
    }
}

/// Reads exchange inputs of one attempt.
pub trait ExchangeSource: fmt::Debug + Send + Sync {
    /// Streams the rows of `partitions` of input `input` (its place among the stage's inputs), from every producer task.
    ///
    /// Chunks come in no order across producers; those of one producer and one partition come in the order in which they
    /// were written. The stream ends after the last row of the last producer, or with an error whose cause is a
    /// `volley_proto::Failure` (with remedy `Rerun` where a producer's output is gone).
    fn read(&self, input: usize, partitions: &[PartitionId], schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        self.read_share(input, partitions, Share::WHOLE, schema)
    }

    /// As [`Self::read`], of some producer tasks.
    fn read_share(&self, input: usize, partitions: &[PartitionId], share: Share, schema: SchemaRef) -> Result<SendableRecordBatchStream>;
}

/// Takes the output of one attempt.
pub trait ExchangeSink: fmt::Debug + Send + Sync {
    /// Appends a batch to an output partition. Never waits for consumers. Batches are compact: no slice of a larger
    /// batch, no string view into a buffer that it does not need.
    fn write(&self, partition: PartitionId, batch: RecordBatch) -> Result<()>;
}

/// Both ends of one attempt, as an extension of its session config.
#[derive(Debug, Clone)]
pub struct TaskIo {
    /// Where its inputs come from.
    pub source: Arc<dyn ExchangeSource>,
    /// Where its output goes.
    pub sink: Arc<dyn ExchangeSink>,
}

impl TaskIo {
    /// The task's ends, or an error where an exchange operator is run outside a task.
    pub fn of(context: &TaskContext) -> Result<Arc<Self>> {
        context.session_config().get_extension::<Self>().ok_or_else(|| {
            DataFusionError::Internal("an exchange operator was executed outside a task: the session config has no TaskIo".into())
        })
    }
}
