//! Results whose parts clients fetch from executors, or from here.

use arrow_flight::FlightInfo;
use tonic::Code;
use volley_proto::Failure;
use volley_proto::wire::client::v1::JobState;

use super::executor::{FakeExecutor, Play};
use super::results::{SEVEN, in_time, report, seven};
use super::{Client, scheduler};

/// The connection that asked, as a location.
pub(super) const HERE: &str = "arrow-flight-reuse-connection://?";

fn locations(info: &FlightInfo) -> Vec<Vec<&str>> {
    info.endpoint.iter().map(|endpoint| endpoint.location.iter().map(|location| location.uri.as_str()).collect()).collect()
}

#[tokio::test]
async fn an_endpoint_names_the_executor_and_its_ticket_is_good_here_too() {
    let scheduler = scheduler(|_| {}).await;
    let mut executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let client = Client::with_cookie(&scheduler, "parts");
    client.show("SET volley.result_endpoints = 'executors'").await.unwrap();
    let info = in_time("the endpoints", client.query(SEVEN)).await.unwrap();
    let [locations] = locations(&info).try_into().unwrap();
    assert!(locations[0].starts_with("grpc+tcp://127.0.0.1:"), "{locations:?}");
    assert_eq!(locations[1..], [HERE]);
    assert!(info.ordered && info.endpoint[0].expiration_time.is_some());
    assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()]);
    in_time("forgetting the job", executor.forgotten.recv()).await.unwrap();
    let report = report(&client, &info).await;
    assert_eq!((report.state(), report.result_rows), (JobState::Finished, 1));
}

#[tokio::test]
async fn rows_that_came_with_the_report_are_only_here() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::SealInline(seven())).await;
    let client = Client::with_cookie(&scheduler, "parts");
    client.show("SET volley.result_endpoints = 'executors'").await.unwrap();
    let info = in_time("the endpoints", client.query(SEVEN)).await.unwrap();
    assert_eq!(locations(&info), [Vec::<&str>::new()]);
    assert_eq!(in_time("the rows", client.fetch(&info)).await.unwrap(), [seven()]);
}

#[tokio::test]
async fn a_query_that_fails_has_no_endpoints() {
    let scheduler = scheduler(|_| {}).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Fail(Failure::query("division by zero"))).await;
    let client = Client::with_cookie(&scheduler, "parts");
    client.show("SET volley.result_endpoints = 'executors'").await.unwrap();
    let refused = in_time("the failure", client.query(SEVEN)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("division by zero"), "{}", refused.message());
    // What is no query is answered as ever.
    let info = client.query("SHOW volley.result_endpoints").await.unwrap();
    assert_eq!(locations(&info), [Vec::<&str>::new()]);
}
