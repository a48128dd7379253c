//! Results whose rows are shown while they are produced.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_flight::FlightInfo;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::TryStreamExt;
use tokio::sync::watch;
use tonic::Status;
use volley_proto::Failure;
use volley_proto::wire::client::v1::JobState;
use volley_scheduler::SchedulerHandle;

use super::executor::{FakeExecutor, Play};
use super::results::{SEVEN, in_time, report, seven};
use super::{Client, scheduler};

/// A client whose session shows rows while they are produced.
async fn eager(scheduler: &SchedulerHandle) -> Client {
    let client = Client::with_cookie(scheduler, "eager");
    client.show("SET volley.results = 'eager'").await.unwrap();
    client
}

/// Asks for seven, and takes the first row.
async fn first_row(client: &Client) -> (FlightInfo, FlightRecordBatchStream) {
    let info = client.query(SEVEN).await.unwrap();
    let mut rows = client.read(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert_eq!(in_time("the first row", rows.try_next()).await.unwrap(), Some(seven()));
    (info, rows)
}

fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn rows_come_before_their_task_has_ended() {
    let scheduler = scheduler(|_| {}).await;
    let (end, ending) = watch::channel(None);
    let _executor = FakeExecutor::start(&scheduler, "e1", move |_| Play::Flow(seven(), ending.clone())).await;
    let client = eager(&scheduler).await;
    let (info, mut rows) = first_row(&client).await;
    assert_eq!(report(&client, &info).await.state(), JobState::Running);
    end.send(Some(Ok(()))).unwrap();
    assert_eq!(in_time("the end", rows.try_next()).await.unwrap(), None);
    let report = report(&client, &info).await;
    assert_eq!((report.state(), report.result_rows), (JobState::Finished, 1));
}

#[tokio::test]
async fn a_failure_after_the_first_row_says_that_rows_were_returned() {
    let scheduler = scheduler(|_| {}).await;
    let (end, ending) = watch::channel(None);
    let _executor = FakeExecutor::start(&scheduler, "e1", move |_| Play::Flow(seven(), ending.clone())).await;
    let client = eager(&scheduler).await;
    let (info, mut rows) = first_row(&client).await;
    end.send(Some(Err(Failure::retry("a disk broke")))).unwrap();
    let error = status(in_time("the end", rows.try_next()).await.unwrap_err());
    let said = error.message();
    assert!(
        said.contains("failed: a disk broke; some of its rows had been returned already") && said.contains("run the statement again"),
        "{said}"
    );
    assert_eq!(report(&client, &info).await.state(), JobState::Failed);
}

#[tokio::test]
async fn an_executor_lost_after_the_first_row_ends_the_job() {
    let scheduler = scheduler(|_| {}).await;
    let (_end, ending) = watch::channel(None);
    let executor = FakeExecutor::start(&scheduler, "e1", move |_| Play::Flow(seven(), ending.clone())).await;
    let client = eager(&scheduler).await;
    let (_, mut rows) = first_row(&client).await;
    drop(executor);
    let error = status(in_time("the end", rows.try_next()).await.unwrap_err());
    assert!(error.message().contains("run the statement again"), "{}", error.message());
}

#[tokio::test]
async fn the_querys_own_failure_is_what_the_reader_gets() {
    let scheduler = scheduler(|_| {}).await;
    let (end, ending) = watch::channel(None);
    let _executor = FakeExecutor::start(&scheduler, "e1", move |_| Play::Flow(seven(), ending.clone())).await;
    let client = eager(&scheduler).await;
    let (_, mut rows) = first_row(&client).await;
    end.send(Some(Err(Failure::query("division by zero")))).unwrap();
    let error = status(in_time("the end", rows.try_next()).await.unwrap_err());
    assert_eq!(error.message(), "division by zero");
}

#[tokio::test]
async fn a_failure_before_the_first_row_is_tried_again() {
    let scheduler = scheduler(|_| {}).await;
    let tries = AtomicUsize::new(0);
    let play = move |_: &_| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 { Play::Fail(Failure::retry("a peer was lost")) } else { Play::Seal(seven()) }
    };
    let _executor = FakeExecutor::start(&scheduler, "e1", play).await;
    let client = eager(&scheduler).await;
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(in_time("the retry", client.fetch(&info)).await.unwrap(), [seven()]);
}

#[tokio::test]
async fn an_executor_lost_before_the_first_row_is_replaced() {
    let scheduler = scheduler(|_| {}).await;
    let lost = FakeExecutor::start(&scheduler, "e1", |_| Play::Hang).await;
    let client = eager(&scheduler).await;
    let info = client.query(SEVEN).await.unwrap();
    let rows = client.fetch(&info);
    let lose = async {
        while lost.launched.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(lost);
        FakeExecutor::start(&scheduler, "e2", |_| Play::Seal(seven())).await
    };
    let (rows, _executor) = in_time("the retry", futures::future::join(rows, lose)).await;
    assert_eq!(rows.unwrap(), [seven()]);
}
