//! What a task writes its output to.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use volley_proto::PartitionId;
use volley_sql::exchange::ExchangeSink;

use super::store::Output;

/// Takes the output of one attempt into the partition store.
///
/// Small batches of a partition wait until they make a chunk of about 8192 rows or 1 MiB; the rest of them becomes
/// chunks when the output is sealed.
#[derive(Debug)]
pub struct AttemptSink {
    output: Arc<Output>,
}

impl AttemptSink {
    pub(super) fn new(output: Arc<Output>) -> Self {
        Self { output }
    }
}

impl ExchangeSink for AttemptSink {
    fn write(&self, partition: PartitionId, batch: RecordBatch) -> Result<()> {
        self.output.write(partition, batch).map_err(|failure| DataFusionError::External(Box::new(failure)))
    }
}
