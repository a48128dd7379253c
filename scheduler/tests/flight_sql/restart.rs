//! A scheduler that is started again with the state of an earlier one.

use std::path::Path;
use std::time::Duration;

use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use tonic::Code;
use volley_proto::wire::action;
use volley_proto::wire::client::v1::{JobList, JobReport, JobState, JobsRequest};
use volley_scheduler::{Config, SchedulerHandle, StateLocation};

use super::executor::{FakeExecutor, Play};
use super::results::{SEVEN, in_time, report, seven};
use super::{Client, scheduler};

async fn scheduler_in(folder: &Path) -> SchedulerHandle {
    scheduler(|config: &mut Config| config.state = StateLocation::Directory(folder.to_owned())).await
}

async fn poll(client: &Client, info: &FlightInfo) -> Result<PollInfo, tonic::Status> {
    let ticket = info.endpoint[0].ticket.clone().unwrap().ticket;
    let poll = client.service.clone().poll_flight_info(client.request(FlightDescriptor::new_cmd(ticket))).await?;
    Ok(poll.into_inner())
}

#[tokio::test]
async fn a_job_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = scheduler_in(folder.path()).await;
    let executor = FakeExecutor::start(&first, "e1", |_| Play::Hang).await;
    let info = Client::keyless(&first).query(SEVEN).await.unwrap();
    first.shutdown().await.unwrap();
    drop(executor);

    let second = scheduler_in(folder.path()).await;
    let client = Client::keyless(&second);
    let waits = in_time("a poll", poll(&client, &info)).await.unwrap();
    assert!(waits.flight_descriptor.is_some() && waits.info.unwrap().endpoint.is_empty(), "there is no executor yet");
    let _executor = FakeExecutor::start(&second, "e1", |_| Play::Seal(seven())).await;
    loop {
        let answer = in_time("a poll", poll(&client, &info)).await.unwrap();
        if answer.flight_descriptor.is_none() {
            assert_eq!(answer.info.unwrap().endpoint.len(), 1);
            break;
        }
    }
    assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()]);
    let told = report(&client, &info).await;
    assert_eq!((told.state(), told.result_rows, told.statement.as_str()), (JobState::Finished, 1, SEVEN));
    drop(client);
    second.shutdown().await.unwrap();

    let third = scheduler_in(folder.path()).await;
    let gone = Client::keyless(&third).fetch(&info).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "what was read to its end is not resumed");
}

/// A statement whose job is in the journal.
async fn journaled(scheduler: &SchedulerHandle, folder: &Path) -> (Client, FlightInfo) {
    let client = Client::keyless(scheduler);
    let info = client.query(SEVEN).await.unwrap();
    in_time("the journal", async {
        while !names_statement(folder) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    (client, info)
}

/// Whether a file of the scheduler's state has the statement in it.
fn names_statement(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return names_statement(&path);
        }
        // A file may be replaced meanwhile.
        std::fs::read(&path).is_ok_and(|bytes| bytes.windows(SEVEN.len()).any(|part| part == SEVEN.as_bytes()))
    })
}

#[tokio::test]
async fn what_was_sent_is_there_again_for_a_client_that_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let lingers = |config: &mut Config| {
        config.state = StateLocation::Directory(folder.path().to_owned());
        config.result_linger = Duration::from_secs(600);
    };
    let first = scheduler(lingers).await;
    let executor = FakeExecutor::start(&first, "e1", |_| Play::Seal(seven())).await;
    let (client, info) = journaled(&first, folder.path()).await;
    for _ in 0..2 {
        assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()]);
    }
    assert_eq!(executor.launched.lock().len(), 1, "nothing runs again for it");
    let told = report(&client, &info).await;
    assert_eq!((told.state(), told.result_rows), (JobState::Finished, 1));
    drop((client, executor));
    first.shutdown().await.unwrap();

    let second = scheduler(lingers).await;
    let _executor = FakeExecutor::start(&second, "e1", |_| Play::Seal(seven())).await;
    assert_eq!(in_time("the rows", Client::keyless(&second).fetch(&info)).await.unwrap(), [seven()]);
}

#[tokio::test]
async fn what_was_sent_is_let_go_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let lingers = |config: &mut Config| {
        config.state = StateLocation::Directory(folder.path().to_owned());
        config.result_linger = Duration::from_millis(20);
    };
    let scheduler = scheduler(lingers).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let (client, info) = journaled(&scheduler, folder.path()).await;
    assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()]);
    in_time("forgetting the job", executor.forgotten.recv()).await;
    assert_eq!(client.fetch(&info).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_a_client_gave_up_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let first = scheduler_in(folder.path()).await;
    let mut executor = FakeExecutor::start(&first, "e1", |_| Play::Hang).await;
    let client = Client::keyless(&first);
    let info = client.query(SEVEN).await.unwrap();
    let request = arrow_flight::CancelFlightInfoRequest { info: Some(info.clone()) };
    let _: arrow_flight::CancelFlightInfoResult = client.act("CancelFlightInfo", request).await.unwrap();
    in_time("forgetting the job", executor.forgotten.recv()).await;
    drop(client);
    first.shutdown().await.unwrap();
    let second = scheduler_in(folder.path()).await;
    let gone = poll(&Client::keyless(&second), &info).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn jobs_that_ended_are_still_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let first = scheduler_in(folder.path()).await;
    let mut executor = FakeExecutor::start(&first, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&first);
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(client.fetch(&info).await.unwrap(), [seven()]);
    in_time("forgetting the job", executor.forgotten.recv()).await.unwrap();
    let told = report(&client, &info).await;
    assert_eq!((told.state(), told.stages.len(), told.stages[0].rows, told.stages[0].cpu_ns), (JobState::Finished, 1, 1, 5));
    drop((client, executor));
    first.shutdown().await.unwrap();

    for _ in 0..2 {
        let next = scheduler_in(folder.path()).await;
        let client = Client::keyless(&next);
        assert_eq!(report(&client, &info).await, told);
        let list: JobList = client.act(action::JOBS, JobsRequest { limit: 0 }).await.unwrap();
        assert_eq!(list.jobs, [JobReport { stages: vec![], ..told.clone() }]);
        drop(client);
        next.shutdown().await.unwrap();
    }
}
