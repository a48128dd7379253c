//! One batch as IPC messages: its dictionaries, then its rows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use arrow_data::UnsafeFlag;
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary_impl};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{CompressionType, MessageHeader, root_as_message};
use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use volley_proto::shuffle::Compression;

use super::compact::compact_views;

/// Up to this size a compute thread keeps a buffer for the next encoding.
const KEEP_SCRATCH: usize = 4 << 20;

thread_local! {
    static CONTEXT: RefCell<IpcWriteContext> = RefCell::new({
        let mut context = IpcWriteContext::default();
        context.set_reserve_scratch(true);
        context
    });
}

/// One IPC message without its framing.
#[derive(Debug, Clone)]
pub struct IpcMessage {
    /// The flatbuffer that describes the body.
    pub header: Bytes,
    /// The buffers.
    pub body: Bytes,
}

impl IpcMessage {
    /// Bytes of both parts.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }
}

/// A schema as both ends of an exchange know it, with its dictionaries numbered.
///
/// Both ends derive it from the plan's schema in the same way, so that it need not travel.
#[derive(Debug, Clone)]
pub struct WireSchema {
    schema: SchemaRef,
    numbered: SchemaRef,
    message: Bytes,
    has_dictionaries: bool,
}

impl WireSchema {
    /// Prepares `schema`.
    pub fn try_new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut tracker = DictionaryTracker::new(false);
        let message = schema_message(schema, &mut tracker);
        let has_dictionaries = !tracker.dict_id().is_empty();
        let numbered = if has_dictionaries {
            let header = root_as_message(&message).map_err(|e| ArrowError::IpcError(e.to_string()))?;
            let schema = header.header_as_schema().ok_or_else(|| ArrowError::IpcError("a schema message has no schema".into()))?;
            Arc::new(arrow_ipc::convert::fb_to_schema(schema))
        } else {
            Arc::clone(schema)
        };
        Ok(Self { schema: Arc::clone(schema), numbered, message, has_dictionaries })
    }

    /// The schema in an IPC message.
    pub fn try_from_message(message: &[u8]) -> Result<Self, ArrowError> {
        let header = root_as_message(message).map_err(|e| ArrowError::IpcError(e.to_string()))?;
        let schema = header.header_as_schema().ok_or_else(|| ArrowError::IpcError("a schema message has no schema".into()))?;
        Self::try_new(&Arc::new(arrow_ipc::convert::fb_to_schema(schema)))
    }

    /// The schema that decoded batches have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The schema as the message that starts an IPC stream.
    pub fn message(&self) -> IpcMessage {
        IpcMessage { header: self.message.clone(), body: Bytes::new() }
    }

    /// Encodes the rows of `batch`; the last message is the batch, those before it its dictionaries.
    pub fn encode(&self, batch: &RecordBatch, compression: Compression) -> Result<Vec<IpcMessage>, ArrowError> {
        let batch = compact_views(batch.clone())?;
        let options = match compression {
            Compression::None => IpcWriteOptions::default(),
            Compression::Lz4 => IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?,
        };
        let mut tracker = DictionaryTracker::new(false);
        if self.has_dictionaries {
            schema_message(&self.schema, &mut tracker);
        }
        let mut encode = |context: &mut IpcWriteContext| IpcDataGenerator::default().encode(&batch, &mut tracker, &options, context);
        let (dictionaries, rows) = if batch.get_array_memory_size() > KEEP_SCRATCH {
            encode(&mut IpcWriteContext::default())?
        } else {
            CONTEXT.with_borrow_mut(encode)?
        };
        let message =
            |encoded: arrow_ipc::writer::EncodedData| IpcMessage { header: encoded.ipc_message.into(), body: encoded.arrow_data.into() };
        Ok(dictionaries.into_iter().chain([rows]).map(message).collect())
    }

    /// Takes in one message: `None` after a dictionary, which stays in `dictionaries` for the batch that follows.
    pub fn decode(&self, message: &IpcMessage, dictionaries: &mut HashMap<i64, ArrayRef>) -> Result<Option<RecordBatch>, ArrowError> {
        let header = root_as_message(&message.header).map_err(|e| ArrowError::IpcError(e.to_string()))?;
        let body = Buffer::from(message.body.clone());
        let incomplete = || ArrowError::IpcError("a message's header does not say what its type promises".into());
        match header.header_type() {
            MessageHeader::DictionaryBatch => {
                let values = header.header_as_dictionary_batch().ok_or_else(incomplete)?;
                read_dictionary_impl(&body, values, &self.numbered, dictionaries, &header.version(), false, written_by_us())?;
                Ok(None)
            }
            MessageHeader::RecordBatch => {
                let rows = header.header_as_record_batch().ok_or_else(incomplete)?;
                let version = header.version();
                let decoder = RecordBatchDecoder::try_new(&body, rows, Arc::clone(&self.numbered), dictionaries, &version)?;
                self.name(decoder.with_skip_validation(written_by_us()).read_record_batch()?).map(Some)
            }
            other => Err(ArrowError::IpcError(format!("a message of type {other:?} in the middle of an exchange"))),
        }
    }

    /// Decodes all messages of one encoded batch.
    pub fn decode_all(&self, messages: &[IpcMessage]) -> Result<RecordBatch, ArrowError> {
        let mut dictionaries = HashMap::new();
        for message in messages {
            if let Some(batch) = self.decode(message, &mut dictionaries)? {
                return Ok(batch);
            }
        }
        Err(ArrowError::IpcError("an encoded chunk has no record batch".into()))
    }

    /// The batch under the schema that the plan knows.
    fn name(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if !self.has_dictionaries {
            return Ok(batch);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)
    }
}

/// Leave to skip the validation of values, which costs up to half of the decoding of strings.
#[expect(
    unsafe_code,
    reason = "what is decoded here was encoded from valid batches by this build, in this process or by an executor of this cluster"
)]
fn written_by_us() -> UnsafeFlag {
    let mut flag = UnsafeFlag::new();
    // SAFETY: spill files are checked by their checksums, and are read by the process that wrote them. What comes over Flight
    // comes from an executor that the scheduler named and that runs the same build, and its row counts are verified.
    unsafe { flag.set(true) };
    flag
}

fn schema_message(schema: &SchemaRef, tracker: &mut DictionaryTracker) -> Bytes {
    IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, tracker, &IpcWriteOptions::default()).ipc_message.into()
}
