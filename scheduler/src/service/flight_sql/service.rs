//! Flight SQL's commands, as arrow-flight dispatches them: one line each, to the file that does it.

use std::sync::Arc;

use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest, Any, Command, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate,
    DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelStatus, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PutResult,
    SchemaAsIpc, SchemaResult, Ticket,
};
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::stream::BoxStream;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use volley_proto::Term;
use volley_proto::client::{Statement, StatementPlan};
use volley_proto::wire::{STATEMENT_PLAN_TYPE_URL, client::v1 as wire};

use super::metadata::{self, FOREIGN_KEYS, PRIMARY_KEYS, made};
use super::sql_info::SQL_INFO;
use super::substrait;
use super::type_info::TYPE_INFO;
use crate::commits::Commits;
use crate::driver::Inbox;
use crate::executors::Executors;
use crate::jobs::{Archive, JobBook};
use crate::planning::Planning;
use crate::results::Results;
use crate::service::status;
use crate::sessions::{Session, Sessions};
use crate::store::JobIds;

/// The rows of a DoGet.
pub(super) type Frames = BoxStream<'static, Result<FlightData, Status>>;
/// The answers of an action.
pub(super) type Actions = BoxStream<'static, Result<arrow_flight::Result, Status>>;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct FlightSql {
    /// The way to the machine.
    pub(crate) inbox: Inbox,
    /// The executors, for reports.
    pub(crate) executors: Arc<Executors>,
    /// The jobs.
    pub(crate) jobs: Arc<JobBook>,
    /// Reports on those of earlier schedulers.
    pub(crate) archive: Arc<Archive>,
    /// Ids for new ones.
    pub(crate) job_ids: Arc<JobIds>,
    /// Where plans are made.
    pub(crate) planning: Arc<Planning>,
    /// Results that wait or are read.
    pub(crate) results: Arc<Results>,
    /// The sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// Decided writes.
    pub(crate) commits: Arc<Commits>,
    /// This scheduler's term.
    pub(crate) term: Term,
    /// Longest statement that is taken.
    pub(crate) max_statement_bytes: usize,
}

impl FlightSql {
    /// The FlightInfo of any command.
    pub(super) async fn flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        arrow_flight::flight_service_server::FlightService::get_flight_info(self, request).await
    }

    /// The schema of any command's rows. Nothing is run.
    pub(super) async fn schema(&self, request: Request<FlightDescriptor>) -> Result<SchemaResult, Status> {
        let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("the command can't be read: {error}"));
        let (headers, extensions, descriptor) = request.into_parts();
        let any = Any::decode(descriptor.cmd.clone()).map_err(|error| wrong(&error))?;
        let schema = match Command::try_from(any).map_err(|error| wrong(&error))? {
            Command::CommandStatementQuery(query) => self.statement_schema(Statement::Sql(query.query), &headers).await?,
            Command::CommandStatementSubstraitPlan(query) => self.statement_schema(substrait::statement(query)?, &headers).await?,
            Command::CommandPreparedStatementQuery(query) => self.prepared_schema(&query.prepared_statement_handle, &headers).await?,
            Command::Unknown(any) if any.type_url == STATEMENT_PLAN_TYPE_URL => self.statement_schema(sent_plan(&any)?, &headers).await?,
            // Metadata commands have no side effects: their FlightInfo has the schema.
            _ => {
                let info = self.flight_info(Request::from_parts(headers, extensions, descriptor)).await?.into_inner();
                return Ok(SchemaResult { schema: info.schema });
            }
        };
        let encoded: Result<SchemaResult, _> = SchemaAsIpc::new(&schema, &IpcWriteOptions::default()).try_into();
        encoded.map_err(|error: datafusion::arrow::error::ArrowError| status::internal("the schema can't be encoded", error))
    }

    async fn start(&self, statement: Statement, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let call = self.call(statement, None, request.metadata());
        let holder = call.session.holder.clone();
        let accepted = self.run(call).await?;
        self.accepted_info(&accepted, &holder, request.into_inner()).map(Response::new)
    }

    fn session(&self, headers: &MetadataMap) -> Arc<Session> {
        self.sessions.of(headers)
    }
}

/// A plan that a client of ours sent as the command of a descriptor.
fn sent_plan(any: &Any) -> Result<Statement, Status> {
    let plan = wire::StatementPlan::decode(any.value.clone());
    let plan = plan.map_err(|error| Status::invalid_argument(format!("the plan can't be read: {error}")))?;
    Ok(Statement::Plan(StatementPlan::from(plan)))
}

