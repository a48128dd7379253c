//! Prepared statements. A handle is signed and holds the statement and its bound parameters, so nothing is kept here: it works on
//! any connection and after a restart. Binding parameters makes a new handle, which clients take from the answer.

use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, DoPutPreparedStatementResult};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use futures::TryStreamExt;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use volley_proto::client::{PreparedHandle, Statement as Text};
use volley_proto::wire::flight::sql::ActionCreatePreparedStatementResult;

use super::boundary;
use super::info::Accepted;
use super::service::FlightSql;
use crate::service::status;

/// The type of the answer to CreatePreparedStatement, which arrow-flight's own type lacks a field of.
pub(super) const RESULT_TYPE_URL: &str = "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";

impl FlightSql {
    /// Describes a statement and gives it a handle. It is not run.
    pub(super) async fn prepare(
        &self,
        query: ActionCreatePreparedStatementRequest,
        metadata: &MetadataMap,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let call = self.call(Text::Sql(query.query), None, metadata);
        let failed = |failure| status::of_failure(&failure, None);
        let (statement, state) = self.understand(&call).await.map_err(failed)?;
        let parameters = statement.parameters().map_err(|error| failed(error.into()))?;
        let is_update = statement.is_update();
        // An empty schema is how clients tell an update that they have to execute with DoPut.
        let dataset_schema =
            if is_update { Bytes::new() } else { encode_schema(&boundary::schema_for_client(&state, &statement.schema()))? };
        let parameter_schema = if parameters.fields().is_empty() { Bytes::new() } else { encode_schema(&parameters)? };
        let handle =
            PreparedHandle { term: self.term, session: call.session.id.clone(), statement: call.request, parameters: Bytes::new() };
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.results.key.sign_ticket(&handle),
            dataset_schema,
            parameter_schema,
            is_update: Some(is_update),
        })
    }

    /// Runs a prepared statement with the parameters in its handle.
    pub(super) async fn run_prepared(&self, handle: &[u8], metadata: &MetadataMap) -> Result<Accepted, Status> {
        let handle = self.open_handle(handle)?;
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

    /// Runs a prepared update once for each row of parameters.
    pub(super) async fn update_prepared(&self, handle: &[u8], request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        let handle = self.open_handle(handle)?;
        let (metadata, _, stream) = request.into_parts();
        // A client without parameters may still send the schema of none.
        let rows = match read_rows(stream).await?.filter(|rows| rows.num_columns() > 0) {
            Some(rows) => Some(rows),
            None => decode_parameters(&handle.parameters)?,
        };
        let Some(rows) = rows else {
            return self.update(self.call(handle.statement, None, &metadata)).await;
        };
        let mut total = 0;
        for index in 0..rows.num_rows() {
            total += self.update(self.call(handle.statement.clone(), Some(row(&rows, index)?), &metadata)).await?.max(0);
        }
        Ok(total)
    }

    /// Binds parameters: the answer has the handle to use from here on.
    pub(super) async fn bind(
        &self,
        handle: &[u8],
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = self.open_handle(handle)?;
        let parameters = match read_rows(request.into_inner()).await? {
            Some(rows) => encode_parameters(&rows).map_err(|error| status::internal("the parameters can't be encoded", error))?,
            None => Bytes::new(),
        };
        if parameters.len() > self.max_statement_bytes {
            let (bytes, most) = (parameters.len(), self.max_statement_bytes);
            return Err(Status::invalid_argument(format!("the parameters have {bytes} bytes, but the scheduler takes at most {most}")));
        }
        let handle = self.results.key.sign_ticket(&PreparedHandle { parameters, ..handle });
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    /// The schema that a prepared statement's rows have.
    pub(super) async fn prepared_schema(&self, handle: &[u8], metadata: &MetadataMap) -> Result<Schema, Status> {
        let handle = self.open_handle(handle)?;
        self.statement_schema(handle.statement, metadata).await
    }

    /// The schema that a statement's rows have. It is not run.
    pub(super) async fn statement_schema(&self, statement: Text, metadata: &MetadataMap) -> Result<Schema, Status> {
        let call = self.call(statement, None, metadata);
        let (statement, state) = self.understand(&call).await.map_err(|failure| status::of_failure(&failure, None))?;
        Ok(boundary::schema_for_client(&state, &statement.schema()))
    }

    fn open_handle(&self, handle: &[u8]) -> Result<PreparedHandle, Status> {
        self.results.key.open_ticket(handle).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

fn encode_schema(schema: &Schema) -> Result<Bytes, Status> {
    let message: Result<IpcMessage, ArrowError> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|message| message.0).map_err(|error| status::internal("the schema can't be encoded", error))
}

/// The rows that a client put, in one batch; `None` where it put none.
async fn read_rows(stream: PeekableFlightDataStream) -> Result<Option<RecordBatch>, Status> {
    let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(format!("the parameters can't be read: {error}"));
    // A descriptor without data is how clients say that there are no parameters.
    let frames =
        stream.try_filter(|frame| std::future::ready(!frame.data_header.is_empty())).map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut decoder = FlightRecordBatchStream::new_from_flight_data(frames);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.try_next().await.map_err(|error| wrong(&error))? {
        batches.push(batch);
    }
    let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(None) };
    concat_batches(&schema, &batches).map(Some).map_err(|error| wrong(&error))
}

fn encode_parameters(rows: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.finish()?;
    Ok(writer.into_inner()?.into())
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
