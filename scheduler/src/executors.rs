//! The open streams to executors, and the channels through which results are fetched from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;
use volley_proto::control::{Command, Heartbeat, SchedulerMessage};
use volley_proto::wire::control::v1 as wire;
use volley_proto::{JobId, StageId, Term};

use crate::net;
use crate::state::ExecutorLife;

/// Where an executor's stream takes messages.
pub(crate) type Outgoing = mpsc::UnboundedSender<Result<wire::SchedulerMessage, Status>>;

/// The executors that are connected. A life speaks through the stream that the machine welcomed last.
#[derive(Debug)]
pub(crate) struct Executors {
    term: Term,
    inner: Mutex<Inner>,
    channels: Mutex<HashMap<Arc<str>, Channel>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    /// Every open stream, by its number.
    streams: HashMap<u64, Stream>,
    /// The stream that a life speaks through.
    lives: HashMap<ExecutorLife, u64>,
    /// What each life last said that it uses.
    usage: HashMap<ExecutorLife, Heartbeat>,
}

#[derive(Debug)]
struct Stream {
    /// Who registered through it.
    life: ExecutorLife,
    outgoing: Outgoing,
    /// Stage plans that went through this stream.
    plans: HashSet<(JobId, StageId, u32)>,
    /// Tells the stream's reader when this is dropped.
    _open: DropGuard,
}

/// There is no stream to the executor.
#[derive(Debug)]
pub(crate) struct NotConnected;

impl Executors {
    /// No executors; commands will carry this term.
    pub(crate) fn new(term: Term) -> Self {
        Self { term, inner: Mutex::default(), channels: Mutex::default() }
    }

    /// Takes in a stream of a life. Returns its number, which is larger than that of every earlier one, and what is cancelled when it
    /// is closed from here.
    pub(crate) fn open(&self, life: ExecutorLife, outgoing: Outgoing) -> (u64, CancellationToken) {
        let closed = CancellationToken::new();
        let open = closed.clone().drop_guard();
        let mut inner = self.inner.lock();
        inner.last += 1;
        let number = inner.last;
        inner.streams.insert(number, Stream { life, outgoing, plans: HashSet::new(), _open: open });
        (number, closed)
    }

    /// Closes a stream from our side, or takes note that it ended.
    pub(crate) fn close(&self, stream: u64) {
        let mut inner = self.inner.lock();
        inner.streams.remove(&stream);
        inner.lives.retain(|_, number| *number != stream);
    }

    /// Takes note of what an executor uses.
    pub(crate) fn note(&self, life: &ExecutorLife, usage: Heartbeat) {
        self.inner.lock().usage.insert(life.clone(), usage);
    }

    /// What an executor last said that it uses.
    pub(crate) fn usage(&self, life: &ExecutorLife) -> Heartbeat {
        self.inner.lock().usage.get(life).copied().unwrap_or_default()
    }

    /// Closes every stream of a life.
    pub(crate) fn close_life(&self, life: &ExecutorLife) {
        let mut inner = self.inner.lock();
        inner.usage.remove(life);
        inner.lives.remove(life);
        inner.streams.retain(|_, stream| stream.life != *life);
    }

    /// Tells every stream of a life, welcomed or not, and closes it.
    pub(crate) fn dismiss(&self, life: &ExecutorLife, command: &Command) {
        for stream in self.inner.lock().streams.values().filter(|stream| stream.life == *life) {
            let message = SchedulerMessage { term: self.term, incarnation: life.incarnation, command: command.clone() };
            // A stream that broke meanwhile needs no last word.
            let _ = stream.outgoing.send(Ok(message.into()));
        }
        self.close_life(life);
    }

    /// Closes all streams.
    pub(crate) fn close_all(&self) {
        *self.inner.lock() = Inner::default();
        self.channels.lock().clear();
    }

    /// From now on a life speaks through this stream.
    pub(crate) fn bind(&self, life: &ExecutorLife, stream: u64) {
        let mut inner = self.inner.lock();
        if inner.streams.contains_key(&stream) {
            inner.lives.insert(life.clone(), stream);
        }
    }

    /// Whether a stage plan has to be sent before a task of it; from then on it counts as sent.
    pub(crate) fn wants_plan(&self, life: &ExecutorLife, plan: (JobId, StageId, u32)) -> bool {
        let mut inner = self.inner.lock();
        let Some(stream) = inner.lives.get(life).copied() else { return false };
        inner.streams.get_mut(&stream).is_some_and(|stream| stream.plans.insert(plan))
    }

    /// The executor drops a job's plans, so they would have to be sent again.
    pub(crate) fn forget_plans(&self, life: &ExecutorLife, job: JobId) {
        let mut inner = self.inner.lock();
        let Some(stream) = inner.lives.get(life).copied() else { return };
        if let Some(stream) = inner.streams.get_mut(&stream) {
            stream.plans.retain(|(of, _, _)| *of != job);
        }
    }

    /// Sends a command to a life.
    pub(crate) fn send(&self, life: &ExecutorLife, command: Command) -> Result<(), NotConnected> {
        let message = SchedulerMessage { term: self.term, incarnation: life.incarnation, command };
        let inner = self.inner.lock();
        let stream = inner.lives.get(life).and_then(|stream| inner.streams.get(stream)).ok_or(NotConnected)?;
        stream.outgoing.send(Ok(message.into())).map_err(|_| NotConnected)
    }

    /// The channel to an executor's Flight server.
    pub(crate) fn channel(&self, address: &Arc<str>) -> Result<Channel, tonic::transport::Error> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = net::channel(address)?;
        channels.insert(Arc::clone(address), channel.clone());
        Ok(channel)
    }

    /// Closes the channels to executors that are gone.
    pub(crate) fn keep_channels(&self, wanted: impl Fn(&str) -> bool) {
        self.channels.lock().retain(|address, _| wanted(address));
    }
}
