//! The one place where channels are opened and listeners are set up, so that both ends agree on windows and limits.
//!
//! The size of HTTP/2 frames is the largest lever (2-2.5 times the throughput of the default of 16 KiB), and it is the
//! receiver's setting that limits the sender, so both ends need it.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::transport::{Channel, Endpoint, Error, Server};

/// HTTP/2 flow control window of one stream.
const STREAM_WINDOW: u32 = 16 << 20;
/// HTTP/2 flow control window of one connection.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Largest HTTP/2 frame.
const FRAME_BYTES: u32 = 1 << 20;
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent peer is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How long its answer may take; then its streams break.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message taken: a single row may be large. Credits, not this, bound what is under way.
const MESSAGE_BYTES: usize = i32::MAX as usize;

/// A server with the settings of every Volley listener.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// A channel to `address` (`host:port`) that connects when it is first used, and again when it has broken.
pub fn channel(address: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// A Flight client over `channel`.
pub fn flight_client(channel: Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
}

/// `service` without tonic's limit of 4 MiB for a message.
pub fn unlimited_messages<S>(service: FlightServiceServer<S>) -> FlightServiceServer<S> {
    service.max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
}