type Info = Result<Response<FlightInfo>, Status>;
type Rows = Result<Response<Frames>, Status>;

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<HandshakeResponse, Status>>>, Status> {
        self.authenticate(request).await
    }

    async fn get_flight_info_statement(&self, query: CommandStatementQuery, request: Request<FlightDescriptor>) -> Info {
        refuse_transaction(query.transaction_id.as_ref())?;
        self.start(Statement::Sql(query.query), request).await
    }

    async fn get_flight_info_substrait_plan(&self, query: CommandStatementSubstraitPlan, request: Request<FlightDescriptor>) -> Info {
        self.start(substrait::statement(query)?, request).await
    }

    async fn get_flight_info_prepared_statement(&self, query: CommandPreparedStatementQuery, request: Request<FlightDescriptor>) -> Info {
        let session = self.session(request.metadata());
        let accepted = self.run_prepared(&query.prepared_statement_handle, request.metadata()).await?;
        self.accepted_info(&accepted, &session.holder, request.into_inner()).map(Response::new)
    }

    async fn get_flight_info_fallback(&self, command: Command, request: Request<FlightDescriptor>) -> Info {
        match command {
            Command::Unknown(any) if any.type_url == STATEMENT_PLAN_TYPE_URL => self.start(sent_plan(&any)?, request).await,
            other => Err(Status::unimplemented(format!("GetFlightInfo does not know the command {}", other.type_url()))),
        }
    }

    async fn get_flight_info_catalogs(&self, query: CommandGetCatalogs, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder().schema(), request.into_inner())
    }

    async fn get_flight_info_schemas(&self, query: CommandGetDbSchemas, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder().schema(), request.into_inner())
    }

    async fn get_flight_info_tables(&self, query: CommandGetTables, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder().schema(), request.into_inner())
    }

    async fn get_flight_info_table_types(&self, query: CommandGetTableTypes, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder().schema(), request.into_inner())
    }

    async fn get_flight_info_sql_info(&self, query: CommandGetSqlInfo, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder(made(&SQL_INFO)?).schema(), request.into_inner())
    }

    async fn get_flight_info_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&query.into_builder(made(&TYPE_INFO)?).schema(), request.into_inner())
    }

    async fn get_flight_info_primary_keys(&self, _: CommandGetPrimaryKeys, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&PRIMARY_KEYS, request.into_inner())
    }

    async fn get_flight_info_exported_keys(&self, _: CommandGetExportedKeys, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&FOREIGN_KEYS, request.into_inner())
    }

    async fn get_flight_info_imported_keys(&self, _: CommandGetImportedKeys, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&FOREIGN_KEYS, request.into_inner())
    }

    async fn get_flight_info_cross_reference(&self, _: CommandGetCrossReference, request: Request<FlightDescriptor>) -> Info {
        metadata::info(&FOREIGN_KEYS, request.into_inner())
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Rows {
        self.read_result(&ticket, request.metadata())
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> Rows {
        metadata::stream(metadata::catalogs(&self.session(request.metadata()), query))
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Rows {
        metadata::stream(metadata::schemas(&self.session(request.metadata()), query))
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Rows {
        metadata::stream(self.tables(self.session(request.metadata()), query).await)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _: Request<Ticket>) -> Rows {
        metadata::stream(metadata::table_types(query))
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Rows {
        metadata::stream(query.into_builder(made(&SQL_INFO)?).build().map_err(metadata::unbuilt))
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Rows {
        metadata::stream(query.into_builder(made(&TYPE_INFO)?).build().map_err(metadata::unbuilt))
    }

    async fn do_get_primary_keys(&self, _: CommandGetPrimaryKeys, _: Request<Ticket>) -> Rows {
        metadata::nothing(&PRIMARY_KEYS)
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Rows {
        metadata::nothing(&FOREIGN_KEYS)
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Rows {
        metadata::nothing(&FOREIGN_KEYS)
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Rows {
        metadata::nothing(&FOREIGN_KEYS)
    }

    async fn do_put_error_callback(
        &self,
        _: Request<PeekableFlightDataStream>,
        error: DoPutError,
    ) -> Result<Response<BoxStream<'static, Result<PutResult, Status>>>, Status> {
        Err(Status::invalid_argument(format!("the first message of a DoPut has to name a command: {error}")))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_transaction(command.transaction_id.as_ref())?;
        self.update_script(&command.query, request.metadata()).await
    }

    async fn do_put_substrait_plan(
        &self,
        command: CommandStatementSubstraitPlan,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.update(self.call(substrait::statement(command)?, None, request.metadata())).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_transaction(command.transaction_id.as_ref())?;
        self.ingest(command, request).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        self.bind(&query.prepared_statement_handle, request).await
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.update_prepared(&query.prepared_statement_handle, request).await
    }

    async fn do_action_close_prepared_statement(&self, _: ActionClosePreparedStatementRequest, _: Request<Action>) -> Result<(), Status> {
        // A handle holds all that there is of it.
        Ok(())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info =
            FlightInfo::decode(query.info).map_err(|error| Status::invalid_argument(format!("the FlightInfo can't be read: {error}")))?;
        // The older action numbers its results like the newer one.
        let status: CancelStatus = self.cancel_info(&info, request.metadata()).await?;
        Ok(ActionCancelQueryResult { result: status.into() })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Result<Response<Actions>, Status> {
        self.act(request).await
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let action = |(name, description): (&str, &str)| Ok(ActionType { r#type: name.into(), description: description.into() });
        Some(super::actions::NAMES.into_iter().map(action).collect())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// Refuses what belongs to a transaction.
pub(super) fn refuse_transaction(id: Option<&bytes::Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(Status::unimplemented("transactions are not supported: each statement is committed by itself")),
        _ => Ok(()),
    }
}
