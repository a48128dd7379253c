//! The hash kernel of the exchange: batches in, one compact batch for each partition out.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryViewArray, RecordBatch, StringViewArray};
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::Time;
use volley_proto::PartitionId;

use super::ExchangeSink;

/// Rows that a partition should have before it is written: what DataFusion's operators like to read.
const ROWS_PER_CHUNK: usize = 8192;
/// Bytes that are buffered at most before partitions are written however few rows they have.
const BUFFERED_BYTES: usize = 8 << 20;

/// Buffers whole batches and writes them out partition by partition with one copy for each row.
pub(super) struct Scatter {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    sink: Arc<dyn ExchangeSink>,
    elapsed: Time,
    random_state: RandomState,
    hashes: Vec<u64>,
    batches: Vec<RecordBatch>,
    /// For each partition, where its rows are: batch and row.
    rows: Vec<Vec<(usize, usize)>>,
    buffered_rows: usize,
    buffered_bytes: usize,
}

impl Scatter {
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>, partitions: usize, sink: Arc<dyn ExchangeSink>, elapsed: Time) -> Self {
        Self {
            keys,
            sink,
            elapsed,
            // A fixed seed, other than that of hash tables: producers must agree, and a partition's keys must not
            // collide in the table that is built from them.
            random_state: RandomState::with_seed(0),
            hashes: Vec::new(),
            batches: Vec::new(),
            rows: vec![Vec::new(); partitions],
            buffered_rows: 0,
            buffered_bytes: 0,
        }
    }

    /// Takes a batch, and writes what is buffered when that is enough.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let elapsed = self.elapsed.clone();
        let _timer = elapsed.timer();
        let keys = self.keys.iter().map(|key| key.evaluate(&batch)?.into_array(batch.num_rows())).collect::<Result<Vec<_>>>()?;
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        create_hashes(&keys, &self.random_state, &mut self.hashes)?;
        let partitions = self.rows.len() as u64;
        let place = self.batches.len();
        for (row, hash) in self.hashes.iter().enumerate() {
            self.rows[(hash % partitions) as usize].push((place, row));
        }
        self.buffered_rows += batch.num_rows();
        self.buffered_bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        if self.buffered_rows >= ROWS_PER_CHUNK * self.rows.len() || self.buffered_bytes >= BUFFERED_BYTES {
            self.write_buffered()?;
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> Result<()> {
        let elapsed = self.elapsed.clone();
        let _timer = elapsed.timer();
        self.write_buffered()
    }

    fn write_buffered(&mut self) -> Result<()> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        for (partition, rows) in self.rows.iter_mut().enumerate() {
            for chunk in rows.chunks(ROWS_PER_CHUNK) {
                let batch = compact_views(interleave_record_batch(&batches, chunk)?)?;
                self.sink.write(PartitionId(partition as u32), batch)?;
            }
            rows.clear();
        }
        self.batches.clear();
        self.buffered_rows = 0;
        self.buffered_bytes = 0;
        Ok(())
    }
}

/// Copies string and binary views out of shared buffers: a partition must not keep the strings of all others alive.
fn compact_views(batch: RecordBatch) -> Result<RecordBatch> {
    let has_views = |data_type: &DataType| matches!(data_type, DataType::Utf8View | DataType::BinaryView);
    if !batch.schema_ref().fields().iter().any(|field| has_views(field.data_type())) {
        return Ok(batch);
    }
    let (schema, columns, _) = batch.into_parts();
    let columns = columns.into_iter().map(compact_view_column).collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn compact_view_column(column: ArrayRef) -> ArrayRef {
    if let Some(strings) = column.as_any().downcast_ref::<StringViewArray>() {
        return if strings.data_buffers().is_empty() { column } else { Arc::new(strings.gc()) };
    }
    if let Some(bytes) = column.as_any().downcast_ref::<BinaryViewArray>() {
        return if bytes.data_buffers().is_empty() { column } else { Arc::new(bytes.gc()) };
    }
    column
}
