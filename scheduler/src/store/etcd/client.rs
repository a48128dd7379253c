//! etcd's API over gRPC: one try of one call, to the member that answered last.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use volley_proto::wire::etcd::auth_client::AuthClient;
use volley_proto::wire::etcd::kv_client::KvClient;
use volley_proto::wire::etcd::lease_client::LeaseClient;
use volley_proto::wire::etcd::{
    AuthenticateRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseRevokeRequest, TxnRequest, TxnResponse,
};

use super::location::EtcdLocation;

/// How long one try may take: a member that hangs must not use up all the time there is.
pub(super) const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// Larger than any answer.
const ANSWER_BYTES: usize = 256 << 20;

/// A client of all members of an etcd cluster. Clones share what they know of it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    members: Arc<[Channel]>,
    /// Whom to ask: the one that answered last, or the next one.
    asked: Arc<AtomicUsize>,
    user: Option<(String, String)>,
    token: Arc<Mutex<Option<AsciiMetadataValue>>>,
}

impl Client {
    /// Connects when it is first used.
    pub(super) fn new(location: &EtcdLocation) -> Result<Self, tonic::transport::Error> {
        let channel = |endpoint: &String| {
            let endpoint = Endpoint::from_shared(endpoint.clone())?;
            let endpoint = endpoint.connect_timeout(TRY_TIMEOUT).http2_keep_alive_interval(TRY_TIMEOUT).keep_alive_timeout(TRY_TIMEOUT);
            Ok(endpoint.keep_alive_while_idle(true).connect_lazy())
        };
        let members = location.endpoints.iter().map(channel).collect::<Result<_, tonic::transport::Error>>()?;
        Ok(Self { members, asked: Arc::default(), user: location.user.clone(), token: Arc::default() })
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let limits = |channel| KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
        self.call(request, async |channel, request| limits(channel).txn(request).await).await
    }

    /// A lease for so many seconds.
    pub(super) async fn grant(&self, seconds: i64) -> Result<LeaseGrantResponse, Status> {
        let request = LeaseGrantRequest { ttl: seconds };
        self.call(request, async |channel, request| LeaseClient::new(channel).lease_grant(request).await).await
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), Status> {
        let request = LeaseRevokeRequest { id: lease };
        let revoked = self.call(request, async |channel, request| LeaseClient::new(channel).lease_revoke(request).await);
        revoked.await.map(drop)
    }

    /// Renews a lease; `false` where it is gone.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<bool, Status> {
        let request = LeaseKeepAliveRequest { id: lease };
        let renewed = self.call(request, async |channel, request: Request<LeaseKeepAliveRequest>| {
            let (metadata, extensions, message) = request.into_parts();
            let messages = Request::from_parts(metadata, extensions, stream::iter([message]));
            let mut answers = LeaseClient::new(channel).lease_keep_alive(messages).await?.into_inner();
            answers.message().await?.map(Response::new).ok_or_else(|| Status::unavailable("etcd said nothing"))
        });
        renewed.await.map(|renewed| renewed.ttl > 0)
    }

    /// One try. Where it fails, the next one asks another member.
    async fn call<Q, A, F>(&self, message: Q, send: impl FnOnce(Channel, Request<Q>) -> F) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let asked = self.asked.load(Ordering::Relaxed);
        let member = self.members[asked % self.members.len()].clone();
        let answer = timeout(TRY_TIMEOUT, async {
            let mut request = Request::new(message);
            if let Some(token) = self.authenticate(&member).await? {
                request.metadata_mut().insert("token", token);
            }
            send(member, request).await.map(Response::into_inner)
        });
        let answer = answer.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        if let Err(status) = &answer {
            if status.code() == Code::Unauthenticated {
                *self.token.lock() = None;
            }
            if is_passing(status) {
                let _ = self.asked.compare_exchange(asked, asked.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        answer
    }

    /// The token that goes with each call, where etcd asks who we are.
    async fn authenticate(&self, member: &Channel) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some((name, password)) = self.user.clone() else { return Ok(None) };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let answer = AuthClient::new(member.clone()).authenticate(AuthenticateRequest { name, password }).await?;
        let token: AsciiMetadataValue = answer.into_inner().token.parse().map_err(|_| Status::internal("etcd's token is no header"))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }
}

/// Whether a call may succeed when it is tried again.
pub(super) fn is_passing(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, Unauthenticated, Unavailable, Unknown};
    matches!(status.code(), Unavailable | DeadlineExceeded | Cancelled | Unknown | Internal | Unauthenticated)
}
