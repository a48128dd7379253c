//! How fast the kernel of exchanges by hash spreads rows: hashes, and one copy of each row.
//!
//! `cargo bench -p volley-sql --bench partition` prints bytes in memory per second, of one thread.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to measure")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use tokio::runtime::Builder;
use volley_proto::PartitionId;
use volley_sql::exchange::{Exchange, ExchangeSink, ExchangeSource, ExchangeWriteExec, Share, TaskIo};

const BATCHES: i64 = 64;
const ROWS: i64 = 8192;

/// Takes rows and lets them go.
#[derive(Debug)]
struct Nowhere;

impl ExchangeSink for Nowhere {
    fn write(&self, _: PartitionId, batch: RecordBatch) -> Result<()> {
        std::hint::black_box(batch);
        Ok(())
    }
}

impl ExchangeSource for Nowhere {
    fn read_share(&self, _: usize, _: &[PartitionId], _: Share, _: SchemaRef) -> Result<SendableRecordBatchStream> {
        Err(DataFusionError::Internal("nothing is read here".into()))
    }
}

/// A key and seven numeric columns: 64 bytes a row.
fn numbers(start: i64) -> RecordBatch {
    let columns = (0..8).map(|column| {
        let values = (start..start + ROWS).map(|value| value * 7919 % 1_000_003);
        let array = match column % 2 {
            0 => Arc::new(Int64Array::from_iter_values(values)) as _,
            _ => Arc::new(Float64Array::from_iter_values(values.map(|value| value as f64 / 7.0))) as _,
        };
        (format!("c{column}"), array)
    });
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A key and a string, as scans of Parquet give them.
fn strings(start: i64) -> RecordBatch {
    let keys: Int64Array = (start..start + ROWS).map(|value| value * 7919 % 1_000_003).collect();
    let texts =
        StringViewArray::from_iter_values((start..start + ROWS).map(|row| format!("a comment about order {row}, carefully worded")));
    RecordBatch::try_from_iter([("k", Arc::new(keys) as _), ("s", Arc::new(texts) as _)]).unwrap()
}

fn by_hash(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let io = TaskIo { source: Arc::new(Nowhere), sink: Arc::new(Nowhere) };
    let config = SessionConfig::new().with_extension(Arc::new(io));
    let context = Arc::new(TaskContext::default().with_session_config(config));
    for (kind, batch) in [("numbers", numbers as fn(i64) -> RecordBatch), ("strings", strings)] {
        let batches: Vec<_> = (0..BATCHES).map(|index| batch(index * ROWS)).collect();
        let bytes = batches.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
        let schema = batches[0].schema();
        let input: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&schema), None).unwrap();
        let mut group = criterion.benchmark_group(format!("partition_{kind}"));
        group.throughput(Throughput::Bytes(bytes));
        for partitions in [2, 16, 128] {
            let name = schema.field(0).name().clone();
            let exchange = Exchange::Hash { keys: vec![Arc::new(Column::new(&name, 0))], partitions };
            let write = ExchangeWriteExec::new(Arc::clone(&input), exchange, 0);
            group.bench_function(format!("{partitions}"), |bencher| {
                bencher.iter(|| {
                    let rows = write.execute(0, Arc::clone(&context)).unwrap();
                    runtime.block_on(rows.try_for_each(|_| async { Ok(()) })).unwrap();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, by_hash);
criterion_main!(benches);
