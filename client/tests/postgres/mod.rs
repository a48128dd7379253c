//! PostgreSQL's protocol in front of an embedded cluster, spoken by a client that knows nothing of the engine.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use volley_client::{EmbeddedCluster, EmbeddedOptions, FlightClient, Gateway};
use volley_proto::wire::client::v1::JobState;

const MIB: usize = 1 << 20;
/// A query that takes minutes.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a JOIN generate_series(1, 1000000) AS b ON a.value < b.value";
/// Within what a state has to come.
const SOON: Duration = Duration::from_secs(20);

struct Server {
    cluster: EmbeddedCluster,
    gateway: Gateway,
}

impl Server {
    async fn start() -> Self {
        let slots = NonZeroUsize::new(1);
        let options = EmbeddedOptions { executors: slots, slots, memory_bytes: Some(256 * MIB), ..Default::default() };
        let cluster = EmbeddedCluster::start(&options).await.unwrap();
        let gateway = Gateway::start("127.0.0.1:0".parse().unwrap(), cluster.url()).await.unwrap();
        Self { cluster, gateway }
    }

    async fn connect(&self) -> Client {
        let address = self.gateway.address();
        let parameters = format!("host={} port={} user=ada dbname=volley", address.ip(), address.port());
        let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until the newest job that is not over is in this state; or, with none, until all are over.
    async fn wait_for(&self, wanted: Option<JobState>) {
        let client = FlightClient::connect(self.cluster.url()).await.unwrap();
        let is_over = |state: JobState| matches!(state, JobState::Finished | JobState::Failed | JobState::Cancelled);
        let deadline = Instant::now() + SOON;
        loop {
            let now = client.jobs(0).await.unwrap().iter().map(|job| job.state()).find(|state| !is_over(*state));
            if now == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{now:?} is not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn shutdown(self) {
        self.gateway.shutdown().await;
        self.cluster.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_run_with_and_without_parameters() {
    let server = Server::start().await;
    let client = server.connect().await;
    let rows =
        client.query("SELECT n_name, n_nationkey FROM tpch.sf0_01.nation WHERE n_nationkey < $1 ORDER BY 2", &[&2_i64]).await.unwrap();
    let rows: Vec<(&str, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("ALGERIA", 0), ("ARGENTINA", 1)]);
    let row = client.query_one("SELECT $1 AS text, $2::boolean, NULL AS none, [1, 2] AS list", &[&"x", &true]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1), row.get::<_, Option<&str>>(2)), ("x", true, None));
    assert_eq!(row.get::<_, Vec<i64>>(3), [1, 2]);
    assert_eq!(client.execute("CREATE TABLE t (a BIGINT, b VARCHAR)", &[]).await.unwrap(), 0);
    assert_eq!(client.execute("INSERT INTO t VALUES ($1, $2)", &[&7_i64, &"seven"]).await.unwrap(), 1);
    let messages = client.simple_query("SELECT a FROM t; INSERT INTO t VALUES (8, NULL); SELECT count(*) FROM t").await.unwrap();
    let told: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            SimpleQueryMessage::CommandComplete(rows) => Some(format!("{rows} rows")),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["7", "1 rows", "1 rows", "2", "1 rows"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_parts_where_that_is_asked_for() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT value FROM generate_series(1, 5) ORDER BY 1", &[]).await.unwrap();
    for expected in [&[1_i64, 2][..], &[3, 4], &[5], &[]] {
        let rows = transaction.query_portal(&portal, 2).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), expected);
    }
    transaction.commit().await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_a_state_and_a_place() {
    let server = Server::start().await;
    let client = server.connect().await;
    let error = client.simple_query("SELECT 1; SELECT n_nam FROM tpch.sf0_01.nation").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::UNDEFINED_COLUMN);
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(18)));
    assert_eq!(error.hint(), Some("did you mean 'n_name'?"));
    let error = client.query("SELECT * FROM nowhere", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNDEFINED_TABLE));
    let parameters = format!("host=127.0.0.1 port={} user=ada dbname=nowhere", server.gateway.address().port());
    let unknown = tokio_postgres::connect(&parameters, NoTls);
    assert_eq!(unknown.await.err().unwrap().code(), Some(&SqlState::INVALID_CATALOG_NAME));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_the_sessions() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a BIGINT, b DECIMAL(10, 2))").await.unwrap();
    let columns = "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                   WHERE c.relname = $1 AND a.attnum > 0 ORDER BY a.attnum";
    let rows = client.query(columns, &[&"t"]).await.unwrap();
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("a", "bigint"), ("b", "numeric")]);
    let row = client.query_one("SELECT current_user, current_database(), current_schema()", &[]).await.unwrap();
    assert_eq!([row.get::<_, &str>(0), row.get(1), row.get(2)], ["ada", "volley", "public"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_ends_at_once() {
    let server = Server::start().await;
    let client = server.connect().await;
    let cancel = client.cancel_token();
    let running = tokio::spawn(async move { (client.query(LONG, &[]).await, client) });
    server.wait_for(Some(JobState::Running)).await;
    let began = Instant::now();
    cancel.cancel_query(NoTls).await.unwrap();
    let (ended, client) = running.await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    server.wait_for(None).await;
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_the_job_along() {
    let server = Server::start().await;
    let address = server.gateway.address();
    let parameters = format!("host={} port={} user=ada", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let query = tokio::spawn(async move { client.query(LONG, &[]).await.map(|rows| rows.len()) });
    server.wait_for(Some(JobState::Running)).await;
    connection.abort();
    assert!(query.await.unwrap().is_err());
    server.wait_for(None).await;
    // And one that reads the first rows of many; the library would read the others before it says that it leaves.
    let (client, connection) = tokio_postgres::connect(&parameters, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    {
        let none: [&str; 0] = [];
        let rows = client.query_raw("SELECT value FROM generate_series(1, 100000000)", none).await.unwrap();
        futures::pin_mut!(rows);
        assert_eq!(rows.try_next().await.unwrap().unwrap().get::<_, i64>(0), 1);
    }
    connection.abort();
    server.wait_for(None).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let server = Server::start().await;
    let address = server.gateway.address();
    let error = Gateway::start(address, server.cluster.url()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("can't listen for PostgreSQL clients on {address}: ")), "{error}");
    server.shutdown().await;
}
