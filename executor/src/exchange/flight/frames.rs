//! Chunks as Flight messages.

use std::sync::Arc;

use arrow_flight::FlightData;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use prost::Message;
use volley_proto::shuffle::{ChunkHeader, Compression};
use volley_proto::{Failure, InlineFrame, wire};

use crate::exchange::encoding::{IpcMessage, WireSchema, batch_bytes};
use crate::exchange::hooks::ExchangeHooks;
use crate::exchange::spill::SpillError;
use crate::exchange::store::{Chunk, Content};

/// Size that a large chunk is cut down to.
const FRAME_BYTES: usize = 1 << 20;

/// Some rows, encoded: dictionaries first, then the batch.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) rows: u64,
    pub(super) messages: Vec<IpcMessage>,
}

impl Frame {
    /// Bytes of its messages.
    pub(super) fn len(&self) -> usize {
        self.messages.iter().map(IpcMessage::bytes).sum()
    }

    /// As Flight messages, of which the last carries `header`.
    pub(super) fn into_flight(self, header: ChunkHeader) -> Vec<FlightData> {
        let mut data: Vec<_> = self.messages.into_iter().map(flight_data).collect();
        if let Some(last) = data.last_mut() {
            last.app_metadata = encode_header(header);
        }
        data
    }

    /// As frames of a report, of which the last counts the rows.
    pub(super) fn into_inline(self) -> impl Iterator<Item = InlineFrame> {
        let (rows, last) = (self.rows, self.messages.len().saturating_sub(1));
        let messages = self.messages.into_iter().enumerate();
        messages.map(move |(index, IpcMessage { header, body })| InlineFrame { header, body, rows: if index == last { rows } else { 0 } })
    }
}

/// An IPC message as a Flight message.
pub(super) fn flight_data(message: IpcMessage) -> FlightData {
    FlightData { data_header: message.header, data_body: message.body, ..FlightData::default() }
}

/// A chunk header as metadata.
pub(super) fn encode_header(header: ChunkHeader) -> Bytes {
    wire::shuffle::v1::ChunkHeader::from(header).encode_to_vec().into()
}

/// Encodes a chunk. What was spilled comes as it stands in the file, compressed.
pub(super) async fn encode_chunk(
    chunk: Arc<Chunk>,
    wire: WireSchema,
    compression: Compression,
    hooks: ExchangeHooks,
) -> Result<Vec<Frame>, Failure> {
    match chunk.content() {
        Content::Memory(batch) => {
            let encoded = for_reader(&hooks, move || encode_batch(&wire, &batch, compression)).await?;
            encoded.map_err(|e| Failure::internal(format!("encoding a chunk: {e}")))
        }
        Content::Disk(file, place) => {
            let messages = read_spilled(&hooks, move || file.read(place)).await?;
            Ok(vec![Frame { rows: chunk.rows(), messages }])
        }
    }
}

/// The rows of a chunk, wherever they are.
pub(in crate::exchange) async fn load_chunk(chunk: &Chunk, wire: &WireSchema, hooks: &ExchangeHooks) -> Result<RecordBatch, Failure> {
    match chunk.content() {
        Content::Memory(batch) => Ok(batch),
        Content::Disk(file, place) => {
            let path = file.path().to_owned();
            let messages = read_spilled(hooks, move || file.read(place)).await?;
            wire.decode_all(&messages).map_err(|e| Failure::retry(format!("chunk {} of spill file '{}': {e}", place.id, path.display())))
        }
    }
}

/// Cuts a large batch into frames and encodes them.
pub(super) fn encode_batch(wire: &WireSchema, batch: &RecordBatch, compression: Compression) -> Result<Vec<Frame>, ArrowError> {
    let bytes = batch_bytes(batch);
    let rows = batch.num_rows();
    let parts = if bytes > 2 * FRAME_BYTES { bytes.div_ceil(FRAME_BYTES) } else { 1 };
    let step = rows.div_ceil(parts).max(1);
    let slices = (0..rows.max(1)).step_by(step).map(|start| batch.slice(start, step.min(rows - start)));
    slices.map(|slice| Ok(Frame { rows: slice.num_rows() as u64, messages: wire.encode(&slice, compression)? })).collect()
}

/// Encodes rows for a reader, on a thread for blocking calls. On a compute thread it would wait for whatever is running there, which may be an
/// operator that takes in all of its input, and its reader would have nothing to do meanwhile.
pub(super) async fn for_reader<T, F>(hooks: &ExchangeHooks, encode: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let encoded = hooks.io.spawn_blocking(encode).await;
    encoded.map_err(|error| {
        let message = format!("encoding for an exchange: {error}");
        // The process is on its way out.
        if error.is_cancelled() { Failure::retry(message) } else { Failure::internal(message) }
    })
}

async fn read_spilled<F>(hooks: &ExchangeHooks, read: F) -> Result<Vec<IpcMessage>, Failure>
where
    F: FnOnce() -> Result<Vec<IpcMessage>, SpillError> + Send + 'static,
{
    let read = hooks.io.spawn_blocking(read).await.map_err(|e| Failure::internal(format!("reading a spilled chunk: {e}")))?;
    read.map_err(|e| Failure::retry(e.to_string()))
}
