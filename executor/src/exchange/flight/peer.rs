//! The reader's end of `DoExchange` streams: one for each exchange and peer, shared by all readers of this executor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use volley_proto::shuffle::{ChunkHeader, Compression, ExchangeTicket, ReaderMessage, Selection};
use volley_proto::{ExecutorId, Incarnation, JobId, StageId, Term, wire};

use crate::exchange::Exchange;
use crate::exchange::encoding::IpcMessage;
use crate::exchange::hooks::StoreMemory;
use crate::net;

/// How long a peer may take to answer the opening of a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// One exchange on one life of one executor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PeerKey {
    pub(super) executor: ExecutorId,
    pub(super) incarnation: Incarnation,
    pub(super) address: Arc<str>,
    pub(super) job: JobId,
    pub(super) stage: StageId,
    pub(super) term: Term,
}

/// Why a stream ended before its readers were done.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    /// What happened.
    pub(super) message: String,
    /// Whether another try may succeed.
    pub(super) again: bool,
}

impl Broken {
    fn from_status(status: &Status) -> Self {
        // The peer lives and says no: asking again would not change its mind.
        let refused =
            matches!(status.code(), Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented);
        Self { message: format!("{}: {}", status.code(), status.message()), again: !refused }
    }
}

/// One message of a peer for one subscription.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) header: ChunkHeader,
    /// Dictionaries, then the batch; empty where the header says all.
    pub(super) messages: Vec<IpcMessage>,
    /// Bytes as framed.
    pub(super) bytes: usize,
    _counted: Counted,
}

impl Arrival {
    pub(super) fn new(header: ChunkHeader, messages: Vec<IpcMessage>, memory: Arc<dyn StoreMemory>) -> Self {
        let bytes = messages.iter().map(IpcMessage::bytes).sum();
        memory.take(bytes);
        Self { header, messages, bytes, _counted: Counted { bytes, memory } }
    }
}

/// Received bytes, counted in the executor's memory until they are decoded.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    memory: Arc<dyn StoreMemory>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Channels and streams to other executors.
#[derive(Debug, Default)]
pub(in crate::exchange) struct PeerPool {
    channels: Mutex<HashMap<Arc<str>, Channel>>,
    streams: Mutex<HashMap<PeerKey, Weak<PeerStream>>>,
    readers: Arc<AtomicUsize>,
}

/// One `DoExchange` stream; it closes when its last subscription is dropped.
#[derive(Debug)]
struct PeerStream {
    requests: UnboundedSender<FlightData>,
    routes: Arc<Routes>,
    next: AtomicU32,
    /// Readers of all streams of this executor.
    readers: Arc<AtomicUsize>,
}

/// Who gets what comes over a stream.
#[derive(Debug, Default)]
struct Routes {
    state: Mutex<RouteState>,
}

#[derive(Debug, Default)]
struct RouteState {
    readers: HashMap<u32, UnboundedSender<Result<Arrival, Broken>>>,
    broken: Option<Broken>,
}

/// One reader's share of a stream. Dropping it tells the peer to stop.
#[derive(Debug)]
pub(super) struct Subscription {
    id: u32,
    stream: Arc<PeerStream>,
    arrivals: UnboundedReceiver<Result<Arrival, Broken>>,
}

impl PeerPool {
    /// Subscribes to `selection`, on the stream that is open to this peer or on a new one.
    pub(super) fn subscribe(&self, exchange: &Exchange, key: &PeerKey, selection: &Selection, credit: u64) -> Result<Subscription, Broken> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(key).and_then(Weak::upgrade)
            && let Ok(subscription) = stream.subscribe(selection, credit)
        {
            return Ok(subscription);
        }
        streams.retain(|_, stream| stream.strong_count() > 0);
        let stream = Arc::new(PeerStream::open(exchange, key, self.channel(&key.address)?, Arc::clone(&self.readers))?);
        streams.insert(key.clone(), Arc::downgrade(&stream));
        drop(streams);
        stream.subscribe(selection, credit)
    }

    /// How many readers have subscriptions.
    pub(super) fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    fn channel(&self, address: &Arc<str>) -> Result<Channel, Broken> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = net::channel(address).map_err(|e| Broken { message: format!("'{address}' is no address: {e}"), again: false })?;
        channels.insert(Arc::clone(address), channel.clone());
        Ok(channel)
    }
}

