//! Prepared statements. A handle is signed and holds the statement and its bound parameters, so nothing is kept here: it works on
//! any connection of its session and after a restart. Binding parameters makes a new handle, which clients take from the answer.

use std::sync::Arc;

use arrow_flight::sql::DoPutPreparedStatementResult;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use volley_proto::client::{PreparedHandle, Statement as Text};
use volley_proto::wire::flight::sql::ActionCreatePreparedStatementResult;

use super::boundary;
use super::incoming::Incoming;
use super::info::Accepted;
use super::ingest::{Sender, client_rows};
use super::ingest_target::Planned;
use super::inserts;
use super::service::FlightSql;
use super::statements::{Call, planning_limit};
use crate::service::status;

/// The type of the answer to CreatePreparedStatement, which arrow-flight's own type lacks a field of.
pub(super) const RESULT_TYPE_URL: &str = "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";

impl FlightSql {
    /// Describes a statement and gives it a handle. It is not run.
    pub(super) async fn prepare(&self, statement: Text, metadata: &MetadataMap) -> Result<ActionCreatePreparedStatementResult, Status> {
        let call = self.call(statement, None, metadata);
        let failed = |failure| status::of_failure(&failure, None);
        let (statement, state) = self.understand(&call).await.map_err(failed)?;
        let parameters = statement.parameters().map_err(|error| failed(error.into()))?;
        let is_update = statement.is_update();
        // An empty schema is how clients tell an update that they have to execute with DoPut.
        let dataset_schema =
            if is_update { Bytes::new() } else { encode_schema(&boundary::schema_for_client(&state, &statement.schema()))? };
        let parameter_schema = if parameters.fields().is_empty() { Bytes::new() } else { encode_schema(&parameters)? };
        let holder = call.session.holder.clone();
        let handle = PreparedHandle { term: self.term, session: holder, statement: call.request, parameters: Bytes::new() };
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.results.key.sign_ticket(&handle),
            dataset_schema,
            parameter_schema,
            is_update: Some(is_update),
        })
    }

    /// Runs a prepared statement with the parameters in its handle.
    pub(super) async fn run_prepared(&self, handle: &[u8], metadata: &MetadataMap) -> Result<Accepted, Status> {
        let handle = self.open_handle(handle, metadata)?;
        let rows = decode_parameters(&handle.parameters)?;
        let parameters = match rows.as_ref().map(|rows| (rows, rows.num_rows())) {
            None => None,
            Some((rows, 1)) => Some(row(rows, 0)?),
            Some((_, rows)) => {
                return Err(Status::invalid_argument(format!("{rows} rows of parameters are bound, but a query takes one")));
            }
        };
        self.run(self.call(handle.statement, parameters, metadata)).await
    }

    /// Runs a prepared update once for each row of parameters, as they come. An INSERT of such a row writes all of them, or none.
    pub(super) async fn update_prepared(&self, handle: &[u8], request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        let (metadata, _, stream) = request.into_parts();
        let handle = self.open_handle(handle, &metadata)?;
        let mut incoming = Incoming::new(stream);
        // A client without parameters may still send the schema of none.
        let Some(first) = incoming.next().await?.filter(|rows| rows.num_columns() > 0) else {
            return match decode_parameters(&handle.parameters)? {
                Some(rows) => self.update_by(&handle, &rows, &metadata).await,
                None => self.update(self.call(handle.statement, None, &metadata)).await,
            };
        };
        let call = self.call(handle.statement.clone(), None, &metadata);
        if let Some((planned, sender)) = self.plan_insert(&call, first.schema()).await? {
            return self.take_rows(call, planned, Some(first), incoming, sender).await;
        }
        let mut total = self.update_by(&handle, &first, &metadata).await?;
        while let Some(rows) = incoming.next().await? {
            total += self.update_by(&handle, &rows, &metadata).await?;
        }
        Ok(total)
    }

    /// The write of an INSERT of a row of parameters, for all rows of parameters at once; `None` for another statement.
    async fn plan_insert(&self, call: &Call, parameters: SchemaRef) -> Result<Option<(Planned, Sender)>, Status> {
        let failed = |failure| status::of_failure(&failure, None);
        let (statement, state) = self.understand(call).await.map_err(failed)?;
        let (sender, rows) = client_rows(parameters)?;
        let limit = planning_limit(&call.session.options());
        let planned = self.planning.run(limit, async move || inserts::plan(statement, state, rows).await).await;
        Ok(planned.flatten().map_err(failed)?.map(|planned| (planned, sender)))
    }

    /// Runs a prepared update once for each of these rows.
    async fn update_by(&self, handle: &PreparedHandle, rows: &RecordBatch, metadata: &MetadataMap) -> Result<i64, Status> {
        let mut total = 0;
        for index in 0..rows.num_rows() {
            total += self.update(self.call(handle.statement.clone(), Some(row(rows, index)?), metadata)).await?.max(0);
        }
        Ok(total)
    }

    /// Binds parameters: the answer has the handle to use from here on.
    pub(super) async fn bind(
        &self,
        handle: &[u8],
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let (metadata, _, stream) = request.into_parts();
        let handle = self.open_handle(handle, &metadata)?;
        let parameters = encode_parameters(Incoming::new(stream), self.max_statement_bytes).await?;
        let handle = self.results.key.sign_ticket(&PreparedHandle { parameters, ..handle });
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    /// The schema that a prepared statement's rows have.
    pub(super) async fn prepared_schema(&self, handle: &[u8], metadata: &MetadataMap) -> Result<Schema, Status> {
        let handle = self.open_handle(handle, metadata)?;
        self.statement_schema(handle.statement, metadata).await
    }

    /// The schema that a statement's rows have. It is not run.
    pub(super) async fn statement_schema(&self, statement: Text, metadata: &MetadataMap) -> Result<Schema, Status> {
        let call = self.call(statement, None, metadata);
        let (statement, state) = self.understand(&call).await.map_err(|failure| status::of_failure(&failure, None))?;
        Ok(boundary::schema_for_client(&state, &statement.schema()))
    }

    fn open_handle(&self, handle: &[u8], metadata: &MetadataMap) -> Result<PreparedHandle, Status> {
        let handle: PreparedHandle = self.results.key.open_ticket(handle).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.sessions.holds(&handle.session, metadata) {
            return Err(Status::permission_denied("the prepared statement belongs to another session: prepare it in this one"));
        }
        Ok(handle)
    }
}

