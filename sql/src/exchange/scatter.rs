//! The kernel of exchanges by hash and by range: batches in, one compact batch for each partition out.

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
use super::ranges::RangeRouter;

/// Rows that a partition should have before it is written: what DataFusion's operators like to read.
const ROWS_PER_CHUNK: usize = 8192;
/// Bytes that are buffered at most before partitions are written however few rows they have.
const BUFFERED_BYTES: usize = 8 << 20;

/// How rows find their partition.
pub(super) enum Router {
    Hash(Hashes),
    Range(RangeRouter),
}

/// Hashes of keys.
pub(super) struct Hashes {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    random_state: RandomState,
    hashes: Vec<u64>,
}

impl Hashes {
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        // A fixed seed, other than that of hash tables: producers must agree, and a partition's keys must not collide in the table that is
        // built from them.
        Self { keys, random_state: RandomState::with_seed(0), hashes: Vec::new() }
    }

    /// The hash of each row.
    fn of(&mut self, batch: &RecordBatch) -> Result<&[u64]> {
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect::<Result<Vec<_>>>()?;
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        create_hashes(&keys, &self.random_state, &mut self.hashes)?;
        Ok(&self.hashes)
    }
}

/// Buffers whole batches and writes them out partition by partition with one copy for each row.
pub(super) struct Scatter {
    router: Router,
    sink: Arc<dyn ExchangeSink>,
    elapsed: Time,
    batches: Vec<RecordBatch>,
    /// For each partition, where its rows are: batch and row.
    rows: Vec<Vec<(usize, usize)>>,
    buffered_rows: usize,
    buffered_bytes: usize,
}

impl Scatter {
    pub(super) fn new(router: Router, partitions: usize, sink: Arc<dyn ExchangeSink>, elapsed: Time) -> Self {
        Self { router, sink, elapsed, batches: Vec::new(), rows: vec![Vec::new(); partitions], buffered_rows: 0, buffered_bytes: 0 }
    }

    /// Takes a batch, and writes what is buffered when that is enough.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let elapsed = self.elapsed.clone();
        let _timer = elapsed.timer();
        let place = self.batches.len();
        match &mut self.router {
            Router::Hash(hashes) => {
                let partitions = self.rows.len() as u64;
                for (row, hash) in hashes.of(&batch)?.iter().enumerate() {
                    self.rows[(hash % partitions) as usize].push((place, row));
                }
            }
            Router::Range(ranges) => {
                for (row, partition) in ranges.route(&batch)?.into_iter().enumerate() {
                    self.rows[partition].push((place, row));
                }
            }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::physical_expr::expressions::Column;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Seen(Mutex<BTreeMap<u32, Vec<i64>>>);

    impl ExchangeSink for Seen {
        fn write(&self, partition: PartitionId, batch: RecordBatch) -> Result<()> {
            let keys = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().iter().flatten();
            self.0.lock().entry(partition.0).or_default().extend(keys);
            Ok(())
        }
    }

    /// Rows of one key that went to different partitions would be joined with none: where a key goes may only change with the build id.
    #[test]
    fn known_keys_go_to_known_partitions() {
        let numbers: Vec<i64> = (0..16).collect();
        let texts: Vec<String> = numbers.iter().map(|number| format!("key {number}")).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("number", Arc::new(Int64Array::from(numbers))), ("text", Arc::new(StringArray::from(texts)))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let by = |keys: &[(&str, usize)]| {
            let keys = keys.iter().map(|(name, place)| Arc::new(Column::new(name, *place)) as _).collect();
            let seen = Arc::new(Seen::default());
            let mut scatter = Scatter::new(Router::Hash(Hashes::new(keys)), 4, Arc::clone(&seen) as _, Time::new());
            scatter.push(batch.clone()).unwrap();
            scatter.flush().unwrap();
            let partitions = seen.0.lock();
            (0..4).map(|partition| partitions.get(&partition).cloned().unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(by(&[("number", 0)]), [[2, 4, 5, 7], [1, 3, 6, 8], [10, 12, 13, 15], [0, 9, 11, 14]]);
        assert_eq!(by(&[("text", 1)]), [[3, 8, 14, 15], [4, 5, 9, 12], [0, 2, 11, 13], [1, 6, 7, 10]]);
        assert_eq!(by(&[("number", 0), ("text", 1)]), [vec![7, 12, 14], vec![1, 6, 9, 13], vec![0, 3, 4, 5, 8, 10, 11], vec![2, 15]]);
    }
}
