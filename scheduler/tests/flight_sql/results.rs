//! Results of jobs: from root tasks to the client, through failures, and let go when nobody wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, Ticket};
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;
use volley_proto::wire::action;
use volley_proto::wire::client::v1::{CancelResult, JobReport, JobRequest, JobState};
use volley_proto::{Failure, JobId};

use super::executor::{FakeExecutor, Play};
use super::{Client, scheduler};

/// What `SELECT 7 AS a` gives.
pub(super) fn seven() -> RecordBatch {
    let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![7]))]).unwrap()
}

pub(super) const SEVEN: &str = "SELECT 7 AS a";

fn job_of(info: &FlightInfo) -> JobId {
    std::str::from_utf8(&info.app_metadata).unwrap().parse().unwrap()
}

pub(super) async fn report(client: &Client, info: &FlightInfo) -> JobReport {
    client.act(action::JOB_REPORT, JobRequest { job: job_of(info).0 }).await.unwrap()
}

pub(super) async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test]
async fn rows_go_from_the_root_task_to_the_client_and_then_everything_is_let_go() {
    let scheduler = scheduler(|_| {}).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(info.total_records, -1);
    assert_eq!(client.fetch(&info).await.unwrap(), [seven()]);
    let forgotten = in_time("forgetting the job", executor.forgotten.recv()).await;
    assert_eq!(forgotten, Some(job_of(&info)));
    assert_eq!(executor.launched.lock().len(), 1);

    let report = report(&client, &info).await;
    assert_eq!((report.state(), report.result_rows, report.statement.as_str()), (JobState::Finished, 1, SEVEN));
    assert_eq!((report.stages.len(), report.stages[0].cpu_ns, report.stages[0].rows), (1, 5, 1));
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let again = client.read(ticket).await.map(drop).unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "a result that was read to its end is gone");
}

#[tokio::test]
async fn rows_that_come_with_the_report_are_not_fetched() {
    let scheduler = scheduler(|_| {}).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::SealInline(seven())).await;
    for results in ["sealed", "eager"] {
        let client = Client::with_cookie(&scheduler, results);
        client.show(&format!("SET volley.results = '{results}'")).await.unwrap();
        let info = client.query(SEVEN).await.unwrap();
        assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()], "{results}");
        assert_eq!(in_time("forgetting the job", executor.forgotten.recv()).await, Some(job_of(&info)));
        assert_eq!(report(&client, &info).await.result_rows, 1);
    }
}

#[tokio::test]
async fn a_failure_of_the_query_reaches_the_reader() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Fail(Failure::query("division by zero"))).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    let error = client.fetch(&info).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "division by zero"));
    assert_eq!(report(&client, &info).await.state(), JobState::Failed);
}

#[tokio::test]
async fn a_task_that_fails_by_accident_is_run_again() {
    let scheduler = scheduler(|_| {}).await;
    let tries = AtomicUsize::new(0);
    let play = move |_: &_| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 { Play::Fail(Failure::retry("a peer was lost")) } else { Play::Seal(seven()) }
    };
    let executor = FakeExecutor::start(&scheduler, "e1", play).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(in_time("the retry", client.fetch(&info)).await.unwrap(), [seven()]);
    let attempts: Vec<_> = executor.launched.lock().iter().map(|spec| spec.attempt.number).collect();
    assert_eq!(attempts, [0, 1]);
}