fn encode_schema(schema: &Schema) -> Result<Bytes, Status> {
    let message: Result<IpcMessage, ArrowError> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|message| message.0).map_err(|error| status::internal("the schema can't be encoded", error))
}

/// The rows that a client binds, encoded; nothing where it binds none. An error where they take more than `most` bytes.
async fn encode_parameters(mut incoming: Incoming, most: usize) -> Result<Bytes, Status> {
    let wrong = |error| status::internal("the parameters can't be encoded", error);
    let Some(first) = incoming.next().await? else { return Ok(Bytes::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema()).map_err(wrong)?;
    let mut next = Some(first);
    while let Some(rows) = next {
        writer.write(&rows).map_err(wrong)?;
        let bytes = writer.get_ref().len();
        if bytes > most {
            return Err(Status::invalid_argument(format!("the parameters have {bytes} bytes, but the scheduler takes at most {most}")));
        }
        next = incoming.next().await?;
    }
    writer.finish().map_err(wrong)?;
    writer.into_inner().map(Bytes::from).map_err(wrong)
}

fn decode_parameters(encoded: &Bytes) -> Result<Option<RecordBatch>, Status> {
    if encoded.is_empty() {
        return Ok(None);
    }
    let wrong = |error| status::internal("the bound parameters can't be read", error);
    let reader = StreamReader::try_new(encoded.as_ref(), None).map_err(wrong)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    concat_batches(&schema, &batches).map(Some).map_err(wrong)
}

/// One row as the values of `$1`, `$2` and so on.
fn row(rows: &RecordBatch, index: usize) -> Result<ParamValues, Status> {
    let values = rows.columns().iter().map(|column| ScalarValue::try_from_array(Arc::as_ref(column), index));
    let values: Result<Vec<_>, _> = values.collect();
    values.map(ParamValues::from).map_err(|error| Status::invalid_argument(format!("a parameter can't be used: {error}")))
}
