//! How the exchange operators reach the partitions of other tasks.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use volley_proto::PartitionId;

/// Reads exchange inputs of one attempt.
pub trait ExchangeSource: fmt::Debug + Send + Sync {
    /// Streams the rows of `partitions` of input `input` (its place among the stage's inputs), from every producer task.
    ///
    /// Chunks come in no order across producers; those of one producer and one partition come in the order in which they
    /// were written. The stream ends after the last row of the last producer, or with an error whose cause is a
    /// `volley_proto::Failure` (with remedy `Rerun` where a producer's output is gone).
    fn read(&self, input: usize, partitions: &[PartitionId], schema: SchemaRef) -> Result<SendableRecordBatchStream>;
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
