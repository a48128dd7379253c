//! A scheduler from start to shutdown: everything is made, wired and taken down here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::execution::runtime_env::RuntimeEnv;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use volley_proto::control::Welcome;
use volley_proto::wire::control::v1::executor_control_server::ExecutorControlServer;
use volley_proto::{Failure, Term, TicketKey};
use volley_sql::catalog::{CatalogOptions, ClusterCatalog};
use volley_sql::extension::Extensions;
use volley_sql::session::{SessionBuilder, runtime_builder};

use crate::commits::Commits;
use crate::config::{Config, StateLocation};
use crate::driver::{self, Inbox};
use crate::executors::Executors;
use crate::garbage::Garbage;
use crate::jobs::{InlineRows, JobBook};
use crate::journal::Journal;
use crate::net::{self, ListenError};
use crate::perform::Performer;
use crate::planning::Planning;
use crate::results::Results;
use crate::resume::Resumed;
use crate::service::control::ControlService;
use crate::service::flight_sql::{FlightSql, FlightSqlEndpoint};
use crate::service::http;
use crate::sessions::Sessions;
use crate::state::{Cluster, Event, Settings};
use crate::store::{EtcdStore, FileStore, JobIds, MemoryStore, StateStore, StoreError, StoredTables};

const TICKET_KEY: &str = "volley-ticket-key";

