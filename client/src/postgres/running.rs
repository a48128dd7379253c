//! A statement whose rows are being sent.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use pgwire::messages::data::DataRow;

use super::encode::Rows;
use super::error::Refusal;
use super::types::{Column, Format, columns};
use crate::flight::{Execution, FlightClient};

/// Rows as they come, from the cluster or from the gateway itself.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch, Refusal>>;

/// Rows that come one after the other; whoever drops it before its end cancels its job.
pub(super) struct Running {
    pub(super) columns: Vec<Column>,
    batches: Batches,
    /// The batch that is being sent, and its next row.
    now: Option<(Rows, usize)>,
    job: CancelOnDrop,
}

impl Running {
    pub(super) fn new(schema: SchemaRef, batches: Batches, job: CancelOnDrop) -> Self {
        Self { columns: columns(&schema), batches, now: None, job }
    }

    /// The next row; `None` at the end.
    pub(super) async fn next(&mut self, formats: &[Format]) -> Result<Option<DataRow>, Refusal> {
        loop {
            if let Some((rows, row)) = &mut self.now {
                if *row < rows.len() {
                    *row += 1;
                    return rows.row(*row - 1).map(Some);
                }
                self.now = None;
            }
            match self.batches.next().await {
                Some(batch) => self.now = Some((Rows::new(&batch?, formats)?, 0)),
                None => {
                    std::mem::take(&mut self.job).disarm();
                    return Ok(None);
                }
            }
        }
    }
}

/// Cancels a job at once. That its stream ends would do as well, but some seconds later: a client may only be reconnecting.
#[derive(Default)]
pub(super) struct CancelOnDrop(Option<(FlightClient, Execution)>);

impl CancelOnDrop {
    pub(super) fn new(client: &FlightClient, execution: &Execution) -> Self {
        Self(Some((client.clone(), execution.clone())))
    }

    /// Its job has ended.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some((client, execution)) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // It may have ended meanwhile, and nobody waits to hear.
            runtime.spawn(async move { drop(client.cancel(&execution).await) });
        }
    }
}
