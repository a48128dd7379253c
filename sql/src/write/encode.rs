//! One file being written: rows to bytes in its format.

use std::sync::Arc;

use async_compression::Level;
use async_compression::tokio::write::{BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::{ConfigFileType, TableOptions};
use datafusion::common::file_options::csv_writer::CsvWriterOptions;
use datafusion::common::file_options::json_writer::JsonWriterOptions;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::config::ConfigOptions;
use datafusion::datasource::file_format::csv::CsvSerializer;
use datafusion::datasource::file_format::json::JsonSerializer;
use datafusion::datasource::file_format::write::BatchSerializer;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::blocks::Blocks;
use super::spec::{WriteFormat, WriteSpec};
use super::views::without_views;
use crate::diagnostics::failure_of;
use crate::stores::is_secret;

/// Where the bytes of a file go.
pub(super) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The engine's options of a format. A name that does not begin with `format.`, or that the format does not have, is refused.
fn table_options(format: WriteFormat, given: &[(String, String)], config: &ConfigOptions) -> Result<TableOptions> {
    let mut options = TableOptions::default_from_session_config(config);
    match format {
        WriteFormat::Parquet => options.set_config_format(ConfigFileType::PARQUET),
        WriteFormat::Csv => options.set_config_format(ConfigFileType::CSV),
        WriteFormat::Json => options.set_config_format(ConfigFileType::JSON),
        WriteFormat::Avro | WriteFormat::Arrow => {
            if let Some((name, _)) = given.first() {
                return Err(DataFusionError::Plan(format!("{format} files take no options, and '{name}' is given")));
            }
        }
    }
    for (name, value) in given {
        let set = if name.starts_with("format.") { options.set(name, value) } else { Err(unknown_option(name)) };
        set.map_err(|error| {
            if is_secret(name.trim_start_matches("format.")) {
                return DataFusionError::Plan(format!(
                    "COPY takes no '{name}': how to get into a store is said by CREATE EXTERNAL TABLE or the environment"
                ));
            }
            let why = failure_of(&error).message;
            DataFusionError::Plan(format!("{format} option '{name}' can't be '{value}': {why}"))
        })?;
    }
    Ok(options)
}

fn unknown_option(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("options of a write begin with 'format.': 'format.{name}'"))
}

/// Whether a format takes these options: so that a wrong one is refused before anything runs.
pub(crate) fn check_options(format: WriteFormat, given: &[(String, String)], config: &ConfigOptions) -> Result<()> {
    table_options(format, given, config).map(drop)
}

/// A format with its options: makes encoders.
pub(super) enum Encoding {
    Arrow,
    Avro,
    Parquet(Box<WriterProperties>),
    Text { serializer: Arc<dyn BatchSerializer>, compression: CompressionTypeVariant, level: Option<u32> },
}

impl Encoding {
    /// The encoding of a write whose files have columns `schema`.
    pub(super) fn new(spec: &WriteSpec, schema: &SchemaRef, config: &ConfigOptions) -> Result<Self> {
        let mut options = table_options(spec.format, &spec.options, config)?;
        match spec.format {
            WriteFormat::Arrow => Ok(Self::Arrow),
            WriteFormat::Avro => Ok(Self::Avro),
            WriteFormat::Parquet => {
                if !options.parquet.global.skip_arrow_metadata {
                    options.parquet.arrow_schema(&Arc::new(without_views(schema)));
                }
                let properties = WriterPropertiesBuilder::try_from(&options.parquet)?.build();
                Ok(Self::Parquet(Box::new(properties)))
            }
            WriteFormat::Csv => {
                let writer = CsvWriterOptions::try_from(&options.csv)?;
                let header = writer.writer_options.header();
                let serializer = CsvSerializer::new().with_builder(writer.writer_options).with_header(header);
                Ok(Self::Text { serializer: Arc::new(serializer), compression: writer.compression, level: writer.compression_level })
            }
            WriteFormat::Json => {
                let writer = JsonWriterOptions::try_from(&options.json)?;
                let serializer = Arc::new(JsonSerializer::new());
                Ok(Self::Text { serializer, compression: writer.compression, level: writer.compression_level })
            }
        }
    }

