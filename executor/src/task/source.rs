//! Exchange inputs that give way.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::coop::make_cooperative;
use volley_proto::PartitionId;
use volley_sql::exchange::{ExchangeSource, Share};

/// Readers whose streams spend the poll's budget as file scans do: chunks in memory are always ready, so that without it
/// an operator above would never return to the pool.
#[derive(Debug)]
pub(super) struct Cooperative(pub(super) Arc<dyn ExchangeSource>);

impl ExchangeSource for Cooperative {
    fn read_share(&self, input: usize, partitions: &[PartitionId], share: Share, schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        Ok(make_cooperative(self.0.read_share(input, partitions, share, schema)?))
    }
}
