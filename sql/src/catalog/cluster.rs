//! The catalog that all sessions of a cluster share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableType};
use datafusion::prelude::SessionConfig;
use parking_lot::RwLock;
use tokio::sync::OnceCell;
use volley_proto::Failure;

use super::calls::name_calls;
use super::ddl::is_external_table_text;
use super::session::SessionCatalogs;
use super::store::{EntryKind, MemoryTableStore, TableEntry, TableStore};
use super::{DEFAULT_SCHEMA, files, managed};
use crate::delta::DeltaProvider;
use crate::extension::Extensions;
use crate::functions;
use crate::session::default_options;
use crate::stores::remember;

/// One name in a schema.
#[derive(Debug)]
pub(super) struct Slot {
    /// How it is made; `None` for a table that was registered as a provider and lives as long as this process.
    pub(super) entry: Option<TableEntry>,
    /// A table's provider, once made. A view is planned anew for each statement, since what it reads may change.
    pub(super) provider: OnceCell<Arc<dyn TableProvider>>,
}

pub(super) type Schemas = BTreeMap<String, BTreeMap<String, Arc<Slot>>>;

/// What a catalog is opened with, beside what it holds.
#[derive(Debug, Clone, Default)]
pub struct CatalogOptions {
    /// URL of the directory that managed tables are made in; `None` for no managed tables.
    pub warehouse: Option<String>,
    /// What an embedding program adds, for views that use it.
    pub extensions: Extensions,
}

/// The catalog `volley`: what its store holds, and providers made of it on demand.
pub struct ClusterCatalog {
    pub(super) store: Arc<dyn TableStore>,
    pub(super) runtime: Arc<RuntimeEnv>,
    pub(super) schemas: RwLock<Schemas>,
    /// Held while the catalog is changed, so that the store and `schemas` change in one order.
    pub(super) changing: tokio::sync::Mutex<()>,
    warehouse: Option<Arc<str>>,
    extensions: Extensions,
    /// Whether its tables are those of a session, so that any schema may hold them.
    pub(super) is_temporary: bool,
    planning: OnceLock<SessionState>,
    me: Weak<Self>,
}

impl ClusterCatalog {
    /// An empty catalog over `store`; [`Self::reload`] fills it.
    pub fn new(store: Arc<dyn TableStore>, runtime: Arc<RuntimeEnv>, options: CatalogOptions) -> Arc<Self> {
        let CatalogOptions { warehouse, extensions } = options;
        let schemas = BTreeMap::from([(DEFAULT_SCHEMA.to_owned(), BTreeMap::new())]);
        let warehouse = warehouse.map(|url| format!("{}/", url.trim_end_matches('/')).into());
        Arc::new_cyclic(|me| Self {
            store,
            runtime,
            schemas: RwLock::new(schemas),
            changing: tokio::sync::Mutex::default(),
            warehouse,
            extensions,
            is_temporary: false,
            planning: OnceLock::new(),
            me: me.clone(),
        })
    }

    /// A catalog for the tables of one session, whose files are in a directory of the warehouse; `None` where there is no warehouse.
    pub(super) fn temporary(&self, session: &str) -> Option<Arc<Self>> {
        let warehouse = Some(format!("{}temporary/{session}/", self.warehouse()?).into());
        let (store, runtime) = (Arc::new(MemoryTableStore::default()), Arc::clone(&self.runtime));
        Some(Arc::new_cyclic(|me| Self {
            store,
            runtime,
            schemas: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            warehouse,
            extensions: self.extensions.clone(),
            is_temporary: true,
            planning: OnceLock::new(),
            me: me.clone(),
        }))
    }

    /// Whether its tables are those of one session.
    pub(crate) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Whether it has no table or view.
    pub fn is_empty(&self) -> bool {
        self.schemas.read().values().all(BTreeMap::is_empty)
    }

    /// An empty catalog that lives as long as its process, and has no managed tables.
    pub fn in_memory(runtime: Arc<RuntimeEnv>) -> Arc<Self> {
        Self::new(Arc::new(MemoryTableStore::default()), runtime, CatalogOptions::default())
    }

    /// The catalog that `store` holds. No file is touched: each table is opened when a statement first names it.
    pub async fn open(store: Arc<dyn TableStore>, runtime: Arc<RuntimeEnv>, options: CatalogOptions) -> Result<Arc<Self>, Failure> {
        let catalog = Self::new(store, runtime, options);
        catalog.reload().await?;
        Ok(catalog)
    }