    /// Begins a file whose bytes go to `output`.
    pub(super) fn begin(&self, output: Output, schema: &SchemaRef) -> Result<Encoder> {
        match self {
            Self::Arrow => Ok(Encoder::Blocks { blocks: Blocks::arrow(schema)?, output }),
            Self::Avro => Ok(Encoder::Blocks { blocks: Blocks::avro(schema)?, output }),
            Self::Parquet(properties) => {
                // The properties have the schema already, where it is wanted, without views.
                let options = ArrowWriterOptions::new().with_properties(properties.as_ref().clone()).with_skip_arrow_metadata(true);
                let writer = AsyncArrowWriter::try_new_with_options(output, Arc::clone(schema), options)?;
                Ok(Encoder::Parquet(Box::new(writer)))
            }
            Self::Text { serializer, compression, level } => {
                let output = compress(output, *compression, *level);
                Ok(Encoder::Text { output, serializer: Arc::clone(serializer), started: false })
            }
        }
    }
}

/// The engine's own wrapper takes the writers of object stores alone, and those make directories anew.
fn compress(output: Output, compression: CompressionTypeVariant, level: Option<u32>) -> Output {
    let level = level.map_or(Level::Default, |level| Level::Precise(i32::try_from(level).unwrap_or(i32::MAX)));
    match compression {
        CompressionTypeVariant::GZIP => Box::new(GzipEncoder::with_quality(output, level)),
        CompressionTypeVariant::BZIP2 => Box::new(BzEncoder::with_quality(output, level)),
        CompressionTypeVariant::XZ => Box::new(XzEncoder::with_quality(output, level)),
        CompressionTypeVariant::ZSTD => Box::new(ZstdEncoder::with_quality(output, level)),
        CompressionTypeVariant::UNCOMPRESSED => output,
    }
}

/// A file that takes rows.
pub(super) enum Encoder {
    Blocks { blocks: Blocks, output: Output },
    Parquet(Box<AsyncArrowWriter<Output>>),
    Text { output: Output, serializer: Arc<dyn BatchSerializer>, started: bool },
}

impl Encoder {
    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Blocks { blocks, output } => Ok(output.write_all(&blocks.write(&batch)?).await?),
            Self::Parquet(writer) => Ok(writer.write(&batch).await?),
            Self::Text { output, serializer, started } => {
                let bytes = serializer.serialize(batch, !std::mem::replace(started, true))?;
                output.write_all(&bytes).await.map_err(DataFusionError::IoError)
            }
        }
    }

    /// Bytes of memory that its unfinished row group takes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Parquet(writer) => writer.memory_size(),
            Self::Text { .. } | Self::Blocks { .. } => 0,
        }
    }

    /// Ends the row group, which frees its memory.
    pub(super) async fn flush(&mut self) -> Result<()> {
        match self {
            Self::Parquet(writer) => Ok(writer.flush().await?),
            Self::Text { output, .. } | Self::Blocks { output, .. } => Ok(output.flush().await?),
        }
    }

    /// Completes the file, and gives what is in the footer of one that has one. `schema` heads a text file that got no rows.
    pub(super) async fn finish(mut self, schema: &SchemaRef) -> Result<Option<ParquetMetaData>> {
        if let Self::Text { started: false, .. } = self {
            self.write(RecordBatch::new_empty(Arc::clone(schema))).await?;
        }
        match self {
            Self::Blocks { blocks, mut output } => {
                output.write_all(&blocks.finish()?).await?;
                output.shutdown().await?;
            }
            Self::Parquet(writer) => return Ok(Some(writer.close().await?)),
            Self::Text { mut output, .. } => output.shutdown().await?,
        }
        Ok(None)
    }
}