/// Why a scheduler can't start.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The state can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog can't be read.
    #[error("the catalog can't be read: {0}")]
    Catalog(Failure),
    /// The session that all sessions are made from can't be made.
    #[error("the session template can't be made: {0}")]
    Session(#[from] datafusion::error::DataFusionError),
    /// The system has no thread or no random number for us.
    #[error("can't {action}: {source}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What a scheduler is made of beside its settings. What is not given is made as the settings say.
#[derive(Debug, Clone, Default)]
pub struct Components {
    /// Where state is kept.
    pub store: Option<Arc<dyn StateStore>>,
    /// What plans are made with: object stores, and caches of footers and statistics.
    pub runtime: Option<Arc<RuntimeEnv>>,
    /// A program's own functions, tables and operators.
    pub extensions: Extensions,
    /// Told the name of the scheduler that leads while this one stands by, which [`Scheduler::start`] waits for.
    pub standing_by: Option<fn(&str)>,
}

impl Components {
    /// The store, opened where none is given.
    async fn store(&self, config: &Config) -> Result<Arc<dyn StateStore>, SchedulerError> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let folder = match &config.state {
            StateLocation::Memory => return Ok(Arc::new(MemoryStore::new())),
            StateLocation::Directory(folder) => folder.clone(),
            StateLocation::Etcd(location) => {
                let tell = self.standing_by.unwrap_or(|leader| tracing::info!(leader, "standing by"));
                let name = format!("the scheduler on {} (process {})", config.listen, std::process::id());
                return Ok(Arc::new(EtcdStore::open(location, &name, config.leader_timeout, tell).await?));
            }
        };
        let opened = tokio::task::spawn_blocking(move || FileStore::open(&folder)).await;
        let opened = opened.map_err(|error| StoreError::Interrupted { why: error.to_string() })?;
        Ok(Arc::new(opened?))
    }
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler;

/// A scheduler that runs. Dropped, it stops at once; [`SchedulerHandle::shutdown`] lets streams end.
#[derive(Debug)]
pub struct SchedulerHandle {
    address: SocketAddr,
    http: Option<SocketAddr>,
    store: Arc<dyn StateStore>,
    inbox: Inbox,
    executors: Arc<Executors>,
    stop: CancellationToken,
    /// Stops the driver alone; cancelled with `stop`.
    halt: CancellationToken,
    grace: Duration,
    driver: JoinHandle<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    probes: Option<JoinHandle<io::Result<()>>>,
    housekeeping: JoinHandle<()>,
}

impl Scheduler {
    /// Starts a scheduler in this process, on the current tokio runtime. It accepts connections when this returns.
    pub async fn start(config: Config, components: Components) -> Result<SchedulerHandle, SchedulerError> {
        let stop = CancellationToken::new();
        // Whatever comes of a start that fails or is given up, nothing stays behind.
        let guard = stop.clone().drop_guard();
        let mut listener = net::listen("--listen", config.listen).await?;
        let probes = match config.http {
            Some(http) => Some(Probes::serve(net::listen("--http", http).await?, stop.clone())),
            None => None,
        };
        let store = if matches!(config.state, StateLocation::Etcd(_)) {
            // Who stands by does not listen, so that clients and executors find the one that leads.
            drop(listener);
            let store = components.store(&config).await?;
            listener = net::listen("--listen", config.listen).await?;
            store
        } else {
            components.store(&config).await?
        };
        let begun = Self::begin(config, components, Arc::clone(&store), Listeners { listener, probes }, stop).await;
        match begun {
            Ok(scheduler) => {
                guard.disarm();
                Ok(scheduler)
            }
            Err(error) => {
                // Another scheduler may do better.
                report("the state store", tokio::task::spawn_blocking(move || store.close()).await);
                Err(error)
            }
        }
    }

    /// Reads the state, goes on with what is in it, and serves.
    async fn begin(
        config: Config,
        components: Components,
        store: Arc<dyn StateStore>,
        listeners: Listeners,
        stop: CancellationToken,
    ) -> Result<SchedulerHandle, SchedulerError> {
        let runtime = match components.runtime {
            Some(runtime) => runtime,
            None => runtime_builder().build_arc()?,
        };
        let key = ticket_key(store.as_ref())?;
        let job_ids = Arc::new(JobIds::open(Arc::clone(&store))?);
        let tables = Arc::new(StoredTables::new(Arc::clone(&store)));
        let options = CatalogOptions { warehouse: config.warehouse.clone(), extensions: components.extensions.clone() };
        let catalog = ClusterCatalog::open(tables, Arc::clone(&runtime), options).await;
        let catalog = catalog.map_err(SchedulerError::Catalog)?;
        let settings = [("volley.results".to_owned(), config.results.to_string())];
        let template = SessionBuilder::new().settings(&settings).runtime(runtime).catalog(Arc::clone(&catalog));
        let template = template.extensions(components.extensions).build_state()?;
        let planning =
            Planning::new(config.planning_timeout).map_err(|source| SchedulerError::System { action: "start planning threads", source })?;
        let runtime = Arc::clone(template.runtime_env());
        let commits = Commits::roll_forward(Arc::clone(&store), Arc::clone(&runtime), Arc::clone(&catalog), stop.clone()).await?;
        let jobs = Arc::new(JobBook::new(config.job_reports));
        let (journal, resumed) = match config.state {
            StateLocation::Memory => (Journal::none(), Resumed::default()),
            StateLocation::Directory(_) | StateLocation::Etcd(_) => {
                let resumed = Resumed::load(&store, &jobs).await?;
                let journal = Journal::start(Arc::clone(&store), resumed.places());
                (journal.map_err(|source| SchedulerError::System { action: "start the journal's thread", source })?, resumed)
            }
        };
        let sessions = Sessions::open(template, Arc::clone(&catalog), Arc::clone(&store), config.session_expiry).await?;
        let sessions = Arc::new(sessions);
        let garbage = Garbage {
            store: Arc::clone(&store),
            catalog,
            runtime,
            jobs: Arc::clone(&jobs),
            job_ids: Arc::clone(&job_ids),
            sessions: Arc::clone(&sessions),
            planning: config.planning_timeout,
        };
        let address = listeners.listener.local_addr();
        let address = address.map_err(|source| ListenError { flag: "--listen", address: config.listen, source })?;
        let parts = Parts { store, commits, key, planning: Arc::new(planning), jobs, garbage, sessions, resumed, stop };
        Ok(run(config, parts, journal, job_ids, address, listeners))
    }
}

struct Parts {
    store: Arc<dyn StateStore>,
    commits: Arc<Commits>,
    key: TicketKey,
    planning: Arc<Planning>,
    jobs: Arc<JobBook>,
    garbage: Garbage,
    sessions: Arc<Sessions>,
    resumed: Resumed,
    stop: CancellationToken,
}

struct Listeners {
    listener: TcpListener,
    probes: Option<Probes>,
}

/// Probes, which are answered from the beginning.
struct Probes {
    address: Option<SocketAddr>,
    inbox: watch::Sender<Option<Inbox>>,
    task: JoinHandle<io::Result<()>>,
}

impl Probes {
    fn serve(listener: TcpListener, stop: CancellationToken) -> Self {
        let (inbox, known) = watch::channel(None);
        Self { address: listener.local_addr().ok(), inbox, task: tokio::spawn(http::serve(listener, known, stop)) }
    }
}

/// Wires the parts and sets everything going.
fn run(config: Config, parts: Parts, journal: Journal, job_ids: Arc<JobIds>, address: SocketAddr, listeners: Listeners) -> SchedulerHandle {
    let Parts { store, commits, key, planning, jobs, garbage, sessions, resumed, stop } = parts;
    let term = store.term();
    let (inbox, mailbox) = driver::inbox();
    let executors = Arc::new(Executors::new(term));
    let welcome = Welcome {
        heartbeat_interval_ms: config.heartbeat_interval.as_millis() as u64,
        orphan_timeout_ms: config.orphan_timeout.as_millis() as u64,
        ticket_key: key.clone(),
    };
    let performer = Performer {
        inbox: inbox.clone(),
        executors: Arc::clone(&executors),
        jobs: Arc::clone(&jobs),
        planning: Arc::clone(&planning),
        inline: InlineRows::default(),
        journal,
        term,
        welcome,
    };
    let settings = Settings::default();
    let mut machine = Cluster::new(Settings {
        finished_jobs_kept: config.job_reports,
        straggler_after_ms: config.straggler_after.as_millis() as u64,
        straggler_factor: if config.straggler_after.is_zero() { 0 } else { settings.straggler_factor },
        ..settings
    });
    let results = Arc::new(Results::new(inbox.clone(), Arc::clone(&executors), key, term, config.result_expiry, config.result_grace));
    for (job, failure) in resumed.given_up() {
        performer.journal.give_up(job, failure);
    }
    resumed.restore(&mut machine, &results);
    // The first event: nobody else can send one before the services are there.
    inbox.send(Event::Restored);
    let halt = stop.child_token();
    let driver = tokio::spawn(driver::drive(machine, mailbox, performer, halt.clone()));
    let flight = FlightSql {
        inbox: inbox.clone(),
        executors: Arc::clone(&executors),
        jobs,
        job_ids,
        planning,
        results,
        sessions: Arc::clone(&sessions),
        commits,
        term,
        max_statement_bytes: config.max_statement_bytes,
    };
    let control = ControlService { inbox: inbox.clone(), executors: Arc::clone(&executors), term, stop: stop.clone() };
    let Listeners { listener, probes } = listeners;
    let http = probes.as_ref().and_then(|probes| probes.address);
    let server = tokio::spawn(serve(listener, flight, control, stop.clone()));
    let probes = probes.map(|probes| {
        probes.inbox.send_replace(Some(inbox.clone()));
        probes.task
    });
    let housekeeping = tokio::spawn(keep_house(sessions, garbage, stop.clone()));
    tracing::info!(%address, %term, "scheduler started");
    SchedulerHandle {
        address,
        http,
        store,
        inbox,
        executors,
        stop,
        halt,
        grace: config.shutdown_grace,
        driver,
        server,
        probes,
        housekeeping,
    }
}

async fn serve(
    listener: TcpListener,
    flight: FlightSql,
    control: ControlService,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let flight = FlightServiceServer::new(FlightSqlEndpoint::new(flight))
        .max_decoding_message_size(net::MESSAGE_BYTES)
        .max_encoding_message_size(net::MESSAGE_BYTES);
    let control =
        ExecutorControlServer::new(control).max_decoding_message_size(net::MESSAGE_BYTES).max_encoding_message_size(net::MESSAGE_BYTES);
    net::server()
        .add_service(flight)
        .add_service(control)
        .serve_with_incoming_shutdown(net::incoming(listener), stop.cancelled_owned())
        .await
}

/// Ends idle sessions, and removes what nobody reads any more.
async fn keep_house(sessions: Arc<Sessions>, garbage: Garbage, stop: CancellationToken) {
    tokio::join!(expire(sessions, stop.clone()), garbage.collect(stop));
}

async fn expire(sessions: Arc<Sessions>, stop: CancellationToken) {
    loop {
        let next = sessions.expire().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// The key that tickets are signed with: drawn once, then kept, so that tickets outlive a restart.
fn ticket_key(store: &dyn StateStore) -> Result<TicketKey, SchedulerError> {
    loop {
        if let Some(found) = store.get(TICKET_KEY)? {
            let bytes = found
                .value
                .as_ref()
                .try_into()
                .map_err(|_| StoreError::Value { key: TICKET_KEY.into(), why: format!("it is not {} bytes long", TicketKey::LEN) })?;
            return Ok(TicketKey::from_bytes(bytes));
        }
        let mut bytes = [0; TicketKey::LEN];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut bytes)
            .map_err(|error| SchedulerError::System { action: "draw a random key", source: io::Error::other(error) })?;
        match store.compare_and_swap(TICKET_KEY, None, Some(&bytes)) {
            Ok(_) => return Ok(TicketKey::from_bytes(bytes)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl SchedulerHandle {
    /// Where clients and executors connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes are answered.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// This start's term.
    pub fn term(&self) -> Term {
        self.store.term()
    }

    /// Executors that take tasks at this moment.
    pub async fn live_executors(&self) -> usize {
        let live = |cluster: &Cluster| cluster.executors().iter().filter(|executor| executor.state.takes_tasks()).count();
        self.inbox.ask(live).await.unwrap_or(0)
    }

    /// Stops: no new connection is taken, open streams get some time to end, then everything is down.
    pub async fn shutdown(mut self) -> Result<(), SchedulerError> {
        // The driver holds the journal, whose last records are on disk when it is gone. What waits for them is said to executors, which
        // may be leaving too and would keep what nobody needs any more.
        self.halt.cancel();
        report("the driver", (&mut self.driver).await);
        self.stop.cancel();
        self.executors.close_all();
        if tokio::time::timeout(self.grace, &mut self.server).await.is_err() {
            self.server.abort();
        }
        report("housekeeping", (&mut self.housekeeping).await);
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
        let store = Arc::clone(&self.store);
        report("the state store", tokio::task::spawn_blocking(move || store.close()).await);
        Ok(())
    }

    /// Waits until the scheduler ends by itself, which is an error.
    pub async fn join(&mut self) -> Result<(), SchedulerError> {
        let ended = |source| SchedulerError::System { action: "go on serving", source };
        let deposed = self.store.deposed();
        tokio::select! {
            () = deposed.cancelled() => {
                // At once: what it would still say to executors and clients is not for it to say.
                self.stop.cancel();
                self.executors.close_all();
                Err(StoreError::Deposed { leader: None }.into())
            }
            result = &mut self.server => match result {
                Ok(served) => served.map_err(|error| ended(io::Error::other(error))),
                Err(error) => Err(ended(io::Error::other(error))),
            },
            result = &mut self.driver => Err(ended(io::Error::other(format!("the driver ended: {result:?}")))),
        }
    }
}

impl Drop for SchedulerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.executors.close_all();
        self.server.abort();
    }
}

fn report(what: &str, end: Result<(), tokio::task::JoinError>) {
    if let Err(error) = end
        && !error.is_cancelled()
    {
        tracing::error!(%error, "{what} did not end well");
    }
}
