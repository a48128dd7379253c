//! `volley health`: whether a scheduler or an executor is well, so that a health check needs no other program.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use arrow_flight::Empty;
use arrow_flight::flight_service_client::FlightServiceClient;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::Uri;

use super::args::HealthArgs;
use super::exit::Exit;
use super::{complain, say};
use crate::dial;
use crate::error::root_cause;

/// Where a scheduler answers probes, where nothing says otherwise.
const SCHEDULER: &str = "127.0.0.1:8080";
/// Where an executor answers others, where nothing says otherwise.
const EXECUTOR: &str = "127.0.0.1:50061";
/// More than any answer to a probe.
const ANSWER_BYTES: usize = 4096;

/// Runs `volley health`.
pub(crate) async fn run(args: &HealthArgs) -> Exit {
    let limit = Duration::from_secs(args.timeout);
    let asked = match &args.url {
        Some(url) => timeout(limit, ask(url, args.ready)).await,
        None => timeout(limit, ask_here(args.ready)).await,
    };
    match asked.unwrap_or_else(|_| Err(format!("no answer within {} s", args.timeout))) {
        Ok(answer) => {
            say(&answer);
            Exit::Ok
        }
        Err(problem) => {
            complain(&problem);
            Exit::Failed
        }
    }
}

/// What runs on this host: a scheduler where one listens, else an executor, at the addresses that their own variables give them.
async fn ask_here(ready: bool) -> Result<String, String> {
    let scheduler = reachable(&env::var("VOLLEY_HTTP").unwrap_or_else(|_| SCHEDULER.to_owned()));
    match ask_scheduler(&format!("http://{scheduler}"), ready).await {
        Err(Trouble::Silent(no_scheduler)) => {
            let executor = reachable(&env::var("VOLLEY_LISTEN").unwrap_or_else(|_| EXECUTOR.to_owned()));
            ask_executor(&format!("http://{executor}")).await.map_err(|no_executor| format!("{no_scheduler}; {no_executor}"))
        }
        Err(Trouble::Unwell(problem)) => Err(problem),
        Ok(answer) => Ok(answer),
    }
}

async fn ask(url: &str, ready: bool) -> Result<String, String> {
    match url.split_once("://") {
        Some(("http", _)) => ask_scheduler(url, ready).await.map_err(Trouble::into_problem),
        Some(("grpc", address)) => ask_executor(&format!("http://{address}")).await,
        _ => Err(format!("'{url}': expected http://HOST:PORT of a scheduler's --http, or grpc://HOST:PORT of an executor's --listen")),
    }
}

/// Why a scheduler is not well.
#[derive(Debug)]
enum Trouble {
    /// Nothing answers there.
    Silent(String),
    /// It says so itself.
    Unwell(String),
}

impl Trouble {
    fn into_problem(self) -> String {
        match self {
            Self::Silent(problem) | Self::Unwell(problem) => problem,
        }
    }
}

async fn ask_scheduler(url: &str, ready: bool) -> Result<String, Trouble> {
    let silent = |problem: String| Trouble::Silent(format!("no scheduler at {url}: {problem}"));
    let path = if ready { "/readyz" } else { "/healthz" };
    let uri: Uri = format!("{}{path}", url.trim_end_matches('/')).parse().map_err(|error| silent(format!("{error}")))?;
    let answer = Client::builder(TokioExecutor::new()).build_http::<Body>().get(uri).await.map_err(|error| silent(root_cause(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|error| silent(error.to_string()))?;
    let text = format!("scheduler at {url}: {}", String::from_utf8_lossy(&body.to_bytes()).trim());
    if status.is_success() { Ok(text) } else { Err(Trouble::Unwell(format!("{text} ({status})"))) }
}

/// An executor answers no probes; that it refuses a request which only schedulers answer is a sign of life of all that lies before.
async fn ask_executor(url: &str) -> Result<String, String> {
    let silent = |problem: String| format!("no executor at {url}: {problem}");
    let channel = dial::connect(url).await.map_err(|error| silent(root_cause(&error)))?;
    match FlightServiceClient::new(channel).list_actions(Empty {}).await {
        Ok(_) => Ok(format!("scheduler at {url}: ok")),
        Err(status) if status.code() == Code::Unimplemented => Ok(format!("executor at {url}: ok")),
        Err(status) => Err(silent(format!("{}: {}", status.code(), status.message()))),
    }
}

/// Who listens on all addresses is asked on loopback.
fn reachable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(address)) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        Ok(SocketAddr::V6(address)) if address.ip().is_unspecified() => format!("[::1]:{}", address.port()),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request; gives the URL, and the path that was asked for.
    async fn answers_once(status: &'static str, body: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned()
        });
        (url, asked)
    }

    async fn closed_port() -> String {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
    }

    #[tokio::test]
    async fn a_scheduler_is_asked_whether_it_lives_or_whether_it_is_ready() {
        let (url, asked) = answers_once("200 OK", "ok\n").await;
        assert_eq!(ask(&url, false).await, Ok(format!("scheduler at {url}: ok")));
        assert_eq!(asked.await.unwrap(), "GET /healthz HTTP/1.1");

        let (url, asked) = answers_once("503 Service Unavailable", "no executor is connected\n").await;
        assert_eq!(ask(&url, true).await, Err(format!("scheduler at {url}: no executor is connected (503 Service Unavailable)")));
        assert_eq!(asked.await.unwrap(), "GET /readyz HTTP/1.1");
    }

    #[tokio::test]
    async fn silence_is_told_with_its_address() {
        for (scheme, who) in [("http", "scheduler"), ("grpc", "executor")] {
            let address = closed_port().await;
            let problem = ask(&format!("{scheme}://{address}"), false).await.unwrap_err();
            assert!(problem.starts_with(&format!("no {who} at http://{address}: ")), "{problem}");
            assert!(problem.contains("refused"), "{problem}");
        }
        assert!(ask("ftp://somewhere", false).await.unwrap_err().contains("expected http://HOST:PORT"));
    }

    #[cfg(feature = "cluster")]
    #[tokio::test]
    async fn an_executor_without_a_scheduler_is_alive() {
        let work_dir = tempfile::tempdir().unwrap();
        let scheduler = format!("http://{}", closed_port().await);
        let config = volley_executor::Config::local(scheduler, std::num::NonZeroUsize::MIN, 64 << 20, work_dir.path());
        let executor = volley_executor::Executor::start(config, volley_executor::Components::default()).await.unwrap();
        let url = format!("grpc://{}", executor.address());
        assert_eq!(ask(&url, true).await, Ok(format!("executor at http://{}: ok", executor.address())));
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2"), ("scheduler:3", "scheduler:3")]
        {
            assert_eq!(reachable(listen), asked);
        }
    }
}
