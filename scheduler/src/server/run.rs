//! The parts wired, and set going.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use volley_proto::control::Welcome;
use volley_proto::wire::control::v1::executor_control_server::ExecutorControlServer;

use super::SchedulerHandle;
use super::parts::Parts;
use crate::config::Config;
use crate::driver::{self, Inbox};
use crate::executors::Executors;
use crate::garbage::Garbage;
use crate::jobs::InlineRows;
use crate::net::{self, ListenError};
use crate::perform::Performer;
use crate::results::Results;
use crate::service::control::ControlService;
use crate::service::flight_sql::{FlightSql, FlightSqlEndpoint, final_report};
use crate::service::http;
use crate::sessions::Sessions;
use crate::state::{Cluster, Event, Settings};

/// Where clients, executors and probes come in.
pub(super) struct Listeners {
    listener: TcpListener,
    probes: Option<Probes>,
}

impl Listeners {
    pub(super) fn new(listener: TcpListener, probes: Option<Probes>) -> Self {
        Self { listener, probes }
    }

    /// Where clients and executors come in.
    pub(super) fn address(&self, config: &Config) -> Result<SocketAddr, ListenError> {
        self.listener.local_addr().map_err(|source| ListenError { flag: "--listen", address: config.listen, source })
    }
}

/// Probes, which are answered from the beginning.
pub(super) struct Probes {
    address: Option<SocketAddr>,
    inbox: watch::Sender<Option<Inbox>>,
    task: JoinHandle<io::Result<()>>,
}

impl Probes {
    pub(super) fn serve(listener: TcpListener, stop: CancellationToken) -> Self {
        let (inbox, known) = watch::channel(None);
        Self { address: listener.local_addr().ok(), inbox, task: tokio::spawn(http::serve(listener, known, stop)) }
    }
}

impl Parts {
    /// Wires the parts and sets everything going.
    pub(super) fn run(self, config: &Config, address: SocketAddr, listeners: Listeners) -> SchedulerHandle {
        let Self { store, commits, key, planning, jobs, archive, job_ids, journal, garbage, sessions, resumed, stop } = self;
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
        let results = Arc::new(Results::new(inbox.clone(), Arc::clone(&executors), key, term, config));
        for (job, failure) in resumed.given_up() {
            performer.journal.give_up(job, failure);
        }
        resumed.restore(&mut machine, &results);
        // The first event: nobody else can send one before the services are there.
        inbox.send(Event::Restored);
        let halt = stop.child_token();
        let driver = tokio::spawn(driver::drive(machine, mailbox, performer, halt.clone()));
        let archived = Arc::clone(&archive).keep(Arc::clone(&jobs), final_report, stop.clone());
        let flight = FlightSql {
            inbox: inbox.clone(),
            executors: Arc::clone(&executors),
            jobs,
            archive,
            job_ids,
            planning,
            results: Arc::clone(&results),
            sessions: Arc::clone(&sessions),
            commits,
            term,
            max_statement_bytes: config.max_statement_bytes,
        };
        let control = ControlService { inbox: inbox.clone(), executors: Arc::clone(&executors), results, term, stop: stop.clone() };
        let Listeners { listener, probes } = listeners;
        let http = probes.as_ref().and_then(|probes| probes.address);
        let server = tokio::spawn(serve(listener, flight, control, stop.clone()));
        let probes = probes.map(|probes| {
            probes.inbox.send_replace(Some(inbox.clone()));
            probes.task
        });
        let housekeeping = tokio::spawn(keep_house(sessions, garbage, archived, stop.clone()));
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

/// Ends idle sessions, removes what nobody reads any more, and writes reports on ended jobs.
async fn keep_house(sessions: Arc<Sessions>, garbage: Garbage, archived: impl Future<Output = ()>, stop: CancellationToken) {
    tokio::join!(expire(sessions, stop.clone()), garbage.collect(stop), archived);
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
