//! What surrounds a cluster in operation: probes over HTTP, and the trace of a request.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::executor::{FakeExecutor, Play};
use super::results::{SEVEN, in_time, seven};
use super::{Client, scheduler};

/// The status line and the body of an answer.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_scheduler_is_alive_at_once_and_ready_with_an_executor() {
    let scheduler = scheduler(|config| config.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let http = scheduler.http_address().expect("it was asked for");
    assert_eq!(get(http, "/healthz").await, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    let (status, body) = get(http, "/readyz").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 503 Service Unavailable", "no executor is connected\n"));

    let executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let (status, body) = get(http, "/readyz").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ready: 1 executors, 2 slots\n"));

    drop(executor);
    let unready = async {
        while get(http, "/readyz").await.0 != "HTTP/1.1 503 Service Unavailable" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time("the loss", unready).await;
    assert_eq!(get(http, "/healthz").await.0, "HTTP/1.1 200 OK");
    assert_eq!(get(http, "/elsewhere").await.0, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn the_trace_of_a_request_reaches_its_tasks() {
    let scheduler = scheduler(|_| {}).await;
    let executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let mut client = Client::keyless(&scheduler);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.headers.insert("traceparent", parent.into());
    client.headers.insert("tracestate", "vendor=1".into());
    let info = client.query(SEVEN).await.unwrap();
    assert_eq!(client.fetch(&info).await.unwrap(), [seven()]);
    let traces: Vec<_> = executor.launched.lock().iter().map(|spec| spec.trace.clone()).collect();
    assert_eq!(traces.len(), 1);
    assert_eq!((traces[0].traceparent.as_str(), traces[0].tracestate.as_str()), (parent, "vendor=1"));
    assert_eq!(traces[0].trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
}