    /// Reads the store again: at the start, and when another scheduler led meanwhile. Providers of unchanged entries are kept, and those
    /// that were registered without an entry.
    pub async fn reload(&self) -> Result<(), Failure> {
        let entries = self.store.list().await?;
        entries.iter().filter_map(|entry| entry.access.clone()).for_each(remember);
        let mut schemas = self.schemas.write();
        let old = std::mem::replace(&mut *schemas, BTreeMap::from([(DEFAULT_SCHEMA.to_owned(), BTreeMap::new())]));
        for entry in entries {
            let kept = old.get(&entry.schema).and_then(|names| names.get(&entry.name)).filter(|slot| slot.entry.as_ref() == Some(&entry));
            let kept = kept.cloned();
            insert(&mut schemas, entry, |entry| kept.unwrap_or_else(|| Arc::new(Slot { entry: Some(entry), provider: OnceCell::new() })));
        }
        for (schema, names) in old {
            for (name, slot) in names.into_iter().filter(|(_, slot)| slot.entry.is_none()) {
                schemas.entry(schema.clone()).or_default().entry(name).or_insert(slot);
            }
        }
        Ok(())
    }

    /// The entries, by schema and name.
    pub fn entries(&self) -> Vec<TableEntry> {
        self.schemas.read().values().flat_map(BTreeMap::values).filter_map(|slot| slot.entry.clone()).collect()
    }

    /// URL of the directory that managed tables are made in, ending in `/`.
    pub fn warehouse(&self) -> Option<&str> {
        self.warehouse.as_deref()
    }

    /// Whether a managed table has this directory.
    pub fn has_location(&self, location: &str) -> bool {
        self.entries().iter().filter_map(|entry| entry.managed.as_ref()).any(|table| table.location == location)
    }

    /// What `name` in `schema` is; `None` where there is nothing, or a provider without an entry.
    pub fn entry(&self, schema: &str, name: &str) -> Option<TableEntry> {
        self.slot(schema, name)?.entry.clone()
    }

    /// A state to plan with whose catalogs are this cluster's and whose unqualified names mean `catalog` and `schema`.
    pub fn planning_state(&self, catalog: &str, schema: &str) -> Result<SessionState> {
        let mut state = self.base()?.clone();
        let names = &mut state.config_mut().options_mut().catalog;
        names.default_catalog = catalog.to_owned();
        names.default_schema = schema.to_owned();
        Ok(state)
    }

    /// The state that all of the catalog's planning starts from.
    fn base(&self) -> Result<&SessionState> {
        if let Some(known) = self.planning.get() {
            return Ok(known);
        }
        let mut state = SessionStateBuilder::new()
            .with_config(SessionConfig::from(default_options()))
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_catalog_list(Arc::new(PlanningCatalogs(self.me.clone())))
            .with_default_features()
            .build();
        functions::register(&mut state)?;
        self.extensions.register(&mut state)?;
        Ok(self.planning.get_or_init(|| state))
    }

    /// The state that an entry's DDL is planned with.
    fn state_for(&self, entry: &TableEntry) -> Result<SessionState> {
        let state = self.planning_state(&entry.default_catalog, &entry.default_schema)?;
        if entry.kind != EntryKind::Table {
            return Ok(state);
        }
        // The engine looks up every name of a statement, so it would wait here for the very table that is being made.
        let nothing = Arc::new(MemoryCatalogProviderList::new());
        Ok(SessionStateBuilder::new_from_existing(state).with_catalog_list(nothing).build())
    }

    /// Makes what has to be there before an entry's provider can be: the log of a Delta Lake table whose columns the statement gives.
    pub(crate) async fn prepare(&self, entry: &TableEntry) -> Result<()> {
        if entry.kind != EntryKind::Table || entry.managed.is_some() {
            return Ok(());
        }
        let state = self.state_for(entry)?;
        match plan_of(&state, &entry.ddl).await? {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => files::prepare(&state, &create).await,
            _ => Ok(()),
        }
    }

    /// The provider that an entry's DDL describes.
    pub async fn provider(&self, entry: &TableEntry) -> Result<Arc<dyn TableProvider>> {
        let state = self.state_for(entry)?;
        if let Some(table) = &entry.managed {
            return managed::open(&state, table, &entry.ddl).await;
        }
        match plan_of(&state, &entry.ddl).await? {
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => files::open(&state, &create).await,
            LogicalPlan::Ddl(DdlStatement::CreateView(view)) => {
                let plan = Arc::unwrap_or_clone(view.input);
                let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
                Ok(Arc::new(ViewTable::new(plan, Some(entry.ddl.clone()))))
            }
            other => {
                let name = &entry.name;
                Err(DataFusionError::Internal(format!("the catalog entry of '{name}' makes no table: {}", other.display())))
            }
        }
    }

