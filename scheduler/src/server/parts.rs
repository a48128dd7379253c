//! What a scheduler reads and makes before it serves.

use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use volley_proto::TicketKey;
use volley_sql::catalog::{CatalogOptions, ClusterCatalog};
use volley_sql::session::{SessionBuilder, runtime_builder};

use super::{Components, SchedulerError};
use crate::commits::Commits;
use crate::config::{Config, StateLocation};
use crate::garbage::Garbage;
use crate::jobs::{Archive, JobBook};
use crate::journal::Journal;
use crate::planning::Planning;
use crate::resume::Resumed;
use crate::sessions::{Sessions, Users};
use crate::store::{JobIds, StateStore, StoreError, StoredTables};

const TICKET_KEY: &str = "volley-ticket-key";

/// Everything that outlives a restart, opened, and what serves it.
pub(super) struct Parts {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) commits: Arc<Commits>,
    pub(super) key: TicketKey,
    pub(super) planning: Arc<Planning>,
    pub(super) jobs: Arc<JobBook>,
    pub(super) archive: Arc<Archive>,
    pub(super) job_ids: Arc<JobIds>,
    pub(super) journal: Journal,
    pub(super) garbage: Garbage,
    pub(super) sessions: Arc<Sessions>,
    pub(super) resumed: Resumed,
    pub(super) stop: CancellationToken,
}

impl Parts {
    /// Reads the state and finishes what was decided before.
    pub(super) async fn open(
        config: &Config,
        components: Components,
        store: Arc<dyn StateStore>,
        stop: CancellationToken,
    ) -> Result<Self, SchedulerError> {
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
        let archive = Arc::new(Archive::open(Arc::clone(&store), config.job_reports)?);
        let (journal, resumed) = match config.state {
            StateLocation::Memory => (Journal::none(), Resumed::default()),
            StateLocation::Directory(_) | StateLocation::Etcd(_) => {
                let resumed = Resumed::load(&store, &jobs).await?;
                let journal = Journal::start(Arc::clone(&store), resumed.places());
                (journal.map_err(|source| SchedulerError::System { action: "start the journal's thread", source })?, resumed)
            }
        };
        let users = config.users.as_deref().map(Users::read).transpose()?;
        let sessions = Sessions::open(template, Arc::clone(&catalog), Arc::clone(&store), users, config.session_expiry).await?;
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
        Ok(Self { store, commits, key, planning: Arc::new(planning), jobs, archive, job_ids, journal, garbage, sessions, resumed, stop })
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
