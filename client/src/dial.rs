//! The connection to whichever scheduler answers, where there are several of which one leads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Error};

/// HTTP/2 window of one stream: a result must not wait for round trips.
const STREAM_WINDOW: u32 = 16 << 20;
/// HTTP/2 window of the connection.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// HTTP/2 frames of this size instead of 16 KiB: the largest lever on throughput.
const FRAME_BYTES: u32 = 1 << 20;
/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent scheduler is asked whether it lives, and how long its answer may take.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long none of several schedulers may answer: another one takes over meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause after none of them did.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Connects to the scheduler at `url`, or to the one that answers of several separated by commas: `http://host:port`,
/// `grpc://host:port` or `host:port` each. A connection that breaks is made again, to the next one that answers.
pub(crate) async fn connect(url: &str) -> Result<Channel, Error> {
    let urls = url.split(',').map(|url| endpoint(url.trim())).collect::<Result<Vec<_>, _>>()?;
    match urls.as_slice() {
        [only] => only.clone().connect_timeout(CONNECT_TIMEOUT).connect().await,
        several => {
            let dialler = Arc::new(Dialler {
                addresses: several.iter().map(|endpoint| address(endpoint.uri())).collect(),
                next: AtomicUsize::new(0),
            });
            let connector = tower::service_fn(move |_: Uri| {
                let dialler = Arc::clone(&dialler);
                async move { dialler.dial().await.map(TokioIo::new) }
            });
            several[0].connect_with_connector(connector).await
        }
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(http_url(url))?;
    Ok(endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE))
}

fn http_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.split_once("://") {
        Some(("grpc" | "grpc+tcp" | "flightsql", rest)) => format!("http://{rest}"),
        Some(_) => url.to_owned(),
        None => format!("http://{url}"),
    }
}

fn address(uri: &Uri) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80))
}

/// Schedulers of which one leads. Those that stand by do not listen.
#[derive(Debug)]
struct Dialler {
    addresses: Vec<String>,
    /// Which is tried first: behind the one that answered last, for a connection is made again only when that one has failed.
    next: AtomicUsize,
}

impl Dialler {
    async fn dial(&self) -> io::Result<TcpStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut failures = vec![];
            for _ in &self.addresses {
                let address = &self.addresses[self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len()];
                match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        stream.set_nodelay(true)?;
                        return Ok(stream);
                    }
                    Ok(Err(error)) => failures.push(format!("{address}: {error}")),
                    Err(_) => failures.push(format!("{address}: no answer in {CONNECT_TIMEOUT:?}")),
                }
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("none of them answers in {PATIENCE:?} ({})", failures.join("; "))));
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_taken_with_any_of_the_usual_schemes() {
        for url in ["localhost:50050", "http://localhost:50050/", "grpc://localhost:50050", "grpc+tcp://localhost:50050"] {
            assert_eq!(http_url(url), "http://localhost:50050");
        }
        assert_eq!(http_url("https://host:1"), "https://host:1");
        assert_eq!(address(endpoint("grpc://[::1]:7").unwrap().uri()), "[::1]:7");
    }

    #[tokio::test]
    async fn the_one_that_listens_is_found_wherever_it_is() {
        let [first, second] = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let addresses: Vec<_> = [&first, &second].map(|listener| listener.local_addr().unwrap().to_string()).into();
        drop(second);
        let dialler = Dialler { addresses: addresses.clone(), next: AtomicUsize::new(0) };
        for _ in 0..3 {
            assert_eq!(dialler.dial().await.unwrap().peer_addr().unwrap().to_string(), addresses[0]);
        }
        // The lead changes: the other one is found though nobody tells.
        drop(first);
        let listener = TcpListener::bind(&addresses[1]).await.unwrap();
        assert_eq!(dialler.dial().await.unwrap().peer_addr().unwrap(), listener.local_addr().unwrap());
    }
}