    /// The table that a function reads, by the statement that it stands for.
    async fn table_of_call(&self, ddl: &str) -> Result<Arc<dyn TableProvider>> {
        let entry = TableEntry { kind: EntryKind::Table, ddl: ddl.to_owned(), ..TableEntry::schema(DEFAULT_SCHEMA) };
        Box::pin(self.provider(&entry)).await
    }

    pub(super) fn slot(&self, schema: &str, name: &str) -> Option<Arc<Slot>> {
        self.schemas.read().get(schema)?.get(name).cloned()
    }

    async fn table(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(slot) = self.slot(schema, name) else {
            return match is_external_table_text(name) {
                true => self.table_of_call(name).await.map(Some),
                false => files::table_at(self.base()?, name).await,
            };
        };
        match &slot.entry {
            Some(entry) if entry.kind == EntryKind::View => Ok(Some(Box::pin(self.provider(entry)).await?)),
            Some(entry) => {
                let provider = slot.provider.get_or_try_init(|| self.provider(entry)).await?;
                match provider.downcast_ref::<DeltaProvider>() {
                    Some(delta) => Ok(Some(delta.log().current().await?)),
                    None if entry.managed.is_some() => Ok(Some(Arc::clone(provider))),
                    None => {
                        files::check_present(self.base()?, name, provider).await?;
                        Ok(Some(Arc::clone(provider)))
                    }
                }
            }
            None => Ok(slot.provider.get().cloned()),
        }
    }
}

/// The plan of an entry's DDL.
async fn plan_of(state: &SessionState, ddl: &str) -> Result<LogicalPlan> {
    let mut statement = state.sql_to_statement(ddl, &state.config_options().sql_parser.dialect)?;
    name_calls(&mut statement).map_err(|error| DataFusionError::Plan(error.message))?;
    state.statement_to_plan(statement).await
}

/// Puts an entry in its place, making its schema where it is missing.
pub(super) fn insert(schemas: &mut Schemas, entry: TableEntry, slot: impl FnOnce(TableEntry) -> Arc<Slot>) {
    let names = schemas.entry(entry.schema.clone()).or_default();
    if entry.kind != EntryKind::Schema {
        names.insert(entry.name.clone(), slot(entry));
    }
}

impl fmt::Debug for ClusterCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCatalog").field("store", &self.store).finish_non_exhaustive()
    }
}

impl CatalogProvider for ClusterCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.read().keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let known = self.schemas.read().contains_key(name);
        let catalog = self.me.upgrade().filter(|_| known)?;
        Some(Arc::new(ClusterSchema { catalog, name: name.to_owned() }))
    }
}

/// One schema of the cluster's catalog.
#[derive(Debug)]
struct ClusterSchema {
    catalog: Arc<ClusterCatalog>,
    name: String,
}

#[async_trait]
impl SchemaProvider for ClusterSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalog.schemas.read().get(&self.name).map(|names| names.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.catalog.table(&self.name, name).await
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        let slot = self.catalog.slot(&self.name, name);
        Ok(slot.map(|slot| match &slot.entry {
            Some(entry) if entry.kind == EntryKind::View => TableType::View,
            _ => TableType::Base,
        }))
    }

    /// Registers a provider that lives as long as this process; tables that should outlive it are made by DDL.
    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut schemas = self.catalog.schemas.write();
        let names = schemas.entry(self.name.clone()).or_default();
        if names.get(&name).is_some_and(|slot| slot.entry.is_some()) {
            return Err(DataFusionError::Plan(format!("table '{}.{name}' exists in the cluster's catalog", self.name)));
        }
        let slot = Slot { entry: None, provider: OnceCell::new_with(Some(table)) };
        Ok(names.insert(name, Arc::new(slot)).and_then(|old| old.provider.get().cloned()))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut schemas = self.catalog.schemas.write();
        let Some(names) = schemas.get_mut(&self.name) else {
            return Ok(None);
        };
        if names.get(name).is_some_and(|slot| slot.entry.is_some()) {
            return Err(DataFusionError::Plan(format!("table '{}.{name}' belongs to the cluster's catalog: use DROP TABLE", self.name)));
        }
        Ok(names.remove(name).and_then(|old| old.provider.get().cloned()))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.slot(&self.name, name).is_some()
    }
}

/// What the catalog's own planning sees. It holds the catalog weakly, since the catalog holds it.
#[derive(Debug)]
struct PlanningCatalogs(Weak<ClusterCatalog>);

impl CatalogProviderList for PlanningCatalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.0.upgrade().map(|cluster| SessionCatalogs::new(cluster).catalog_names()).unwrap_or_default()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        SessionCatalogs::new(self.0.upgrade()?).catalog(name)
    }
}