impl PeerStream {
    /// Opens a stream in the background; subscriptions are sent as soon as it is open.
    fn open(exchange: &Exchange, key: &PeerKey, channel: Channel, readers: Arc<AtomicUsize>) -> Result<Self, Broken> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let first = FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(ticket(exchange, key)?)), ..FlightData::default() };
        // The other end of the channel is in this function.
        let _ = requests.send(first);
        let routes = Arc::new(Routes::default());
        let memory = Arc::clone(&exchange.store.hooks().memory);
        let serving = Arc::clone(&routes);
        let run = async move {
            let broken = receive(&serving, channel, outgoing, memory).await;
            serving.end(&broken);
        };
        // It ends with the stream, which ends when the last sender of requests is dropped.
        drop(exchange.store.hooks().io.spawn(run));
        Ok(Self { requests, routes, next: AtomicU32::new(1), readers })
    }

    fn subscribe(self: &Arc<Self>, selection: &Selection, credit_bytes: u64) -> Result<Subscription, Broken> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, arrivals) = mpsc::unbounded_channel();
        self.routes.add(id, sender)?;
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.send(ReaderMessage::Subscribe { subscription: id, selection: selection.clone(), credit_bytes });
        Ok(Subscription { id, stream: Arc::clone(self), arrivals })
    }

    fn send(&self, message: ReaderMessage) {
        let app_metadata = wire::shuffle::v1::ReaderMessage::from(message).encode_to_vec().into();
        // On a broken stream nobody receives it; the readers learn of the break from their arrivals.
        let _ = self.requests.send(FlightData { app_metadata, ..FlightData::default() });
    }
}

impl Subscription {
    /// What came next; the end of the stream is a break.
    pub(super) async fn next(&mut self) -> Result<Arrival, Broken> {
        let ended = || Broken { message: "the stream ended".into(), again: true };
        self.arrivals.recv().await.unwrap_or_else(|| Err(ended()))
    }

    /// Lets the peer send `bytes` more of a partition.
    pub(super) fn credit(&self, partition: volley_proto::PartitionId, bytes: u64) {
        self.stream.send(ReaderMessage::Credit { subscription: self.id, partition, bytes });
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.readers.fetch_sub(1, Ordering::Relaxed);
        self.stream.routes.state.lock().readers.remove(&self.id);
        self.stream.send(ReaderMessage::Unsubscribe { subscription: self.id, partition: None });
    }
}

impl Routes {
    fn add(&self, id: u32, reader: UnboundedSender<Result<Arrival, Broken>>) -> Result<(), Broken> {
        let mut state = self.state.lock();
        match &state.broken {
            Some(broken) => Err(broken.clone()),
            None => {
                state.readers.insert(id, reader);
                Ok(())
            }
        }
    }

    fn deliver(&self, arrival: Arrival) {
        if let Some(reader) = self.state.lock().readers.get(&arrival.header.subscription) {
            // A reader that left in this moment wants it no more.
            let _ = reader.send(Ok(arrival));
        }
    }

    fn end(&self, broken: &Broken) {
        let mut state = self.state.lock();
        state.broken = Some(broken.clone());
        for (_, reader) in state.readers.drain() {
            // A reader that left in this moment need not know.
            let _ = reader.send(Err(broken.clone()));
        }
    }
}

/// Signs the ticket for a stream.
fn ticket(exchange: &Exchange, key: &PeerKey) -> Result<Bytes, Broken> {
    let Some(access) = exchange.access() else {
        let message = format!("executor {} is not yet registered with a scheduler", exchange.config.executor);
        return Err(Broken { message, again: false });
    };
    Ok(access.key.sign_ticket(&ExchangeTicket {
        term: key.term,
        job: key.job,
        stage: key.stage,
        executor: key.executor.clone(),
        incarnation: key.incarnation,
        compression: compression(&key.address),
        selections: Vec::new(),
    }))
}

/// Compression pays across hosts only, and loopback is the one address that proves a common host.
fn compression(address: &str) -> Compression {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback { Compression::None } else { Compression::Lz4 }
}

/// Receives until the stream breaks or ends.
async fn receive(routes: &Routes, channel: Channel, outgoing: UnboundedReceiver<FlightData>, memory: Arc<dyn StoreMemory>) -> Broken {
    let mut client = net::flight_client(channel);
    let opening = client.do_exchange(UnboundedReceiverStream::new(outgoing));
    let mut messages = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Broken::from_status(&status),
        Err(_) => return Broken { message: format!("no answer within {} s", OPEN_TIMEOUT.as_secs()), again: true },
    };
    let mut dictionaries = Vec::new();
    loop {
        let data = match messages.message().await {
            Ok(Some(data)) => data,
            Ok(None) => return Broken { message: "the peer ended the stream".into(), again: true },
            Err(status) => return Broken::from_status(&status),
        };
        let message = IpcMessage { header: data.data_header, body: data.data_body };
        if data.app_metadata.is_empty() {
            dictionaries.push(message);
            continue;
        }
        let header = wire::shuffle::v1::ChunkHeader::decode(data.app_metadata).map_err(|e| e.to_string());
        let header = match header.and_then(|header| ChunkHeader::try_from(header).map_err(|e| e.to_string())) {
            Ok(header) => header,
            Err(error) => return Broken { message: format!("the peer sent a message that can't be read: {error}"), again: false },
        };
        let mut messages = std::mem::take(&mut dictionaries);
        if !message.header.is_empty() {
            messages.push(message);
        }
        routes.deliver(Arrival::new(header, messages, Arc::clone(&memory)));
    }
}
