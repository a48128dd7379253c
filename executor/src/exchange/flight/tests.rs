//! What a reader makes of a peer that does not keep its word.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use tokio::runtime::Handle;
use volley_proto::shuffle::{ChunkHeader, ChunkKind, Compression, TaskAttempt};
use volley_proto::{ExecutorId, Failure, Incarnation, JobId, PartitionId, Remedy, StageId, TaskId};

use super::peer::Arrival;
use super::reader::{Producer, RemoteReader};
use crate::exchange::encoding::{IpcMessage, WireSchema};
use crate::exchange::source::ReadCounters;
use crate::exchange::{Exchange, ExchangeConfig, ExchangeHooks, UncountedMemory};

const ATTEMPT: TaskAttempt = TaskAttempt { task: 4, attempt: 1 };

fn batch(rows: i64) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..rows)) as _)]).unwrap()
}

fn reader(dir: &tempfile::TempDir) -> RemoteReader {
    let config = ExchangeConfig::new(ExecutorId::new("reader"), Incarnation(1), dir.path().to_owned(), 1 << 30);
    let exchange = Exchange::new(config, ExchangeHooks::plain(Handle::current())).unwrap();
    let (executor, incarnation, address) = (ExecutorId::new("holder"), Incarnation(2), "127.0.0.1:1".into());
    let producer = Producer { job: JobId(7), stage: StageId(2), executor, incarnation, address };
    let wire = WireSchema::try_new(&batch(0).schema()).unwrap();
    RemoteReader::new(exchange, producer, &[ATTEMPT], &[PartitionId(3)], wire, Arc::new(ReadCounters::default()))
}

fn arrival(kind: ChunkKind, messages: Vec<IpcMessage>) -> Arrival {
    let header = ChunkHeader { subscription: 1, partition: PartitionId(3), attempt: ATTEMPT, kind };
    Arrival::new(header, messages, Arc::new(UncountedMemory))
}

fn chunk(rows: i64, said: u64) -> Arrival {
    let wire = WireSchema::try_new(&batch(0).schema()).unwrap();
    arrival(ChunkKind::Chunk { rows: said }, wire.encode(&batch(rows), Compression::None).unwrap())
}

fn assert_rerun(failure: &Failure, text: &str) {
    let producer = TaskId::new(JobId(7), StageId(2), 4).attempt(1);
    assert_eq!(failure.remedy, Remedy::Rerun { producer, executor: ExecutorId::new("holder") });
    assert!(failure.message.contains(text), "{failure}");
}

#[tokio::test]
async fn an_end_with_other_rows_than_came_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = reader(&dir);
    assert_eq!(reader.take(chunk(5, 5)).unwrap().unwrap().num_rows(), 5);
    let end = ChunkKind::End { rows: 7, chunks: 2, checksum: 0 };
    let failure = reader.take(arrival(end, vec![])).unwrap_err();
    assert_rerun(&failure, "partition p3 of j7/s2/t4/a1 from executor holder came with 5 rows in 1 chunks instead of 7 in 2");
}

#[tokio::test]
async fn the_same_rows_in_other_chunks_are_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = reader(&dir);
    assert!(reader.take(chunk(5, 5)).unwrap().is_some());
    let end = ChunkKind::End { rows: 5, chunks: 1, checksum: 1 };
    assert_rerun(&reader.take(arrival(end, vec![])).unwrap_err(), "came with 5 rows");
}

#[tokio::test]
async fn a_chunk_with_other_rows_than_it_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_rerun(&reader(&dir).take(chunk(5, 6)).unwrap_err(), "a chunk has 5 rows instead of 6");
}

#[tokio::test]
async fn a_chunk_that_is_no_batch_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = IpcMessage { header: vec![7; 64].into(), body: vec![7; 64].into() };
    let failure = reader(&dir).take(arrival(ChunkKind::Chunk { rows: 1 }, vec![garbage])).unwrap_err();
    assert_rerun(&failure, "a chunk can't be decoded");
}
