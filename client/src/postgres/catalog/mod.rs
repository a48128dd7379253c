//! PostgreSQL's own catalog, which psql and BI tools ask: `pg_class`, `pg_attribute` and the like.
//!
//! Such queries run here, in the gateway, over a copy of what the session's catalog has ([`mirror`]); there are no rows of tables in it.
//! datafusion-pg-catalog has the tables and makes PostgreSQL's queries into ones that the engine can run; what it lacks is in
//! [`functions`]. All of it is made when a connection asks for the first time.

mod functions;
mod mirror;
mod rewrite;
mod route;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

pub(super) use self::functions::Identity;
use self::mirror::Mirror;
pub(super) use self::route::may_be_for_catalog;
use self::route::{Route, route};
use super::error::Refusal;
use crate::flight::FlightClient;

/// Memory for a query over the catalog.
const MEMORY_BYTES: usize = 128 << 20;
/// How long a copy of the catalog is good for: the queries of one `\d` see the same.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// A connection's copy of the catalog.
pub(super) struct Catalog {
    context: SessionContext,
    parser: PostgresCompatibilityParser,
    mirror: Mirror,
    copied: Option<Instant>,
}

impl Catalog {
    /// An empty copy, for the session of `identity` in this catalog of the cluster.
    pub(super) fn new(name: &str, identity: Identity) -> Result<Self, Refusal> {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(name, "public")
            .with_create_default_catalog_and_schema(true)
            .with_information_schema(true)
            .with_target_partitions(1);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        config.options_mut().sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
        let memory = Arc::new(GreedyMemoryPool::new(MEMORY_BYTES));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory).build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        setup_pg_catalog(&context, name, EmptyContextProvider).map_err(|error| Refusal::from(*error))?;
        functions::register(&context, &identity);
        let mirror = Mirror::new(&context, name)?;
        Ok(Self { context, parser: PostgresCompatibilityParser::new(), mirror, copied: None })
    }

    /// The name of the cluster's catalog that it is a copy of.
    pub(super) fn name(&self) -> &str {
        self.mirror.name()
    }

    /// The plan of a statement that is for the catalog; `None` for one that is for the cluster.
    pub(super) async fn plan(&mut self, client: &FlightClient, text: &str) -> Result<Option<LogicalPlan>, Refusal> {
        // What can't be read here, the scheduler may be able to read.
        let Ok(mut statements) = self.parser.parse(rewrite::substitute(text)) else { return Ok(None) };
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else { return Ok(None) };
        match route(&statement) {
            Route::Cluster => return Ok(None),
            Route::Both(table) => {
                let message = format!("'{table}' can't be queried together with PostgreSQL's catalog");
                return Err(Refusal::new(super::error::state::UNSUPPORTED, message).with_hint("query them one after the other"));
            }
            Route::Catalog => {}
        }
        if self.copied.is_none_or(|copied| copied.elapsed() > FRESH_FOR) {
            self.mirror.copy(client).await?;
            self.copied = Some(Instant::now());
        }
        let statement = EngineStatement::Statement(Box::new(rewrite::rewrite(statement)));
        Ok(Some(self.context.state().statement_to_plan(statement).await?))
    }

    /// The rows of a plan.
    pub(super) async fn run(&self, plan: LogicalPlan, parameters: Vec<ScalarValue>) -> Result<SendableRecordBatchStream, Refusal> {
        let plan = if parameters.is_empty() { plan } else { plan.with_param_values(parameters)? };
        Ok(self.context.execute_logical_plan(plan).await?.execute_stream().await?)
    }
}
