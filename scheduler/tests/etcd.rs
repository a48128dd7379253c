//! State in a real etcd, which has to be on the `PATH`. `.ci/services/run` runs these.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use volley_proto::wire::etcd::kv_client::KvClient;
use volley_proto::wire::etcd::lease_client::LeaseClient;
use volley_proto::wire::etcd::request_op::Request;
use volley_proto::wire::etcd::response_op::Response;
use volley_proto::wire::etcd::{LeaseLeasesRequest, LeaseRevokeRequest, RangeRequest, RequestOp, TxnRequest};
use volley_scheduler::store::{EtcdLocation, EtcdStore, StateStore, StoreError, Sync, conformance};

const TTL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// An etcd of one member.
struct Etcd {
    process: Child,
    port: u16,
    _data: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, peers) = (port(), port());
        let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let process = Command::new("etcd")
            .args(["--data-dir", data.path().to_str().unwrap(), "--log-level", "error"])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd has to be on the PATH: apt-get install etcd-server");
        Self { process, port, _data: data }
    }

    fn at(&self, prefix: &str) -> EtcdLocation {
        format!("etcd://127.0.0.1:{}/{prefix}", self.port).parse().unwrap()
    }

    async fn store(&self, prefix: &str, name: &str) -> EtcdStore {
        timeout(PATIENCE, EtcdStore::open(&self.at(prefix), name, TTL, |_| ())).await.unwrap().unwrap()
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap().connect().await.unwrap()
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let end = format!("{}{}", &prefix[..prefix.len() - 1], char::from(prefix.as_bytes()[prefix.len() - 1] + 1));
        let range = RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), keys_only: true, limit: 0 };
        let request = TxnRequest { success: vec![RequestOp { request: Some(Request::RequestRange(range)) }], ..Default::default() };
        let answer = KvClient::new(self.channel().await).txn(request).await.unwrap().into_inner();
        let Some(Response::ResponseRange(found)) = &answer.responses[0].response else { panic!("{answer:?}") };
        found.kvs.iter().map(|found| String::from_utf8(found.key.to_vec()).unwrap()).collect()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn it_does_what_every_store_has_to() {
    let etcd = Etcd::start();
    let number = AtomicU64::new(0);
    conformance::all(|| {
        let prefix = format!("store{}", number.fetch_add(1, Ordering::Relaxed));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(etcd.store(&prefix, "a")))
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn what_is_larger_than_a_request_is_kept_in_pieces() {
    let etcd = Etcd::start();
    let store = etcd.store("large", "a").await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let first = store.compare_and_swap("k", None, Some(&large)).unwrap();
    assert_eq!(store.get("k").unwrap().unwrap().value, large);
    assert_eq!(etcd.keys("large/pieces/").await.len(), 6);
    let conflict = store.compare_and_swap("k", None, Some(&large));
    assert!(matches!(conflict, Err(StoreError::Conflict { .. })), "{conflict:?}");
    let second = store.compare_and_swap("k", Some(first), Some(&large[1..])).unwrap();
    assert_eq!(store.list("").unwrap()[0].1.value, large[1..]);
    assert_eq!(etcd.keys("large/pieces/").await.len(), 6, "pieces of an old value, or of one that was refused, are gone");
    store.compare_and_swap("k", Some(second), None).unwrap();
    assert_eq!(etcd.keys("large/pieces/").await, Vec::<String>::new());

    let records = [large.as_slice(), b"", b"small", &large[7..]];
    for record in records {
        store.append(record, Sync::Later).unwrap();
    }
    let check = |store: &EtcdStore| {
        let loaded = store.load(0).unwrap();
        let found: Vec<_> = loaded.iter().map(|(place, record)| (*place, record.as_ref())).collect();
        assert_eq!(found, (0..).zip(records).collect::<Vec<_>>());
    };
    check(&store);
    store.close();
    let store = etcd.store("large", "b").await;
    check(&store);
    store.trim(4).unwrap();
    store.close();
    let store = etcd.store("large", "c").await;
    assert_eq!(store.append(b"next", Sync::Now).unwrap(), 4, "places are not used again");
}

/// What others see of a scheduler that lost the lead: nothing.
fn assert_powerless(store: &EtcdStore) {
    let results = [
        store.compare_and_swap("k", None, Some(b"v")).map(drop),
        store.append(b"r", Sync::Now).map(drop),
        store.trim(0),
        store.get("k").map(drop),
        store.list("").map(drop),
        store.load(0).map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(StoreError::Deposed { .. })), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn one_leads_and_the_next_takes_over_at_once_when_it_leaves() {
    let etcd = Etcd::start();
    let first = etcd.store("lead", "first").await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let location = etcd.at("lead");
    let standby = tokio::spawn(async move {
        let tell = move |leader: &str| drop(told.send(leader.to_owned()));
        EtcdStore::open(&location, "second", TTL, tell).await
    });
    assert_eq!(timeout(PATIENCE, heard.recv()).await.unwrap().unwrap(), "first");
    first.compare_and_swap("k", None, Some(b"of the first")).unwrap();
    // A lease is renewed for as long as its holder lives.
    sleep(TTL * 2).await;
    assert!(!standby.is_finished() && !first.deposed().is_cancelled());
    let left = Instant::now();
    first.close();
    let second = timeout(PATIENCE, standby).await.unwrap().unwrap().unwrap();
    assert!(left.elapsed() < TTL, "it waited for the lease");
    assert_eq!(second.get("k").unwrap().unwrap().value.as_ref(), b"of the first");
    assert!(second.term() > first.term());
    assert!(first.deposed().is_cancelled());
    assert_powerless(&first);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn who_lost_its_lease_can_do_nothing() {
    let etcd = Etcd::start();
    let first = etcd.store("lost", "first").await;
    let mut client = LeaseClient::new(etcd.channel().await);
    for lease in client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
        client.lease_revoke(LeaseRevokeRequest { id: lease.id }).await.unwrap();
    }
    let second = etcd.store("lost", "second").await;
    assert_powerless(&first);
    timeout(PATIENCE, first.deposed().cancelled()).await.unwrap();
    second.compare_and_swap("k", None, Some(b"v")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn who_does_not_reach_etcd_gives_up_the_lead_before_another_has_it() {
    let etcd = Etcd::start();
    let store = etcd.store("away", "first").await;
    etcd.signal("-STOP");
    let stopped = Instant::now();
    timeout(PATIENCE, store.deposed().cancelled()).await.unwrap();
    assert!(stopped.elapsed() < TTL * 2, "{:?}", stopped.elapsed());
    etcd.signal("-CONT");
    let again = etcd.store("away", "second").await;
    assert!(again.term() > store.term());
    assert_powerless(&store);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: run by .ci/services/run"]
async fn a_short_absence_of_etcd_is_waited_for() {
    let etcd = Etcd::start();
    let store = timeout(PATIENCE, EtcdStore::open(&etcd.at("short"), "first", TTL * 10, |_| ())).await.unwrap().unwrap();
    etcd.signal("-STOP");
    let writes = std::thread::spawn(move || {
        let version = store.compare_and_swap("k", None, Some(b"v")).unwrap();
        (store.get("k").unwrap().unwrap().version == version, store)
    });
    sleep(TTL).await;
    etcd.signal("-CONT");
    let (is_same, store) = writes.join().unwrap();
    assert!(is_same && !store.deposed().is_cancelled());
}
