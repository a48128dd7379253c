//! Calls of etcd: bounded in time, tried again where the connection is at fault, and void once another scheduler leads.

use std::fmt;
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};
use volley_proto::wire::etcd::response_op::Response;
use volley_proto::wire::etcd::{Compare, KeyValue, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse};

use super::client::{Client, is_passing};
use super::leader::Leadership;
use super::location::EtcdLocation;
use super::operations::{get, got, is_less, put, range, replaced, was_made_at};
use super::values::Write;
use crate::store::StoreError;

/// The pause before a call is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Keys of one answer, each with a value of at most 512 KiB and a little.
const PAGE_VALUES: i64 = 4;
/// Keys of one answer without their values.
const PAGE_KEYS: i64 = 1000;

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
    /// A connection for calls that may take as long as `patience`.
    pub(super) fn new(location: &EtcdLocation, patience: Duration) -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("volley-etcd").enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Interrupted { why: error.to_string() })?;
        // Channels belong to the runtime that they are made in.
        let client = {
            let _inside = runtime.enter();
            Client::new(location)
        };
        let failed = |why: String| StoreError::Etcd { location: location.to_string(), action: "connect", why };
        let client = client.map_err(|error| failed(error.to_string()))?;
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

    fn transact(&self, action: &'static str, request: TxnRequest) -> Result<Answer, StoreError> {
        let (client, patience) = (self.client(), self.patience);
        let answer = self.wait(async move {
            let deadline = Instant::now() + patience;
            let mut is_repeated = false;
            loop {
                let status = match client.txn(request.clone()).await {
                    Ok(response) => return Ok(Answer { response, is_repeated }),
                    Err(status) if is_passing(&status) => status,
                    Err(status) => return Err(status.message().to_owned()),
                };
                if Instant::now() + AGAIN_AFTER >= deadline {
                    return Err(format!("{}; tried for {patience:?}", status.message()));
                }
                is_repeated = true;
                sleep(AGAIN_AFTER).await;
            }
        })?;
        answer.map_err(|why| self.error(action, why))
    }

    /// Does `operations` if this scheduler still leads.
    pub(super) fn fenced(&self, action: &'static str, operations: Vec<RequestOp>) -> Result<Vec<ResponseOp>, StoreError> {
        let request = TxnRequest { compare: vec![self.still_leads()], success: operations, failure: vec![self.who_leads()] };
        let Answer { response, .. } = self.transact(action, request)?;
        if response.succeeded { Ok(response.responses) } else { Err(self.deposed(response.responses.first())) }
    }

    /// Does `change` if `condition` holds, this scheduler still leads, and neither this write nor a later one was done. `key` is what the condition is of.
    pub(super) fn conditional(
        &self,
        action: &'static str,
        write: Write,
        condition: Compare,
        change: RequestOp,
        key: Vec<u8>,
    ) -> Result<Conditional, StoreError> {
        let last = self.key("write");
        let compare = vec![self.still_leads(), condition, is_less(last.as_slice(), write.name())];
        let (success, failure) = (vec![change, put(last, write.name())], vec![self.who_leads(), get(key)]);
        let Answer { response, is_repeated } = self.transact(action, TxnRequest { compare, success, failure })?;
        let revision = response.header.map_or(0, |header| header.revision as u64);
        let first = response.responses.first();
        if response.succeeded {
            let previous = replaced(first).map(|previous| previous.value.to_vec());
            return Ok(Conditional::Done { version: revision, previous });
        }
        if got(first).is_none_or(|leader| leader.create_revision != self.leadership.revision) {
            return Err(self.deposed(first));
        }
        let found = got(response.responses.get(1)).map(|found| (found.mod_revision as u64, found.value.to_vec()));
        Ok(Conditional::Refused(Refused { found, is_repeated, revision }))
    }

    /// All keys from `from` on, before `end`, in order.
    pub(super) fn range(&self, from: Vec<u8>, end: &[u8], keys_only: bool) -> Result<Vec<KeyValue>, StoreError> {
        let limit = if keys_only { PAGE_KEYS } else { PAGE_VALUES };
        let (mut from, mut found) = (from, vec![]);
        loop {
            let request = RangeRequest { key: from.into(), range_end: end.to_vec().into(), limit, keys_only };
            let mut page = self.read(request)?;
            found.append(&mut page.kvs);
            match found.last() {
                Some(last) if page.more => from = [&last.key[..], &[0]].concat(),
                _ => return Ok(found),
            }
        }
    }

    fn read(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        match self.fenced("read", vec![range(request)])?.into_iter().next().and_then(|answer| answer.response) {
            Some(Response::ResponseRange(page)) => Ok(page),
            _ => Err(self.error("read", "the answer is to another question".into())),
        }
    }

    /// The value of one key, with the write that it is of.
    pub(super) fn one(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.read(RangeRequest { key: key.to_vec().into(), ..Default::default() })?.kvs.pop())
    }

    /// A number that is kept as text.
    pub(super) fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(found) = self.one(key)? else { return Ok(None) };
        let number = std::str::from_utf8(&found.value).ok().and_then(|text| text.parse().ok());
        let wrong = || StoreError::Value { key: String::from_utf8_lossy(key).into_owned(), why: "it is no number".into() };
        number.map(Some).ok_or_else(wrong)
    }

    /// Lets another scheduler lead.
    pub(super) fn resign(&self) {
        let (client, lease) = (self.client(), self.leadership.lease);
        self.leadership.lost.cancel();
        if !matches!(self.wait(async move { client.revoke(lease).await }), Ok(Ok(()))) {
            tracing::warn!("etcd was not told that this scheduler leaves: another one leads when the lease has run out");
        }
    }

    fn still_leads(&self) -> Compare {
        was_made_at(self.key("leader"), self.leadership.revision)
    }

    fn who_leads(&self) -> RequestOp {
        get(self.key("leader"))
    }

    fn deposed(&self, leader: Option<&ResponseOp>) -> StoreError {
        self.leadership.lost.cancel();
        StoreError::Deposed { leader: got(leader).map(|leader| String::from_utf8_lossy(&leader.value).into_owned()) }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
