//! Calls of etcd: bounded in time, tried again where the connection is at fault, and void once another scheduler leads.

use std::fmt;
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::leader::Leadership;
use super::location::EtcdLocation;
use crate::store::StoreError;

/// How long one try of a call may take: a member that hangs must not use up all the time there is.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before a call is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Keys of one answer. Each has a value of at most 1 MiB.
const PAGE_KEYS: i64 = 64;
/// Larger than any answer.
const ANSWER_BYTES: usize = 256 << 20;

/// A connection to etcd, for callers that wait.
pub(super) struct Etcd {
    /// A runtime of its own: calls come from threads of all kinds, and must not wait for one that waits for them.
    runtime: Option<Runtime>,
    client: Client,
    location: EtcdLocation,
    /// How long a call may take in all.
    patience: Duration,
    pub(super) leadership: Leadership,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)
    }
}

/// What became of a write on a condition.
pub(super) enum Conditional {
    /// It was done.
    Done { version: u64, previous: Option<Vec<u8>> },
    /// The key was not as it had to be.
    Refused(Refused),
}

/// How a key is that was not as it had to be.
pub(super) struct Refused {
    /// Its version and value.
    pub(super) found: Option<(u64, Vec<u8>)>,
    /// Whether an earlier try may have been done without our knowing.
    pub(super) is_repeated: bool,
    /// The version of all keys together.
    pub(super) revision: u64,
}

/// An answer, and whether an earlier try may have been done without our knowing.
struct Answer {
    response: TxnResponse,
    is_repeated: bool,
}

