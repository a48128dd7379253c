//! What a session does itself, without the cluster.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use super::SqlError;
use super::ddl::Ddl;
use crate::functions;
use crate::options::{self, VolleyOptions};
use crate::session::default_options;

/// A statement that the session does by itself.
#[derive(Debug, Clone)]
pub enum Immediate {
    /// `SET key = value`.
    Set {
        /// The option.
        key: String,
        /// Its new value.
        value: String,
    },
    /// `RESET key`.
    Reset {
        /// The option.
        key: String,
    },
    /// `USE catalog.schema`.
    Use {
        /// What names without a catalog mean from now on.
        catalog: Option<String>,
        /// What names without a schema mean from now on.
        schema: Option<String>,
    },
    /// A change of the cluster's catalog.
    Ddl(Ddl),
    /// Rows that are known already.
    Rows(ImmediateResult),
    /// A query over what only this process knows.
    Local {
        /// Its plan.
        plan: LogicalPlan,
    },
    /// `PREPARE` and `DEALLOCATE`.
    Session {
        /// Its plan.
        plan: LogicalPlan,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct ImmediateResult {
    /// The columns; none where there are no rows.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Whether something was changed rather than asked for.
    pub is_update: bool,
}

impl ImmediateResult {
    fn done() -> Self {
        Self { schema: Arc::new(Schema::empty()), batches: vec![], is_update: true }
    }
}

impl Immediate {
    /// The columns of the result; none where it has no rows.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Rows(rows) => Arc::clone(&rows.schema),
            Self::Local { plan: LogicalPlan::DescribeTable(describe) } => Arc::clone(describe.output_schema.inner()),
            Self::Local { plan } => Arc::clone(plan.schema().inner()),
            _ => Arc::new(Schema::empty()),
        }
    }

    /// Whether it changes something rather than asks for rows.
    pub fn is_update(&self) -> bool {
        !matches!(self, Self::Rows(_) | Self::Local { .. })
    }

    /// Does it. A change of the catalog is durable when this returns.
    pub async fn run(&self, session: &SessionContext) -> Result<ImmediateResult, SqlError> {
        let done = match self {
            Self::Set { key, value } => set(session, key, value),
            Self::Reset { key } => reset(session, key),
            Self::Use { catalog, schema } => use_names(session, catalog.as_deref(), schema.as_deref()),
            Self::Ddl(ddl) => return ddl.run(&session.state()).await.map(|()| ImmediateResult::done()),
            Self::Rows(rows) => return Ok(rows.clone()),
            Self::Local { plan } => return query(session, plan, self.schema()).await,
            Self::Session { plan } => session.execute_logical_plan(plan.clone()).await.map(drop),
        };
        done.map(|()| ImmediateResult::done()).map_err(|error| SqlError::of(&error, ""))
    }
}

async fn query(session: &SessionContext, plan: &LogicalPlan, schema: SchemaRef) -> Result<ImmediateResult, SqlError> {
    let rows = async { session.execute_logical_plan(plan.clone()).await?.collect().await };
    let batches = rows.await.map_err(|error| SqlError::of(&error, ""))?;
    Ok(ImmediateResult { schema, batches, is_update: false })
}

fn set(session: &SessionContext, key: &str, value: &str) -> Result<(), DataFusionError> {
    change(session, |state| options::set_option(state.config_mut().options_mut(), key, value))
}

fn reset(session: &SessionContext, key: &str) -> Result<(), DataFusionError> {
    change(session, |state| options::reset_option(state.config_mut().options_mut(), &default_options(), key))
}

fn use_names(session: &SessionContext, catalog: Option<&str>, schema: Option<&str>) -> Result<(), DataFusionError> {
    change(session, |state| {
        let names = state.config_options().catalog.clone();
        let catalog = catalog.unwrap_or(&names.default_catalog);
        let Some(provider) = state.catalog_list().catalog(catalog) else {
            let known = state.catalog_list().catalog_names().join(", ");
            return Err(DataFusionError::Plan(format!("there is no catalog '{catalog}'; the catalogs are {known}")));
        };
        let first = || provider.schema_names().into_iter().next().unwrap_or_default();
        let schema = schema.map_or_else(first, str::to_owned);
        if provider.schema(&schema).is_none() {
            let known = provider.schema_names().join(", ");
            return Err(DataFusionError::Plan(format!("there is no schema '{catalog}.{schema}'; the schemas are {known}")));
        }
        let names = &mut state.config_mut().options_mut().catalog;
        names.default_catalog = catalog.to_owned();
        names.default_schema = schema;
        Ok(())
    })
}

/// Sets the options that a session had under an earlier scheduler. One that can't be set is left out; the first such error is returned.
pub fn restore_options(session: &SessionContext, settings: &[(String, String)]) -> Result<(), DataFusionError> {
    let mut first = Ok(());
    change(session, |state| {
        let options = state.config_mut().options_mut();
        for (key, value) in settings {
            first = std::mem::replace(&mut first, Ok(())).and(options::apply(options, key, value));
        }
        Ok(())
    })?;
    first
}

/// Changes the session's state; functions that read options when they are made are made anew.
fn change(session: &SessionContext, change: impl FnOnce(&mut SessionState) -> Result<(), DataFusionError>) -> Result<(), DataFusionError> {
    let state = session.state_ref();
    let mut state = state.write();
    let before = VolleyOptions::of(state.config_options()).functions;
    change(&mut state)?;
    if VolleyOptions::of(state.config_options()).functions == before { functions::renew(&mut state) } else { functions::change(&mut state) }
}
