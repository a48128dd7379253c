//! Where the rows of a bulk ingest go: a table that is made, replaced, or there already.

use std::fmt;
use std::sync::Arc;

use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, Constraints, ResolvedTableReference, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use tonic::{Code, Status};
use volley_proto::Failure;
use volley_sql::catalog::SessionCatalogs;
use volley_sql::diagnostics::failure_of;
use volley_sql::statement::{Statement, WriteStatement, classify};

use super::statements::without_session;
use crate::service::status;

/// What the client's rows are called in plans.
const ROWS: &str = "ingested";

/// Why rows are not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The table should not be there, and is.
    Exists(String),
    /// The table should be there, and is not.
    Missing(String),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(failure_of(&error))
    }
}

impl Refusal {
    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Exists(name) => status::new(
                Code::AlreadyExists,
                format!("table '{name}' exists already: append to it or replace it (ADBC: mode='append', 'create_append' or 'replace')"),
            ),
            Self::Missing(name) => status::new(
                Code::NotFound,
                format!("table '{name}' does not exist: let the ingest create it (ADBC: mode='create' or 'create_append')"),
            ),
            Self::Failed(failure) => status::of_failure(&failure, None),
        }
    }
}

/// What happens where the table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfExists {
    Fail,
    Append,
    Replace,
}

/// The table that a command names, and what it says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    name: TableReference,
    temporary: bool,
    creates: bool,
    if_exists: IfExists,
}

/// A write whose rows a client sends.
pub(super) struct Planned {
    pub(super) write: WriteStatement,
    /// The rows as the table takes them.
    pub(super) rows: Arc<dyn ExecutionPlan>,
    pub(super) state: SessionState,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(rows of a client into {})", self.name)
    }
}

impl Target {
    /// The target of a command.
    pub(super) fn of(command: CommandStatementIngest) -> Result<Self, Status> {
        let CommandStatementIngest { table_definition_options, table, schema, catalog, temporary, options, .. } = command;
        if table.is_empty() {
            return Err(Status::invalid_argument("the ingest names no table"));
        }
        if let Some(option) = options.keys().next() {
            return Err(Status::invalid_argument(format!("the ingest has an option '{option}', but there are none")));
        }
        let filled = |name: Option<String>| name.filter(|name| !name.is_empty());
        let name = match (filled(catalog), filled(schema)) {
            (Some(catalog), Some(schema)) => TableReference::full(catalog, schema, table),
            (Some(_), None) => return Err(Status::invalid_argument("the ingest names a catalog, but no schema in it")),
            (None, Some(schema)) => TableReference::partial(schema, table),
            (None, None) => TableReference::bare(table),
        };
        let Some(definition) = table_definition_options else {
            return Ok(Self { name, temporary, creates: true, if_exists: IfExists::Fail });
        };
        let unspecified = |what: &str| Status::invalid_argument(format!("the ingest does not say what to do where the table {what}"));
        let creates = match definition.if_not_exist() {
            TableNotExistOption::Create => true,
            TableNotExistOption::Fail => false,
            TableNotExistOption::Unspecified => return Err(unspecified("is missing")),
        };
        let if_exists = match definition.if_exists() {
            TableExistsOption::Fail => IfExists::Fail,
            TableExistsOption::Append => IfExists::Append,
            TableExistsOption::Replace => IfExists::Replace,
            TableExistsOption::Unspecified => return Err(unspecified("exists")),
        };
        Ok(Self { name, temporary, creates, if_exists })
    }

    /// The write of a session. Has no side effect.
    pub(super) async fn plan(self, context: &SessionContext, keyed: bool, rows: Arc<dyn TableProvider>) -> Result<Planned, Refusal> {
        if self.temporary && !keyed {
            return Err(without_session().into());
        }
        let mut state = context.state();
        // The rows come in one stream, and stay in its order.
        state.config_mut().options_mut().execution.target_partitions = 1;
        let names = &state.config_options().catalog;
        let name = self.name.clone().resolve(&names.default_catalog, &names.default_schema);
        let scan = LogicalPlanBuilder::scan(ROWS, provider_as_source(rows), None)?.build()?;
        let exists = exists(&state, &name, self.temporary);
        let write = match (exists, self.if_exists) {
            (true, IfExists::Fail) => return Err(Refusal::Exists(self.name.to_string())),
            (false, _) if !self.creates => return Err(Refusal::Missing(self.name.to_string())),
            (true, IfExists::Append) => append(context, &name, scan).await?,
            (true, IfExists::Replace) => self.create(context, &state, &name, scan, true).await?,
            (false, _) => self.create(context, &state, &name, scan, false).await?,
        };
        let rows = state.create_physical_plan(&write.input).await?;
        Ok(Planned { write, rows, state })
    }

