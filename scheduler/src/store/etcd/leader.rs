//! Which scheduler leads: the one whose lease the leader's key is tied to.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use volley_proto::wire::etcd::TxnRequest;

use super::calls::Etcd;
use super::client::{Client, is_passing};
use super::operations::{get, got, leased, was_made_at};
use crate::store::StoreError;

/// How often those that stand by look whether anybody leads.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The lease is renewed so many times before it would end.
const RENEWALS: u32 = 4;
/// The pause before a renewal is tried again that failed: while the members of etcd elect a leader they answer with errors.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long etcd may be away before a scheduler that does not lead yet gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lead, until it is lost.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The revision at which the leader's key was made, by which this lead differs from all others.
    pub(super) revision: i64,
    pub(super) lease: i64,
    /// Cancelled when another scheduler may lead.
    pub(super) lost: CancellationToken,
}

impl Leadership {
    /// Of one who does not lead: no key has this revision.
    pub(super) fn none() -> Self {
        Self { revision: -1, lease: 0, lost: CancellationToken::new() }
    }

    /// Waits until nobody leads, and then leads. Who leads meanwhile is told to `standing_by`, once.
    pub(super) async fn win(etcd: &Etcd, name: &str, ttl: Duration, standing_by: impl Fn(&str) + Send) -> Result<Self, StoreError> {
        let (client, key) = (etcd.client(), etcd.key("leader"));
        let (mut leader, mut answered) = (None, Instant::now());
        loop {
            match attempt(&client, &key, name, ttl).await {
                Ok(Attempt::Won(won)) => {
                    let (lost, lease) = (CancellationToken::new(), won.lease);
                    etcd.spawn(keep(client, won, lost.clone()));
                    return Ok(Self { revision: won.revision, lease, lost });
                }
                Ok(Attempt::Leads(other)) => {
                    answered = Instant::now();
                    if leader.as_ref() != Some(&other) {
                        standing_by(&other);
                        leader = Some(other);
                    }
                }
                // A wrong password does not become right.
                Err(status) if is_passing(&status) && answered.elapsed() < PATIENCE => {
                    tracing::warn!(error = status.message(), "etcd does not answer")
                }
                Err(status) => return Err(etcd.error("find out who leads", status.message().to_owned())),
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A lead that was just won.
#[derive(Debug, Clone, Copy)]
struct Won {
    revision: i64,
    lease: i64,
    ttl: Duration,
    /// When the lease was asked for: it lives at least `ttl` from here.
    since: Instant,
}

enum Attempt {
    Won(Won),
    /// Another one leads.
    Leads(String),
}

async fn attempt(client: &Client, key: &[u8], name: &str, ttl: Duration) -> Result<Attempt, Status> {
    let found = client.txn(TxnRequest { success: vec![get(key)], ..Default::default() }).await?;
    if let Some(leader) = got(found.responses.first()) {
        return Ok(Attempt::Leads(String::from_utf8_lossy(&leader.value).into_owned()));
    }
    let since = Instant::now();
    let granted = client.grant(ttl.as_secs().max(1) as i64).await?;
    let (lease, ttl) = (granted.id, Duration::from_secs(granted.ttl.unsigned_abs()));
    let (compare, success) = (vec![was_made_at(key, 0)], vec![leased(key, name, lease)]);
    match client.txn(TxnRequest { compare, success, failure: vec![] }).await {
        Ok(response) if response.succeeded => {
            let revision = response.header.map_or(0, |header| header.revision);
            Ok(Attempt::Won(Won { revision, lease, ttl, since }))
        }
        // Also after an error the key may be there: without its lease it goes.
        other => {
            client.revoke(lease).await?;
            other.map(|_| Attempt::Leads("another scheduler".into()))
        }
    }
}

/// Renews the lease until it is lost. What is asked is never later than what etcd counts from, so this ends before another one can lead.
async fn keep(client: Client, won: Won, lost: CancellationToken) {
    let Won { lease, ttl, mut since, .. } = won;
    while !lost.is_cancelled() {
        let rest = ttl.saturating_sub(since.elapsed());
        if rest.is_zero() {
            tracing::error!(?ttl, "etcd was not reached for too long: another scheduler may lead");
            break;
        }
        let asked = Instant::now();
        let mut pause = AGAIN_AFTER;
        match timeout(rest, client.keep_alive(lease)).await {
            Ok(Ok(true)) => (since, pause) = (asked, ttl / RENEWALS),
            Ok(Ok(false)) => {
                tracing::error!("the lease has run out: another scheduler may lead");
                break;
            }
            Ok(Err(status)) => tracing::warn!(error = status.message(), "the lease was not renewed"),
            Err(_) => tracing::warn!("the lease was not renewed in time"),
        }
        let pause = pause.min(ttl.saturating_sub(since.elapsed()));
        let _ = timeout(pause, lost.cancelled()).await;
    }
    lost.cancel();
}