#[tokio::test]
async fn a_reader_that_hangs_up_cancels_the_job_after_the_grace() {
    let scheduler = scheduler(|config| config.result_grace = Duration::from_millis(50)).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Hang).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    let rows = client.read(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    drop(rows);
    assert_eq!(in_time("cancelling", executor.forgotten.recv()).await, Some(job_of(&info)));
    assert_eq!(executor.cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(report(&client, &info).await.state(), JobState::Cancelled);
}

#[tokio::test]
async fn a_reader_that_comes_back_within_the_grace_starts_at_row_0() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    let mut rows = client.read(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    // The headers have come, the rows may be on their way.
    let mut cut = Box::pin(rows.try_next());
    let _ = futures::poll!(&mut cut);
    drop(cut);
    drop(rows);
    let fetched = client.fetch(&info).await;
    match fetched {
        Ok(rows) => assert_eq!(rows, [seven()]),
        // All of it had been handed over already.
        Err(status) => assert_eq!(status.code(), Code::NotFound),
    }
}

#[tokio::test]
async fn a_result_that_nobody_reads_expires() {
    let scheduler = scheduler(|config| config.result_expiry = Duration::from_millis(50)).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(in_time("expiry", executor.forgotten.recv()).await, Some(job_of(&info)));
    assert_eq!(client.fetch(&info).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_statement_is_cancelled_by_its_flight_info_and_a_job_by_its_id() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Hang).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    let request = CancelFlightInfoRequest { info: Some(info.clone()) };
    let result: CancelFlightInfoResult = client.act("CancelFlightInfo", request).await.unwrap();
    assert_eq!(result.status(), CancelStatus::Cancelled);
    assert_eq!(report(&client, &info).await.state(), JobState::Cancelled);

    let info = client.query(SEVEN).await.unwrap();
    let result: CancelResult = client.act(action::CANCEL, JobRequest { job: job_of(&info).0 }).await.unwrap();
    assert_eq!(result.state(), JobState::Cancelled);
    assert_eq!(client.act::<CancelResult>(action::CANCEL, JobRequest { job: 9 << 40 }).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_for_an_executor_leaves_no_job() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let waiting = tokio::time::timeout(Duration::from_millis(200), client.query(SEVEN)).await;
    assert!(waiting.is_err(), "there is no executor to plan for");
    let ended = async {
        loop {
            let jobs: volley_proto::wire::client::v1::JobList =
                client.act(action::JOBS, volley_proto::wire::client::v1::JobsRequest { limit: 0 }).await.unwrap();
            if jobs.jobs.iter().all(|job| job.state() == JobState::Cancelled) {
                return jobs.jobs.len();
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(in_time("cancelling", ended).await, 1);
}

#[tokio::test]
async fn a_ticket_that_was_changed_is_refused() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let info = client.query(SEVEN).await.unwrap();
    let genuine = info.endpoint[0].ticket.clone().unwrap();
    let any = arrow_flight::sql::Any::decode(genuine.ticket.clone()).unwrap();
    let handle = any.unpack::<TicketStatementQuery>().unwrap().unwrap().statement_handle;
    for index in 0..handle.len() {
        let mut changed = handle.to_vec();
        changed[index] ^= 1;
        let ticket = Ticket::new(TicketStatementQuery { statement_handle: changed.into() }.as_any().encode_to_vec());
        let refused = client.read(ticket).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "byte {index}: {}", refused.message());
    }
    assert_eq!(client.fetch(&info).await.unwrap(), [seven()], "the genuine one still works");
}

#[tokio::test]
async fn an_analysis_runs_the_job_and_shows_what_was_measured() {
    let scheduler = scheduler(|_| {}).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let text = client.show(&format!("EXPLAIN ANALYZE {SEVEN}")).await.unwrap();
    assert!(text.contains("rows=1") && text.contains("attempts=1"), "{text}");
    in_time("forgetting the job", executor.forgotten.recv()).await;
}

#[tokio::test]
async fn a_poll_ends_when_the_rows_are_there() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::keyless(&scheduler);
    let command = arrow_flight::sql::CommandStatementQuery { query: SEVEN.into(), transaction_id: None };
    let mut descriptor = arrow_flight::FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = loop {
        let poll = client.service.clone().poll_flight_info(client.request(descriptor)).await.unwrap().into_inner();
        let info = poll.info.expect("every poll has a FlightInfo");
        match poll.flight_descriptor {
            Some(next) => {
                assert!(info.endpoint.is_empty());
                descriptor = next;
            }
            None => {
                assert_eq!(poll.progress, Some(1.0));
                break info;
            }
        }
    };
    assert_eq!(client.fetch(&info).await.unwrap(), [seven()]);
}
