//! Executors that read from one another over Flight, and what happens when one of them is not there.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, Ticket};
use datafusion::arrow::array::{AsArray, DictionaryArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int8Type};
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use volley_executor::net;
use volley_proto::shuffle::{Compression, ExchangeTicket, Selection, TaskAttempt};
use volley_proto::{AttemptLocation, PartitionId, Remedy, Term, TicketKey};

use super::support::{JOB, Node, STAGE, consumer, failure, inputs, key, numbers, producer, until, values};

async fn two() -> (Node, Node) {
    (Node::start(|_| {}).await, Node::start(|config| config.hand_over = false).await)
}

fn sorted(batches: &[RecordBatch]) -> Vec<i64> {
    let mut values = values(batches);
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_several_producers_on_several_executors_come_together() {
    let (first, second) = two().await;
    let third = Node::start(|config| config.hand_over = false).await;
    let schema = numbers(0, 0).schema();
    for index in 0..6 {
        let holder = if index % 2 == 0 { &first } else { &second };
        let start = i64::from(index) * 40_000;
        let batches: Vec<_> = (0..8).map(|i| ((i % 4) as u32, numbers(start + i * 5000, 5000))).collect();
        holder.produce(producer(index), 4, schema.clone(), &batches);
    }
    let locations: Vec<_> = (0..6).map(|i| if i % 2 == 0 { first.location(producer(i)) } else { second.location(producer(i)) }).collect();
    let (read, counters) = third.read_counted(locations.clone(), &[0, 1, 2, 3], schema.clone()).await;
    assert_eq!(sorted(&read.unwrap()), (0..240_000).collect::<Vec<_>>());
    assert!(counters.flight_bytes() > 240_000 * 8 && counters.local_bytes() == 0, "{counters:?}");

    // In one partition of one producer, the order of writing survives.
    let read = third.read(vec![locations[1].clone()], &[3], schema.clone()).await.unwrap();
    assert_eq!(values(&read), (55_000..60_000).chain(75_000..80_000).collect::<Vec<_>>());

    // In the same process the chunks are handed over.
    let (read, counters) = first.read_counted(locations, &[0, 1, 2, 3], schema).await;
    assert_eq!(sorted(&read.unwrap()).len(), 240_000);
    assert!(counters.flight_bytes() == 0 && counters.local_bytes() > 240_000 * 8, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_flow_while_they_are_written() {
    let (holder, reader) = two().await;
    let (source, _) = reader.exchange.source(consumer(), &[inputs(vec![holder.location(producer(0))])]);
    let mut stream = source.read(0, &[PartitionId(0)], numbers(0, 0).schema()).unwrap();
    assert!(futures::poll!(stream.next()).is_pending());
    let sink = holder.exchange.sink(producer(0), 1, numbers(0, 0).schema()).unwrap();
    sink.write(PartitionId(0), numbers(0, 9000)).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 9000);
    sink.write(PartitionId(0), numbers(9000, 9000)).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), 9000);
    holder.exchange.seal(producer(0)).unwrap();
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_bounds_what_is_under_way() {
    const CREDIT: usize = 2 << 20;
    let holder = Node::start(|_| {}).await;
    let reader = Node::start(|config| (config.hand_over, config.credit_bytes) = (false, CREDIT)).await;
    let schema = numbers(0, 0).schema();
    let batches: Vec<_> = (0..200).map(|i| ((i % 4) as u32, numbers(i * 9000, 9000))).collect();
    holder.produce(producer(0), 4, schema.clone(), &batches);
    let (source, _) = reader.exchange.source(consumer(), &[inputs(vec![holder.location(producer(0))])]);
    let mut stream = source.read(0, &[0, 1, 2, 3].map(PartitionId), schema).unwrap();
    let mut rows = stream.next().await.unwrap().unwrap().num_rows();
    until("the credit is used", || reader.memory.peak() + (1 << 20) > CREDIT).await;
    while let Some(batch) = stream.try_next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 200 * 9000);
    // A chunk that is larger than what is left of the credit is sent whole, one for each partition.
    assert!(reader.memory.peak() < CREDIT + 4 * (1 << 20), "{} bytes were under way", reader.memory.peak());
    drop(stream);
    until("everything is given back", || reader.memory.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_frees_what_it_had() {
    let (holder, reader) = two().await;
    let schema = numbers(0, 0).schema();
    let batches: Vec<_> = (0..100).map(|i| (0, numbers(i * 9000, 9000))).collect();
    holder.produce(producer(0), 1, schema.clone(), &batches);
    let (source, _) = reader.exchange.source(consumer(), &[inputs(vec![holder.location(producer(0))])]);
    let mut stream = source.read(0, &[PartitionId(0)], schema).unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    until("the reader's bytes are given back", || reader.memory.used() == 0).await;
    holder.exchange.forget(JOB);
    until("the holder's bytes are given back", || holder.memory.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_gone_is_named_with_the_producer_to_run_again() {
    let (mut holder, reader) = two().await;
    let schema = numbers(0, 0).schema();
    let batches: Vec<_> = (0..100).map(|i| (0, numbers(i * 9000, 9000))).collect();
    holder.produce(producer(4), 1, schema.clone(), &batches);
    let location = holder.location(producer(4));
    let (source, _) = reader.exchange.source(consumer(), &[inputs(vec![location.clone()])]);
    let mut stream = source.read(0, &[PartitionId(0)], schema.clone()).unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    holder.stop_server();
    let lost = tokio::time::timeout(Duration::from_secs(30), stream.try_collect::<Vec<_>>()).await.unwrap();
    let never_there = reader.read(vec![AttemptLocation { address: "127.0.0.1:1".into(), ..location }], &[0], schema).await;
    for error in [failure(lost.unwrap_err()), never_there.unwrap_err()] {
        assert_eq!(error.remedy, Remedy::Rerun { producer: producer(4), executor: holder.executor.clone() }, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_the_holder_does_not_have_is_named_with_the_producer_to_run_again() {
    let (holder, reader) = two().await;
    let schema = numbers(0, 0).schema();
    holder.produce(producer(0), 1, schema.clone(), &[(0, numbers(0, 10))]);
    holder.exchange.release(JOB, STAGE);
    let error = reader.read(vec![holder.location(producer(0))], &[0], schema.clone()).await.unwrap_err();
    let rerun = Remedy::Rerun { producer: producer(0), executor: holder.executor.clone() };
    assert_eq!(error.remedy, rerun);
    assert!(error.message.contains("was freed after its consumers had committed"), "{error}");

    // Another life of the same executor answers at the same address.
    let earlier = AttemptLocation { incarnation: volley_proto::Incarnation(1), ..holder.location(producer(0)) };
    let error = reader.read(vec![earlier], &[0], schema).await.unwrap_err();
    assert_eq!(error.remedy, rerun);
    assert!(error.message.contains("the ticket is for executor") && error.message.contains("in incarnation i1"), "{error}");
}

/// Forwards connections to `target`; the first `cuts` of them break after `bytes` bytes of the answer.
async fn breaking_proxy(target: &str, cuts: usize, bytes: u64) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target = target.to_owned();
    tokio::spawn(async move {
        for number in 0.. {
            let (reader, _) = listener.accept().await.unwrap();
            let holder = TcpStream::connect(&target).await.unwrap();
            let limit = if number < cuts { bytes } else { u64::MAX };
            tokio::spawn(async move {
                let (mut from_reader, mut to_reader) = reader.into_split();
                let (from_holder, mut to_holder) = holder.into_split();
                let mut answer = from_holder.take(limit);
                tokio::select! {
                    _ = copy(&mut answer, &mut to_reader) => {}
                    _ = copy(&mut from_reader, &mut to_holder) => {}
                }
            });
        }
    });
    address.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_broken_connection_no_row_is_lost_or_doubled() {
    let (holder, reader) = two().await;
    let schema = numbers(0, 0).schema();
    for index in 0..2 {
        let start = i64::from(index) * 360_000;
        let batches: Vec<_> = (0..40).map(|i| ((i % 2) as u32, numbers(start + i * 9000, 9000))).collect();
        holder.produce(producer(index), 2, schema.clone(), &batches);
    }
    let address = breaking_proxy(&holder.address, 2, 7_000_000).await;
    let locations = (0..2).map(|index| AttemptLocation { address: Arc::clone(&address), ..holder.location(producer(index)) }).collect();
    let read = reader.read(locations, &[0, 1], schema).await.unwrap();
    assert_eq!(sorted(&read), (0..720_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_always_breaks_is_given_up() {
    let (holder, reader) = two().await;
    let schema = numbers(0, 0).schema();
    holder.produce(producer(0), 1, schema.clone(), &[(0, numbers(0, 100_000))]);
    let address = breaking_proxy(&holder.address, usize::MAX, 300_000).await;
    let location = AttemptLocation { address, ..holder.location(producer(0)) };
    let error = reader.read(vec![location], &[0], schema).await.unwrap_err();
    assert_eq!(error.remedy, Remedy::Rerun { producer: producer(0), executor: holder.executor.clone() });
}

fn ticket(node: &Node, attempts: &[u32], partitions: &[u32]) -> ExchangeTicket {
    let attempts = attempts.iter().map(|task| TaskAttempt { task: *task, attempt: 0 }).collect();
    ExchangeTicket {
        term: Term(3),
        job: JOB,
        stage: STAGE,
        executor: node.executor.clone(),
        incarnation: node.incarnation,
        compression: Compression::None,
        selections: vec![Selection { partitions: partitions.iter().copied().map(PartitionId).collect(), attempts }],
    }
}

async fn do_get(node: &Node, key: &TicketKey, ticket: &ExchangeTicket) -> Result<Vec<FlightData>, tonic::Status> {
    let mut client = net::flight_client(net::channel(&node.address).unwrap());
    client.do_get(Ticket::new(key.sign_ticket(ticket))).await?.into_inner().try_collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flight_reader_gets_whole_outputs_in_order() {
    for limit in [usize::MAX, 0] {
        let node = Node::start_with(limit, |_| {}).await;
        let words: DictionaryArray<Int8Type> = (0..9000).map(|row| Some(["to", "be"][row % 2])).collect();
        let batch = |start| {
            let numbers = numbers(start, 9000);
            let columns = [numbers.column(0), numbers.column(1), &(Arc::new(words.clone()) as _)].map(Arc::clone);
            RecordBatch::try_from_iter(["n", "w", "d"].into_iter().zip(columns)).unwrap()
        };
        for task in 0..2 {
            let start = task * 90_000;
            let batches: Vec<_> = (0..10).map(|i| ((i / 5) as u32, batch(start + i * 9000))).collect();
            node.produce(producer(task as u32), 2, batch(0).schema(), &batches);
        }
        let messages = do_get(&node, &key(), &ticket(&node, &[0, 1], &[0, 1])).await.unwrap();
        assert!(messages[0].data_body.is_empty() && messages[1..].iter().all(|message| !message.data_body.is_empty()));
        let messages = futures::stream::iter(messages.into_iter().map(Ok::<_, FlightError>));
        let batches: Vec<_> = FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.unwrap();
        assert_eq!(values(&batches), (0..180_000).collect::<Vec<_>>());
        assert_eq!(batches[0].column(2).data_type(), &DataType::Utf8);
        assert_eq!(batches[19].column(2).as_string::<i32>().value(8999), "be");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_result_is_its_schema() {
    let node = Node::start(|_| {}).await;
    node.produce(producer(0), 1, numbers(0, 0).schema(), &[]);
    let messages = do_get(&node, &key(), &ticket(&node, &[0], &[0])).await.unwrap();
    assert_eq!(messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_ticket_gets_nothing() {
    let node = Node::start(|_| {}).await;
    node.produce(producer(0), 1, numbers(0, 0).schema(), &[(0, numbers(0, 10))]);
    let right = ticket(&node, &[0], &[0]);
    assert!(do_get(&node, &key(), &right).await.is_ok());
    let foreign = do_get(&node, &TicketKey::from_bytes([8; 32]), &right).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    let older = do_get(&node, &key(), &ExchangeTicket { term: Term(2), ..right.clone() }).await.unwrap_err();
    assert_eq!(older.code(), Code::Unavailable);
    assert!(older.message().contains("the ticket is of term2, and executor"), "{}", older.message());
    let nothing = do_get(&node, &key(), &ExchangeTicket { selections: vec![], ..right.clone() }).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let unknown = do_get(&node, &key(), &ExchangeTicket { job: volley_proto::JobId(99), ..right }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}
