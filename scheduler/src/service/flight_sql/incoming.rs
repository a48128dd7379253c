//! The rows that a client puts.

use std::panic::AssertUnwindSafe;

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_ipc::{MessageHeader, root_as_message};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use futures::{FutureExt, StreamExt, TryStreamExt};
use tonic::{Code, Status};

use crate::service::status;

/// Most bytes that the buffers of one message may take when they are decompressed.
const MOST_DECOMPRESSED: u64 = 512 << 20;

/// The batches of a DoPut, decoded one by one: who does not ask for the next holds up the client.
pub(super) struct Incoming {
    batches: FlightRecordBatchStream,
    /// Rows that were decoded so far, for errors.
    rows: usize,
}

impl Incoming {
    /// The batches of a stream whose first message has the command.
    pub(super) fn new(stream: PeekableFlightDataStream) -> Self {
        let frames = stream.try_filter_map(async |frame| {
            // A descriptor without data is how clients say that there are no rows.
            if frame.data_header.is_empty() {
                return Ok(None);
            }
            check(&frame)?;
            Ok(Some(frame))
        });
        let frames = frames.map_err(|status| FlightError::Tonic(Box::new(status)));
        Self { batches: FlightRecordBatchStream::new_from_flight_data(frames.boxed()), rows: 0 }
    }

    /// The next batch; `None` when the client has sent all of them.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Status> {
        // Some of what may be wrong with a message makes its decoder panic.
        let next = AssertUnwindSafe(self.batches.next()).catch_unwind().await;
        let next = next.map_err(|_| wrong("it is damaged")).and_then(|next| next.transpose().map_err(|error| self.unread(error)))?;
        match &next {
            Some(batch) => self.rows += batch.num_rows(),
            // A request that its client has cancelled ends here like one that is complete. Whoever waits is dropped by the server then, and
            // does not come back from this.
            None => tokio::task::yield_now().await,
        }
        Ok(next)
    }

    /// The columns, once the first batch or the end has come; `None` where the client said none.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.batches.schema().cloned()
    }

    fn unread(&self, error: FlightError) -> Status {
        match error {
            FlightError::Tonic(status) => *status,
            other => status::new(Code::InvalidArgument, format!("the rows after row {} can't be read: {other}", self.rows)),
        }
    }
}

fn wrong(what: &str) -> Status {
    Status::invalid_argument(format!("a message with rows can't be read: {what}"))
}

/// Refuses a message whose buffers are not within it, and one that decompresses to more than is good: what it claims is allocated.
fn check(frame: &FlightData) -> Result<(), Status> {
    let message = root_as_message(&frame.data_header).map_err(|error| wrong(&error.to_string()))?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => None,
    };
    let Some(batch) = batch else { return Ok(()) };
    let mut decompressed = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let place = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = place.and_then(|(offset, length)| frame.data_body.get(offset..offset.checked_add(length)?));
        let bytes = bytes.ok_or_else(|| wrong("a part of it is missing"))?;
        if let (Some(length), true) = (bytes.first_chunk(), batch.compression().is_some()) {
            // -1 says that the buffer is not compressed.
            decompressed = decompressed.saturating_add(u64::try_from(i64::from_le_bytes(*length)).unwrap_or(0));
        }
    }
    if decompressed > MOST_DECOMPRESSED {
        let most = MOST_DECOMPRESSED;
        return Err(wrong(&format!(
            "it has {decompressed} bytes when it is decompressed, and at most {most} are taken: send smaller batches"
        )));
    }
    Ok(())
}