impl Etcd {
    /// Connects, for calls that may take as long as `patience`.
    pub(super) async fn connect(location: &EtcdLocation, patience: Duration) -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("volley-etcd").enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Interrupted { why: error.to_string() })?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(TRY_TIMEOUT)
            .with_keep_alive(TRY_TIMEOUT, TRY_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &location.user {
            options = options.with_user(name, password);
        }
        let endpoints = location.endpoints.clone();
        let connected = runtime.spawn(async move { Client::connect(endpoints, Some(options)).await }).await;
        let failed = |why: String| StoreError::Etcd { location: location.to_string(), action: "connect", why };
        let client = connected.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(words(&error)))?;
        Ok(Self { runtime: Some(runtime), client, location: location.clone(), patience, leadership: Leadership::none() })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A key under the prefix.
    pub(super) fn key(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}", self.location.prefix).into_bytes()
    }

    pub(super) fn error(&self, action: &'static str, why: String) -> StoreError {
        StoreError::Etcd { location: self.location.to_string(), action, why }
    }

    /// Runs something on the runtime that nobody waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(runtime.spawn(task));
        }
    }

    /// Blocks until a call is answered.
    fn wait<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Result<T, StoreError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.spawn(async move { drop(answer.send(call.await)) });
        answered.recv().map_err(|_| StoreError::Interrupted { why: "its connection was closed".into() })
    }

    fn transact(&self, action: &'static str, txn: Txn) -> Result<Answer, StoreError> {
        let (mut client, patience) = (self.client.kv_client().max_decoding_message_size(ANSWER_BYTES), self.patience);
        let answer = self.wait(async move {
            let deadline = Instant::now() + patience;
            let mut is_repeated = false;
            loop {
                let rest = deadline.saturating_duration_since(Instant::now());
                let why = match timeout(rest.min(TRY_TIMEOUT), client.txn(txn.clone())).await {
                    Ok(Ok(response)) => return Ok(Answer { response, is_repeated }),
                    Ok(Err(error)) if is_passing(&error) => words(&error),
                    Ok(Err(error)) => return Err(words(&error)),
                    Err(_) => "no answer".into(),
                };
                if Instant::now() + AGAIN_AFTER >= deadline {
                    return Err(format!("{why}; tried for {patience:?}"));
                }
                is_repeated = true;
                sleep(AGAIN_AFTER).await;
            }
        })?;
        answer.map_err(|why| self.error(action, why))
    }

    /// Does `operations` if this scheduler still leads.
    pub(super) fn fenced(&self, action: &'static str, operations: Vec<TxnOp>) -> Result<Vec<TxnOpResponse>, StoreError> {
        let txn = Txn::new().when([self.still_leads()]).and_then(operations).or_else([self.who_leads()]);
        let Answer { response, .. } = self.transact(action, txn)?;
        if response.succeeded() { Ok(response.op_responses()) } else { Err(self.deposed(response.op_responses().first())) }
    }

    /// Does `change` if `condition` holds and this scheduler still leads. `key` is what the condition is of.
    pub(super) fn conditional(
        &self,
        action: &'static str,
        condition: Compare,
        change: TxnOp,
        key: Vec<u8>,
    ) -> Result<Conditional, StoreError> {
        let txn = Txn::new().when([self.still_leads(), condition]).and_then([change]).or_else([self.who_leads(), TxnOp::get(key, None)]);
        let Answer { response, is_repeated } = self.transact(action, txn)?;
        let version = response.header().map_or(0, |header| header.revision() as u64);
        let responses = response.op_responses();
        if response.succeeded() {
            let previous = match responses.first() {
                Some(TxnOpResponse::Put(put)) => put.prev_key().map(|previous| previous.value().to_vec()),
                Some(TxnOpResponse::Delete(delete)) => delete.prev_kvs().first().map(|previous| previous.value().to_vec()),
                _ => None,
            };
            return Ok(Conditional::Done { version, previous });
        }
        let leads = got(responses.first()).is_some_and(|leader| leader.create_revision() == self.leadership.revision);
        if !leads {
            return Err(self.deposed(responses.first()));
        }
        let found = got(responses.get(1)).map(|found| (found.mod_revision() as u64, found.value().to_vec()));
        Ok(Conditional::Refused(Refused { found, is_repeated, revision: version }))
    }

    /// All keys from `from` on, before `end`, in order.
    pub(super) fn range(&self, from: Vec<u8>, end: &[u8], keys_only: bool) -> Result<Vec<KeyValue>, StoreError> {
        let (mut from, mut found) = (from, vec![]);
        loop {
            let options = GetOptions::new().with_range(end).with_limit(PAGE_KEYS);
            let options = if keys_only { options.with_keys_only() } else { options };
            let mut page = self.get(from, options)?;
            let more = page.more();
            found.append(&mut page.take_kvs());
            match found.last() {
                Some(last) if more => from = [last.key(), &[0]].concat(),
                _ => return Ok(found),
            }
        }
    }

    fn get(&self, from: Vec<u8>, options: GetOptions) -> Result<GetResponse, StoreError> {
        match self.fenced("read", vec![TxnOp::get(from, Some(options))])?.into_iter().next() {
            Some(TxnOpResponse::Get(page)) => Ok(page),
            _ => Err(self.error("read", "the answer is to another question".into())),
        }
    }

    /// The value of one key, with the write that it is of.
    pub(super) fn one(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.get(key.to_vec(), GetOptions::new())?.take_kvs().pop())
    }

    /// A number that is kept as text.
    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(found) = self.one(key)? else { return Ok(None) };
        let number = found.value_str().ok().and_then(|text| text.parse().ok());
        let wrong = || StoreError::Value { key: String::from_utf8_lossy(key).into_owned(), why: "it is no number".into() };
        number.map(Some).ok_or_else(wrong)
    }

    /// Lets another scheduler lead.
    pub(super) fn resign(&self) {
        let (mut client, lease) = (self.client(), self.leadership.lease);
        self.leadership.lost.cancel();
        let revoked = self.wait(async move { timeout(TRY_TIMEOUT, client.lease_revoke(lease)).await });
        if !matches!(revoked, Ok(Ok(Ok(_)))) {
            tracing::warn!("etcd was not told that this scheduler leaves: another one leads when the lease has run out");
        }
    }

    fn still_leads(&self) -> Compare {
        Compare::create_revision(self.key("leader"), CompareOp::Equal, self.leadership.revision)
    }

    fn who_leads(&self) -> TxnOp {
        TxnOp::get(self.key("leader"), None)
    }

    fn deposed(&self, leader: Option<&TxnOpResponse>) -> StoreError {
        self.leadership.lost.cancel();
        let leader = got(leader).and_then(|leader| leader.value_str().ok().map(str::to_owned));
        StoreError::Deposed { leader }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn got(response: Option<&TxnOpResponse>) -> Option<KeyValue> {
    match response {
        Some(TxnOpResponse::Get(found)) => found.kvs().first().cloned(),
        _ => None,
    }
}

/// The first key behind all that begin with `prefix`.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Whether a call may succeed when it is tried again.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal)
        }
        Error::TransportError(_) | Error::IoError(_) => true,
        _ => false,
    }
}

/// What an error of the library says that helps.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}
