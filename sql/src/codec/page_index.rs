//! Parquet footers on an executor are read with their page index, so that they are read once.
//!
//! The engine asks for a footer without page index first and for the index where a predicate prunes pages. Planning reads both into the
//! process's cache, an executor of another process would cache the footer alone and read the index again for each range of a file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource};
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;

/// A scan whose footers come with their page index; unchanged where it reads no Parquet or the session reads no page index.
pub(super) fn with_page_index(scan: FileScanConfig) -> FileScanConfig {
    let Some(source) = scan.file_source().downcast_ref::<ParquetSource>() else { return scan };
    let Some(inner) = source.parquet_file_reader_factory() else { return scan };
    if !source.table_parquet_options().global.enable_page_index {
        return scan;
    }
    let factory = Arc::new(IndexedFactory(Arc::clone(inner)));
    let source = Arc::new(source.clone().with_parquet_file_reader_factory(factory));
    FileScanConfigBuilder::from(scan).with_source(source).build()
}

#[derive(Debug)]
struct IndexedFactory(Arc<dyn ParquetFileReaderFactory>);

impl ParquetFileReaderFactory for IndexedFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(IndexedReader(self.0.create_reader(partition, file, size_hint, metrics)?)))
    }
}

struct IndexedReader(Box<dyn AsyncFileReader + Send>);

impl AsyncFileReader for IndexedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.0.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let options = options.cloned().unwrap_or_default().with_page_index_policy(PageIndexPolicy::Optional);
        Box::pin(async move { self.0.get_metadata(Some(&options)).await })
    }
}
