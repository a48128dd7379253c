//! How fast an exchange moves rows: into the store, encoded and decoded, handed over in a process, over Flight on loopback, and from a spill file.
//!
//! `cargo bench -p volley-executor --bench exchange` prints bytes in memory per second.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to measure")]

use std::hint::black_box;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, StringViewArray};
use futures::TryStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use volley_executor::exchange::{Exchange, ExchangeConfig, ExchangeHooks, WireSchema};
use volley_executor::net;
use volley_proto::shuffle::Compression;
use volley_proto::{
    AttemptId, AttemptLocation, ExecutorId, Failure, Incarnation, InputLocations, JobId, PartitionId, StageId, TaskId, Term, TicketKey,
};

const PARTITIONS: u32 = 4;
const BATCHES: i64 = 64;
const ROWS: i64 = 8192;

/// Eight numeric columns: 64 bytes a row, 512 KiB a batch.
fn numbers(start: i64) -> RecordBatch {
    let columns = (0..8).map(|column| {
        let values = start..start + ROWS;
        let array = if column % 2 == 0 {
            Arc::new(Int64Array::from_iter_values(values)) as _
        } else {
            Arc::new(Float64Array::from_iter_values(values.map(|value| value as f64 / 7.0))) as _
        };
        (format!("c{column}"), array)
    });
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A key and two string columns, one of them of views.
fn strings(start: i64) -> RecordBatch {
    let rows = start..start + ROWS;
    let text = |row: i64| format!("a comment about order {row}, carefully worded");
    let keys: Int64Array = rows.clone().collect();
    let plain = StringArray::from_iter_values(rows.clone().map(text));
    let views = StringViewArray::from_iter_values(rows.map(text));
    RecordBatch::try_from_iter([("k", Arc::new(keys) as _), ("s", Arc::new(plain) as _), ("v", Arc::new(views) as _)]).unwrap()
}

fn exchange(runtime: &Runtime, name: &str, dir: &Path, memory: usize, hand_over: bool) -> Arc<Exchange> {
    let mut config = ExchangeConfig::new(ExecutorId::new(name), Incarnation(1), dir.join(name), memory);
    config.hand_over = hand_over;
    let exchange = Exchange::new(config, ExchangeHooks::plain(runtime.handle().clone())).unwrap();
    exchange.set_access(Term(1), TicketKey::from_bytes([1; 32]));
    exchange
}

fn serve(runtime: &Runtime, exchange: &Arc<Exchange>) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = net::server().add_service(exchange.flight_service());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        service.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    address.into()
}

fn attempt() -> AttemptId {
    TaskId::new(JobId(1), StageId(0), 0).attempt(0)
}

fn fill(exchange: &Exchange, batch: fn(i64) -> RecordBatch) -> u64 {
    let sink = exchange.sink(attempt(), PARTITIONS, batch(0).schema()).unwrap();
    for index in 0..BATCHES {
        sink.write(PartitionId(index as u32 % PARTITIONS), batch(index * ROWS)).unwrap();
    }
    exchange.seal(attempt()).unwrap().iter().map(|stats| stats.bytes).sum()
}

async fn read(reader: &Arc<Exchange>, holder: &str, address: &Arc<str>, schema: datafusion::arrow::datatypes::SchemaRef) -> usize {
    let location =
        AttemptLocation { task: 0, attempt: 0, executor: ExecutorId::new(holder), incarnation: Incarnation(1), address: address.clone() };
    let inputs = InputLocations { producer: StageId(0), attempts: [location].into() };
    let consumer = TaskId::new(JobId(1), StageId(1), 0).attempt(0);
    let (source, _) = reader.source(consumer, &[inputs]);
    let partitions: Vec<_> = (0..PARTITIONS).map(PartitionId).collect();
    let mut stream = source.read(0, &partitions, schema).unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        rows += black_box(batch).num_rows();
    }
    rows
}

fn transfer(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (kind, batch) in [("numbers", numbers as fn(i64) -> RecordBatch), ("strings", strings)] {
        let mut group = criterion.benchmark_group(format!("exchange_{kind}"));
        group.sample_size(10);
        for (way, memory, hand_over) in [("hand_over", 4 << 30, true), ("flight", 4 << 30, false), ("spilled", 0, true)] {
            let name = format!("{kind}_{way}");
            let holder = exchange(&runtime, &name, dir.path(), memory, true);
            let reader = exchange(&runtime, &format!("reader_{name}"), dir.path(), 4 << 30, hand_over);
            let address = serve(&runtime, &holder);
            group.throughput(Throughput::Bytes(fill(&holder, batch)));
            let schema = batch(0).schema();
            group.bench_function(way, |bencher| {
                bencher.to_async(&runtime).iter(|| async {
                    let rows = read(&reader, &name, &address, Arc::clone(&schema)).await;
                    assert_eq!(rows as i64, BATCHES * ROWS);
                });
            });
        }
        group.finish();
    }
}

/// Batches into the store, to the end of their output; with no memory, into spill files.
fn store(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (kind, batch) in [("numbers", numbers as fn(i64) -> RecordBatch), ("strings", strings)] {
        let mut group = criterion.benchmark_group(format!("store_{kind}"));
        group.sample_size(10);
        for (way, memory) in [("memory", 4 << 30), ("spilling", 0)] {
            let exchange = exchange(&runtime, &format!("store_{kind}_{way}"), dir.path(), memory, true);
            let batches: Vec<_> = (0..BATCHES).map(|index| batch(index * ROWS)).collect();
            let bytes = batches.iter().map(|batch| batch.get_array_memory_size() as u64).sum();
            let attempts = AtomicU32::new(0);
            group.throughput(Throughput::Bytes(bytes));
            group.bench_function(way, |bencher| {
                bencher.iter(|| {
                    let attempt = TaskId::new(JobId(1), StageId(0), 0).attempt(attempts.fetch_add(1, Ordering::Relaxed));
                    let sink = exchange.sink(attempt, PARTITIONS, batches[0].schema()).unwrap();
                    for (index, batch) in batches.iter().enumerate() {
                        sink.write(PartitionId(index as u32 % PARTITIONS), batch.clone()).unwrap();
                    }
                    black_box(exchange.seal(attempt).unwrap());
                    exchange.discard(attempt, Failure::cancelled("measured"));
                });
            });
        }
        group.finish();
    }
}

/// One batch into messages, and back.
fn encoding(criterion: &mut Criterion) {
    for (kind, batch) in [("numbers", numbers(0)), ("strings", strings(0))] {
        let wire = WireSchema::try_new(&batch.schema()).unwrap();
        let mut group = criterion.benchmark_group(format!("encoding_{kind}"));
        group.throughput(Throughput::Bytes(batch.get_array_memory_size() as u64));
        for (name, compression) in [("plain", Compression::None), ("lz4", Compression::Lz4)] {
            group.bench_function(format!("encode_{name}"), |bencher| bencher.iter(|| wire.encode(black_box(&batch), compression).unwrap()));
            let messages = wire.encode(&batch, compression).unwrap();
            group.bench_function(format!("decode_{name}"), |bencher| bencher.iter(|| wire.decode_all(black_box(&messages)).unwrap()));
        }
        group.finish();
    }
}

criterion_group!(benches, encoding, store, transfer);
criterion_main!(benches);
