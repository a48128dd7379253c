//! The one way to make a session: scheduler, executors, client and tests plan and run with the same functions and options.
//!
//! A session built here differs from DataFusion's defaults only where a distributed plan needs it; [`settings_diff`] tells what a
//! session changed beyond that, so that another process builds the same one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};

use datafusion::common::config::{ConfigNonZeroUsize, ConfigOptions};
use datafusion::error::Result;
use datafusion::execution::context::{QueryPlanner, SessionState};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;

use crate::catalog::{ClusterCatalog, DEFAULT_CATALOG, DEFAULT_SCHEMA, SessionCatalogs};
use crate::deadline;
use crate::extension::Extensions;
use crate::functions;
use crate::options::{self, VolleyOptions};
use crate::query_planner::OwnOperators;
use crate::stores::StoreRegistry;

/// Bytes of Parquet footers that a process keeps: a scheduler and an executor read each footer once.
const FOOTER_CACHE_BYTES: usize = 256 << 20;

/// Bytes of file statistics that a process keeps.
const STATISTICS_CACHE_BYTES: usize = 64 << 20;

/// Nested expressions and parentheses that the SQL parser accepts before it refuses a statement.
pub const PARSER_RECURSION_LIMIT: usize = 256;

/// Makes sessions: `SessionBuilder::new().runtime(runtime).settings(&settings).catalog(catalog).build()`.
#[derive(Debug, Default)]
pub struct SessionBuilder {
    runtime: Option<Arc<RuntimeEnv>>,
    settings: Vec<(String, String)>,
    catalog: Option<Arc<ClusterCatalog>>,
    id: Option<String>,
    query_planner: Option<Arc<dyn QueryPlanner + Send + Sync>>,
    extensions: Extensions,
}

impl SessionBuilder {
    /// A session with default options, a runtime of its own and an empty in-memory cluster catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares a process's memory pool, caches and object stores.
    pub fn runtime(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets options, as [`settings_diff`] gives them or `SET` takes them. Later ones win.
    pub fn settings(mut self, settings: &[(String, String)]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// Shares the cluster's tables.
    pub fn catalog(mut self, catalog: Arc<ClusterCatalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// Names the session; otherwise it gets a random name.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Replaces DataFusion's physical planner: how a client sends plans to a cluster.
    pub fn query_planner(mut self, planner: Arc<dyn QueryPlanner + Send + Sync>) -> Self {
        self.query_planner = Some(planner);
        self
    }

    /// Adds a program's own functions, tables and operators.
    pub fn extensions(mut self, extensions: Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// The session's state, for planning and for making task contexts.
    pub fn build_state(self) -> Result<SessionState> {
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => runtime_builder().build_arc()?,
        };
        let mut config = SessionConfig::from(default_options());
        for (key, value) in &self.settings {
            options::apply(config.options_mut(), key, value)?;
        }
        let config = config.with_extension(Arc::new(self.extensions.clone()));
        let catalogs = match self.catalog {
            Some(catalog) => SessionCatalogs::new(catalog),
            None => SessionCatalogs::new(ClusterCatalog::in_memory(Arc::clone(&runtime))),
        };
        let mut builder = deadline::with_checked_rules(SessionStateBuilder::new())
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .with_default_features();
        if let Some(id) = self.id {
            builder = builder.with_session_id(id);
        }
        builder = builder.with_query_planner(self.query_planner.unwrap_or_else(|| Arc::new(OwnOperators)));
        let mut state = builder.build();
        functions::register(&mut state)?;
        self.extensions.register(&mut state)?;
        Ok(state)
    }

    /// The session as DataFusion's context.
    pub fn build(self) -> Result<SessionContext> {
        Ok(SessionContext::new_with_state(self.build_state()?))
    }
}

/// The runtime of a process, to which it adds its memory pool and spill directory. Directory listings are not cached, because a
/// file written a moment ago must be seen; footers and statistics are, since their entries are checked against the file's state.
pub fn runtime_builder() -> RuntimeEnvBuilder {
    RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(StoreRegistry::default()))
        .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
        .with_file_statistics_cache_limit(STATISTICS_CACHE_BYTES)
        .with_object_list_cache_limit(0)
}

/// What every session starts from.
pub fn default_options() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    options.extensions.insert(VolleyOptions::default());
    options.catalog.create_default_catalog_and_schema = false;
    options.catalog.default_catalog = DEFAULT_CATALOG.to_string();
    options.catalog.default_schema = DEFAULT_SCHEMA.to_string();
    options.catalog.information_schema = true;
    options.execution.collect_statistics = true;
    options.execution.parquet.pushdown_filters = false;
    // Each stage's plan is cut from the whole plan; a round robin inside it would only move rows between threads.
    options.optimizer.enable_round_robin_repartition = false;
    // Its result lives in one process, so a stage elsewhere could not see it: subqueries become joins instead.
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.sql_parser.collect_spans = true;
    if let Ok(limit) = ConfigNonZeroUsize::try_new(PARSER_RECURSION_LIMIT) {
        options.sql_parser.recursion_limit = limit;
    }
    options
}

/// The settings with which another process builds the same session: those that differ from [`default_options`], and those whose
/// default depends on the machine.
pub fn settings_diff(state: &SessionState) -> Vec<(String, String)> {
    static DEFAULTS: LazyLock<HashMap<String, Option<String>>> =
        LazyLock::new(|| options::entries(&default_options()).into_iter().collect());
    options::entries(state.config_options())
        .into_iter()
        .filter(|(name, value)| DEFAULTS.get(name) != Some(value) || MACHINE_DEPENDENT.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Options of which [`SettingsCache`] remembers the settings.
const KEPT_SETTINGS: usize = 16;

/// [`settings_diff`] of the options that it was last asked of: most statements of a session come with the same ones.
#[derive(Debug, Default)]
pub struct SettingsCache {
    /// The newest first. An `Arc` that is held here is copied before it is changed, so that the same one means the same options.
    recent: Mutex<VecDeque<(Arc<ConfigOptions>, Settings)>>,
}

type Settings = Vec<(String, String)>;

impl SettingsCache {
    /// As [`settings_diff`].
    pub fn of(&self, state: &SessionState) -> Settings {
        let options = state.config().options();
        let known = self.recent.lock().iter().find(|(known, _)| Arc::ptr_eq(known, options)).map(|(_, settings)| settings.clone());
        known.unwrap_or_else(|| {
            let settings = settings_diff(state);
            let mut recent = self.recent.lock();
            recent.truncate(KEPT_SETTINGS - 1);
            recent.push_front((Arc::clone(options), settings.clone()));
            settings
        })
    }
}

/// Options whose default is the number of cores of the machine at hand.
const MACHINE_DEPENDENT: &[&str] = &["datafusion.execution.target_partitions", "datafusion.execution.planning_concurrency"];
