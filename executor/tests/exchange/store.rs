//! What the partition store promises, whatever is in memory and whatever on disk.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use futures::StreamExt;
use tokio::runtime::Handle;
use volley_executor::exchange::{Exchange, ExchangeConfig, ExchangeHooks};
use volley_proto::{ExecutorId, Failure, Incarnation, JobId, PartitionId, Remedy, StageId, TaskId};

use super::support::{JOB, Node, STAGE, consumer, failure, files_below, inputs, numbers, producer, until, values};

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_a_partition_come_in_the_order_in_which_they_were_written() {
    let node = Node::start(|_| {}).await;
    let batches: Vec<_> = (0..40).map(|i| (i % 2, numbers(i64::from(i) * 1000, 1000))).collect();
    node.produce(producer(0), 2, numbers(0, 0).schema(), &batches);
    for partition in 0..2 {
        let read = node.read(vec![node.location(producer(0))], &[partition], numbers(0, 0).schema()).await.unwrap();
        let expected: Vec<i64> = (0..40).filter(|i| i % 2 == i64::from(partition)).flat_map(|i| i * 1000..(i + 1) * 1000).collect();
        assert_eq!(values(&read), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_are_merged_into_chunks() {
    let node = Node::start(|_| {}).await;
    let batches: Vec<_> = (0..1000).map(|i| (0, numbers(i * 10, 10))).collect();
    node.produce(producer(0), 1, numbers(0, 0).schema(), &batches);
    let read = node.read(vec![node.location(producer(0))], &[0], numbers(0, 0).schema()).await.unwrap();
    assert_eq!(read.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [8200, 1800]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_come_before_the_output_and_gets_chunks_as_they_appear() {
    let node = Node::start(|_| {}).await;
    let (source, _) = node.exchange.source(consumer(), &[inputs(vec![node.location(producer(0))])]);
    let mut stream = source.read(0, &[PartitionId(0)], numbers(0, 0).schema()).unwrap();
    assert!(futures::poll!(stream.next()).is_pending());
    let sink = node.exchange.sink(producer(0), 1, numbers(0, 0).schema()).unwrap();
    assert!(futures::poll!(stream.next()).is_pending());
    sink.write(PartitionId(0), numbers(0, 9000)).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 9000);
    assert!(futures::poll!(stream.next()).is_pending());
    sink.write(PartitionId(0), numbers(0, 5)).unwrap();
    assert_eq!(node.exchange.rows_written(producer(0)), 9005);
    node.exchange.seal(producer(0)).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 5);
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_output_takes_no_rows_and_says_how_many_it_has() {
    let node = Node::start(|_| {}).await;
    let sink = node.exchange.sink(producer(0), 3, numbers(0, 0).schema()).unwrap();
    sink.write(PartitionId(0), numbers(0, 10)).unwrap();
    sink.write(PartitionId(2), numbers(0, 9000)).unwrap();
    assert_eq!(node.exchange.held(), []);
    let stats = node.exchange.seal(producer(0)).unwrap();
    assert_eq!(stats.iter().map(|stats| stats.rows).collect::<Vec<_>>(), [10, 0, 9000]);
    assert!(stats[2].bytes > 9000 * 16 && stats[1].bytes == 0);
    assert_eq!(node.exchange.held(), [producer(0)]);
    let refused = failure(sink.write(PartitionId(0), numbers(0, 1)).unwrap_err());
    assert_eq!(refused, Failure::internal("rows were written to j7/s2/t0/a0 after its end"));
    assert_eq!(node.read(vec![node.location(producer(0))], &[0], numbers(0, 0).schema()).await.unwrap()[0].num_rows(), 10);
    let twice = node.exchange.sink(producer(0), 3, numbers(0, 0).schema()).unwrap_err();
    assert_eq!(twice.message, "the output of j7/s2/t0/a0 was opened twice");
}

/// In memory and on disk, within the process and over Flight.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_partition_may_tell_of_the_others_in_columns_of_its_own() {
    let summary = RecordBatch::try_from_iter([
        ("least", Arc::new(Int64Array::from(vec![3])) as ArrayRef),
        ("bloom", Arc::new(BinaryArray::from_vec(vec![&[7; 100_000]]))),
    ]);
    let (summary, rows) = (summary.unwrap(), numbers(0, 20_000));
    let other = Node::start(|_| {}).await;
    for budget in [usize::MAX, 1] {
        let node = Node::start(|config| (config.budget_bytes, config.low_water_bytes) = (budget, budget)).await;
        let sink = node.exchange.telling_sink(producer(0), 2, &rows.schema(), Some(&summary.schema())).unwrap();
        sink.write(PartitionId(1), summary.clone()).unwrap();
        sink.write(PartitionId(0), rows.clone()).unwrap();
        node.exchange.seal(producer(0)).unwrap();
        for reader in [&node, &other] {
            let at = vec![node.location(producer(0))];
            assert_eq!(reader.read(at.clone(), &[1], summary.schema()).await.unwrap(), std::slice::from_ref(&summary), "{budget}");
            let read = reader.read(at, &[0], rows.schema()).await.unwrap();
            assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000, "{budget}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_tiny_budget_the_rows_are_the_same_and_lie_on_disk() {
    let node = Node::start(|config| (config.budget_bytes, config.low_water_bytes) = (200_000, 100_000)).await;
    let batches: Vec<_> = (0..60).map(|i| ((i % 3) as u32, numbers(i * 5000, 5000))).collect();
    assert_eq!(node.produce(producer(0), 3, numbers(0, 0).schema(), &batches), 300_000);
    let usage = node.exchange.usage();
    assert!(usage.memory_bytes <= 1_000_000, "{usage:?}");
    assert!(usage.spilled_bytes > 0 && node.exchange.spilled_bytes(producer(0)) >= usage.spilled_bytes, "{usage:?}");
    for _ in 0..2 {
        let mut read = values(&node.read(vec![node.location(producer(0))], &[0, 1, 2], numbers(0, 0).schema()).await.unwrap());
        read.sort_unstable();
        assert_eq!(read, (0..300_000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_for_it_a_chunk_goes_to_disk_at_once() {
    let node = Node::start_with(0, |_| {}).await;
    node.produce(producer(0), 1, numbers(0, 0).schema(), &[(0, numbers(0, 20_000))]);
    assert_eq!(node.exchange.usage().memory_bytes, 0);
    assert_eq!(node.files().len(), 1);
    let read = node.read(vec![node.location(producer(0))], &[0], numbers(0, 0).schema()).await.unwrap();
    assert_eq!(values(&read), (0..20_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_behind_is_given_back_on_request() {
    let node = Node::start(|config| config.low_water_bytes = 0).await;
    let batches: Vec<_> = (0..20).map(|i| (0, numbers(i * 9000, 9000))).collect();
    node.produce(producer(0), 1, numbers(0, 0).schema(), &batches);
    let before = node.exchange.usage().memory_bytes;
    until("all chunks are on disk", || node.exchange.usage().clean_bytes == before).await;
    assert_eq!(node.memory.used(), before);

    let freed = node.exchange.reclaim(before / 2);
    assert!(freed >= before / 2 && freed < before, "{freed} of {before}");
    assert_eq!(node.memory.used(), before - freed);
    assert_eq!(node.exchange.reclaim(usize::MAX), before - freed);
    assert_eq!((node.memory.used(), node.exchange.reclaim(1)), (0, 0));
    let read = node.read(vec![node.location(producer(0))], &[0], numbers(0, 0).schema()).await.unwrap();
    assert_eq!(values(&read), (0..180_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_a_job_is_forgotten() {
    let node = Node::start_with(500_000, |config| config.low_water_bytes = 0).await;
    for index in 0..4 {
        let batches: Vec<_> = (0..10).map(|i| (0, numbers(i * 9000, 9000))).collect();
        node.produce(producer(index), 1, numbers(0, 0).schema(), &batches);
    }
    let open = node.exchange.sink(producer(4), 1, numbers(0, 0).schema()).unwrap();
    open.write(PartitionId(0), numbers(0, 10)).unwrap();
    assert!(!node.files().is_empty() && node.memory.used() > 0);
    node.exchange.forget(JOB);
    assert_eq!(node.exchange.held(), []);
    until("its memory is given back", || node.memory.used() == 0).await;
    assert_eq!(node.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(node.dir.path()).unwrap().count(), 0);
    assert_eq!(failure(open.write(PartitionId(0), numbers(0, 1)).unwrap_err()).remedy, Remedy::Cancelled);
    assert_eq!(node.exchange.sink(producer(5), 1, numbers(0, 0).schema()).unwrap_err().remedy, Remedy::Cancelled);
    // A scheduler that was away for long goes on with the job after all.
    node.exchange.resume(JOB);
    assert!(node.exchange.sink(producer(5), 1, numbers(0, 0).schema()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_the_exchange_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let config = ExchangeConfig::new(ExecutorId::new("dropped"), Incarnation(1), dir.path().to_owned(), 0);
    let exchange = Exchange::new(config, ExchangeHooks::plain(Handle::current())).unwrap();
    let sink = exchange.sink(producer(0), 1, numbers(0, 0).schema()).unwrap();
    sink.write(PartitionId(0), numbers(0, 9000)).unwrap();
    exchange.seal(producer(0)).unwrap();
    assert_eq!(files_below(dir.path()).len(), 1);
    drop(exchange);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_life_left_is_removed() {
    let node = Node::start(|config| {
        std::fs::create_dir_all(config.work_dir.join("j3/s1")).unwrap();
        std::fs::write(config.work_dir.join("j3/s1/t0-a0.spill"), "old").unwrap();
        std::fs::write(config.work_dir.join("notes"), "not ours").unwrap();
    })
    .await;
    assert_eq!(node.files(), [node.dir.path().join("notes")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_an_output_that_is_gone_learn_which_producer_to_run_again() {
    let node = Node::start(|config| config.subscribe_timeout = Duration::from_millis(50)).await;
    let schema = numbers(0, 0).schema();
    let at = |index| vec![node.location(producer(index))];
    let rerun = |index| Remedy::Rerun { producer: producer(index), executor: node.executor.clone() };

    let failed = node.exchange.sink(producer(0), 1, schema.clone()).unwrap();
    failed.write(PartitionId(0), numbers(0, 9000)).unwrap();
    let (source, _) = node.exchange.source(consumer(), &[inputs(at(0))]);
    let mut waiting = source.read(0, &[PartitionId(0)], schema.clone()).unwrap();
    assert!(waiting.next().await.unwrap().is_ok());
    node.exchange.discard(producer(0), Failure::query("division by zero"));
    for error in [failure(waiting.next().await.unwrap().unwrap_err()), node.read(at(0), &[0], schema.clone()).await.unwrap_err()] {
        assert_eq!(error.remedy, rerun(0));
        assert!(error.message.contains("j7/s2/t0/a0 did not finish: division by zero"), "{error}");
    }

    let unknown = node.read(at(1), &[0], schema.clone()).await.unwrap_err();
    assert_eq!(unknown.remedy, rerun(1));
    assert!(unknown.message.contains("did not appear within 0.05 s"), "{unknown}");

    node.produce(producer(2), 1, schema.clone(), &[(0, numbers(0, 10))]);
    node.exchange.release(JOB, STAGE);
    let released = node.read(at(2), &[0], schema).await.unwrap_err();
    assert_eq!(released.remedy, rerun(2));
    assert!(released.message.contains("was freed after its consumers had committed"), "{released}");
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_a_stage_leaves_the_others() {
    let node = Node::start(|_| {}).await;
    let other = TaskId::new(JOB, StageId(5), 0).attempt(0);
    let foreign = TaskId::new(JobId(8), STAGE, 0).attempt(0);
    for attempt in [producer(0), other, foreign] {
        node.produce(attempt, 1, numbers(0, 0).schema(), &[(0, numbers(0, 10))]);
    }
    node.exchange.release(JOB, STAGE);
    assert_eq!(node.exchange.held(), [other, foreign]);
    // What was made of the stage was lost later, so the stage runs again.
    let again = producer(0).task.attempt(1);
    node.produce(again, 1, numbers(0, 0).schema(), &[(0, numbers(0, 10))]);
    assert_eq!(node.exchange.held(), [again, other, foreign]);
    node.exchange.forget(JOB);
    assert_eq!(node.exchange.held(), [foreign]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_directory_that_can_not_be_written_is_named() {
    let node = Node::start_with(0, |_| {}).await;
    std::fs::write(node.dir.path().join("j7"), "in the way").unwrap();
    let sink = node.exchange.sink(producer(0), 1, numbers(0, 0).schema()).unwrap();
    let error = failure(sink.write(PartitionId(0), numbers(0, 9000)).unwrap_err());
    assert_eq!(error.remedy, Remedy::Retry);
    assert!(error.message.contains("can't create spill file") && error.message.contains("j7/s2/t0-a0.spill"), "{error}");
}