    async fn create(
        &self,
        context: &SessionContext,
        state: &SessionState,
        name: &ResolvedTableReference,
        scan: LogicalPlan,
        or_replace: bool,
    ) -> Result<WriteStatement, Refusal> {
        let create = CreateMemoryTable {
            name: name.clone().into(),
            constraints: Constraints::default(),
            input: Arc::new(scan),
            if_not_exists: false,
            or_replace,
            column_defaults: vec![],
            temporary: false,
        };
        let mut write = classified(context, LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create))).await?;
        if self.temporary {
            make_temporary(state, &mut write)?;
        }
        Ok(write)
    }
}

/// Whether there is a table of this name, among those of the session alone where it is to be temporary.
fn exists(state: &SessionState, name: &ResolvedTableReference, temporary: bool) -> bool {
    if temporary {
        return SessionCatalogs::temporary_of(state).is_some_and(|own| own.entry(&name.schema, &name.table).is_some());
    }
    let catalog = state.catalog_list().catalog(&name.catalog);
    catalog.and_then(|catalog| catalog.schema(&name.schema)).is_some_and(|schema| schema.table_exist(&name.table))
}

async fn classified(context: &SessionContext, plan: LogicalPlan) -> Result<WriteStatement, Refusal> {
    match classify(context, plan).await.map_err(Failure::from)? {
        Statement::Write(write) => Ok(write),
        other => Err(Failure::internal(format!("an ingest is no write: {other:?}")).into()),
    }
}

/// Makes the table that a write makes one of the session alone.
fn make_temporary(state: &SessionState, write: &mut WriteStatement) -> Result<(), Refusal> {
    let places = SessionCatalogs::temporary_of(state).zip(SessionCatalogs::cluster_of(state));
    let places = places.and_then(|(own, cluster)| Some((own.warehouse()?.to_owned(), cluster.warehouse()?.to_owned())));
    let place = places.and_then(|(own, cluster)| Some(format!("{own}{}", write.target.url.strip_prefix(&cluster)?)));
    let (Some(url), Some(table)) = (place, write.target.table.as_mut()) else {
        return Err(Failure::query("this cluster has no place for temporary tables").into());
    };
    (write.target.url, table.temporary) = (url, true);
    Ok(())
}

/// Rows for a table that is there: its columns by their names, and for those that the client does not send what an INSERT without them gives.
async fn append(context: &SessionContext, name: &ResolvedTableReference, scan: LogicalPlan) -> Result<WriteStatement, Refusal> {
    let reference = TableReference::from(name.clone());
    let target = provider_as_source(context.table_provider(reference.clone()).await?);
    let columns = target.schema();
    if let Some(unknown) = scan.schema().fields().iter().find(|field| columns.index_of(field.name()).is_err()) {
        let known: Vec<_> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        let (unknown, known) = (unknown.name(), known.join(", "));
        return Err(Failure::query(format!("table '{reference}' has no column '{unknown}', which the rows have: it has {known}")).into());
    }
    let value = |name: &String| match scan.schema().iter().find(|(_, field)| field.name() == name) {
        Some(sent) => Expr::Column(Column::from(sent)),
        None => target.get_column_default(name).cloned().unwrap_or_else(|| lit(ScalarValue::Null)),
    };
    let values: Vec<_> = columns.fields().iter().map(|field| value(field.name()).alias(field.name())).collect();
    let input = LogicalPlanBuilder::from(scan).project(values)?.build()?;
    classified(context, LogicalPlanBuilder::insert_into(input, reference, target, InsertOp::Append)?.build()?).await
}
