//! A cluster as a DataFusion session: programs over DataFusion's `DataFrame` run on a cluster by changing how their context is made.
//!
//! ```text
//! sql("SELECT ..")   text ───────────────────────────────────────────┐
//! table, read_*      DataFrame ── logical optimizer ── RemotePlanner ─┴─> scheduler ── rows ──> RemoteExec
//! ```
//!
//! A statement goes to the cluster as text wherever it can. A program over a `DataFrame` goes as a logical plan, in which tables
//! of the cluster are queries as text: the scheduler plans those in the same session. Tables and functions that were registered
//! in this context alone are known here, so that a statement which names one is planned here and sent as a plan.

mod exec;
mod planner;
mod tables;

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{CsvReadOptions, DataFrame, JsonReadOptions, ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use volley_sql::codec::RemoteTable;
use volley_sql::session::SessionBuilder;

use crate::error::{ClientError, Result};
use crate::flight::FlightClient;
#[cfg(feature = "cluster")]
use crate::{EmbeddedCluster, EmbeddedOptions};
use planner::RemotePlanner;

/// A session on a cluster, embedded or elsewhere. [`Context::shutdown`] ends it in order; dropping it cancels what runs.
pub struct Context {
    client: FlightClient,
    session: SessionContext,
    #[cfg(feature = "cluster")]
    embedded: Option<EmbeddedCluster>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Context {
    /// Starts a cluster in this process.
    #[cfg(feature = "cluster")]
    pub async fn embedded(options: EmbeddedOptions) -> Result<Self> {
        let cluster = EmbeddedCluster::start(&options).await?;
        let context = Self::connect(cluster.url()).await?;
        Ok(Self { embedded: Some(cluster), ..context })
    }

    /// Connects to the scheduler of a cluster: `http://host:port`.
    pub async fn connect(url: &str) -> Result<Self> {
        let client = FlightClient::connect(url).await?;
        // A program sees the types that DataFusion computes with, as it would without a cluster.
        run_to_end(&client, "SET volley.result_views = true").await?;
        let planner = Arc::new(RemotePlanner::new(client.clone()));
        let state = SessionBuilder::new().query_planner(planner).build_state()?;
        let session = SessionContext::new_with_state(tables::with_own_catalogs(state));
        Ok(Self {
            client,
            session,
            #[cfg(feature = "cluster")]
            embedded: None,
        })
    }

    /// Runs a statement. A query becomes a [`DataFrame`] and runs when its rows are asked for; anything else is done when this
    /// returns, and its rows, if it has any, are in the [`DataFrame`].
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let state = self.session.state();
        if let Some(references) = tables::own_tables_of(&state, sql) {
            return self.sql_over_own_tables(state, sql, references).await;
        }
        match self.client.schema_of(sql).await? {
            Some(schema) => Ok(self.session.read_table(Arc::new(remote_table(sql, schema)?))?),
            None => {
                let rows = run_to_end(&self.client, sql).await?;
                Ok(self.session.read_batches(rows)?)
            }
        }
    }

    /// Plans here, with the cluster's tables beside this context's own.
    async fn sql_over_own_tables(&self, state: SessionState, sql: &str, others: Vec<TableReference>) -> Result<DataFrame> {
        for name in others {
            let table = self.cluster_table(&name).await?;
            tables::mirror(&state, &name, table)?;
        }
        Ok(self.session.sql(sql).await?)
    }

    /// A table: one that was registered here, or one of the cluster.
    pub async fn table(&self, name: impl Into<TableReference>) -> Result<DataFrame> {
        let name = name.into();
        if tables::is_own(&self.session.state(), &name) {
            return Ok(self.session.table(name).await?);
        }
        let table = provider_as_source(self.cluster_table(&name).await?);
        let plan = LogicalPlanBuilder::scan(name, table, None)?.build()?;
        Ok(DataFrame::new(self.session.state(), plan))
    }

    async fn cluster_table(&self, name: &TableReference) -> Result<Arc<dyn TableProvider>> {
        let sql = format!("SELECT * FROM {}", name.to_quoted_string());
        let schema = self.client.schema_of(&sql).await?;
        let schema = schema.ok_or_else(|| ClientError::Protocol(format!("table '{name}' has no columns")))?;
        Ok(Arc::new(remote_table(&sql, schema)?))
    }

    /// Parquet files that this program and the executors can both read.
    pub async fn read_parquet(&self, paths: &str, options: ParquetReadOptions<'_>) -> Result<DataFrame> {
        Ok(self.session.read_parquet(tables::absolute(paths), options).await?)
    }

    /// CSV files that this program and the executors can both read.
    pub async fn read_csv(&self, paths: &str, options: CsvReadOptions<'_>) -> Result<DataFrame> {
        Ok(self.session.read_csv(tables::absolute(paths), options).await?)
    }

    /// Files of JSON objects, one a line, that this program and the executors can both read.
    pub async fn read_json(&self, paths: &str, options: JsonReadOptions<'_>) -> Result<DataFrame> {
        Ok(self.session.read_json(tables::absolute(paths), options).await?)
    }

    /// Rows that this program has; they travel with the plan.
    pub fn read_batches(&self, rows: impl IntoIterator<Item = RecordBatch>) -> Result<DataFrame> {
        Ok(self.session.read_batches(rows)?)
    }

    /// Names Parquet files in this context alone. `CREATE EXTERNAL TABLE` names them in the whole cluster.
    pub async fn register_parquet(&self, name: &str, paths: &str, options: ParquetReadOptions<'_>) -> Result<()> {
        Ok(self.session.register_parquet(name, tables::absolute(paths), options).await?)
    }

    /// Names CSV files in this context alone.
    pub async fn register_csv(&self, name: &str, paths: &str, options: CsvReadOptions<'_>) -> Result<()> {
        Ok(self.session.register_csv(name, tables::absolute(paths), options).await?)
    }

    /// Names files of JSON objects in this context alone.
    pub async fn register_json(&self, name: &str, paths: &str, options: JsonReadOptions<'_>) -> Result<()> {
        Ok(self.session.register_json(name, tables::absolute(paths), options).await?)
    }

    /// Names a table in this context alone. It can be sent to the cluster if it is a listing of files or holds a few rows.
    pub fn register_table(&self, name: impl Into<TableReference>, table: Arc<dyn TableProvider>) -> Result<()> {
        self.session.register_table(name, table)?;
        Ok(())
    }

    /// The connection below: jobs, executors, statements without DataFusion.
    pub fn client(&self) -> &FlightClient {
        &self.client
    }

    /// DataFusion's own context, whose plans run on the cluster.
    pub fn session(&self) -> &SessionContext {
        &self.session
    }

    /// Ends the session, and the cluster if it is embedded.
    pub async fn shutdown(self) -> Result<()> {
        let closed = self.client.close().await;
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.embedded {
            return cluster.shutdown().await;
        }
        closed
    }
}

/// A query as a table: its columns need names of their own.
fn remote_table(sql: &str, schema: SchemaRef) -> Result<RemoteTable> {
    let mut names = std::collections::HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(RemoteTable::new(sql, schema)),
        Some(twice) => {
            let message = format!("the query gives two columns the name '{}': give one of them another with AS", twice.name());
            Err(ClientError::Local(message))
        }
    }
}

async fn run_to_end(client: &FlightClient, sql: &str) -> Result<Vec<RecordBatch>> {
    let execution = client.execute(sql).await?;
    client.fetch(&execution).await?.try_collect().await
}
