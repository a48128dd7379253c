//! Formats whose writers write to memory: what they wrote goes on to the file after each batch.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{AvroWriter, WriterBuilder};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;

use super::views::without_views;

/// Bytes that a writer left, shared with whoever sends them on.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes to which the parts of an Arrow IPC file are aligned. The engine reads the schema of a remote file only where the file's first
/// message begins after 8 bytes.
const ARROW_ALIGNMENT: usize = 8;

/// A file in the making.
pub(super) struct Blocks {
    writer: Writer,
    buffer: Buffer,
}

enum Writer {
    Arrow(Box<FileWriter<Buffer>>),
    Avro { writer: Box<AvroWriter<Buffer>>, schema: SchemaRef },
}

impl Blocks {
    /// An Arrow IPC file, whose buffers are compressed with LZ4.
    pub(super) fn arrow(schema: &Schema) -> Result<Self> {
        let buffer = Buffer::default();
        let options = IpcWriteOptions::try_new(ARROW_ALIGNMENT, false, MetadataVersion::V5)?
            .try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let writer = FileWriter::try_new_with_options(buffer.clone(), schema, options)?;
        Ok(Self { writer: Writer::Arrow(Box::new(writer)), buffer })
    }

    /// An Avro object container file.
    pub(super) fn avro(schema: &Schema) -> Result<Self> {
        let buffer = Buffer::default();
        let schema = Arc::new(without_views(schema));
        let builder = WriterBuilder::new(schema.as_ref().clone()).with_compression(Some(CompressionCodec::Snappy));
        let writer = builder.build::<_, AvroOcfFormat>(buffer.clone()).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Self { writer: Writer::Avro { writer: Box::new(writer), schema }, buffer })
    }

    /// Adds rows; gives the bytes that are ready.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match &mut self.writer {
            Writer::Arrow(writer) => writer.write(batch)?,
            Writer::Avro { writer, schema } => {
                let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
                let batch = RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?;
                writer.write(&batch).map_err(|error| DataFusionError::External(Box::new(error)))?;
            }
        }
        Ok(std::mem::take(&mut *self.buffer.0.lock()))
    }

    /// Ends the file; gives its last bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        match &mut self.writer {
            Writer::Arrow(writer) => writer.finish()?,
            Writer::Avro { writer, .. } => writer.finish().map_err(|error| DataFusionError::External(Box::new(error)))?,
        }
        Ok(std::mem::take(&mut *self.buffer.0.lock()))
    }
}
