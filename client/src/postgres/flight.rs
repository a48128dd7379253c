//! What the gateway asks a scheduler besides what every client does: who a session is of, prepared statements, and the catalog's tables.

use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables,
    CommandPreparedStatementQuery, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{FlightDescriptor, HandshakeRequest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

use crate::error::{ClientError, Result};
use crate::flight::{Execution, FlightClient, decode_any, decode_schema};

/// A statement that the scheduler understood.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) handle: Bytes,
    /// The columns of its rows; `None` where it gives none.
    pub(super) schema: Option<SchemaRef>,
    /// `$1`, `$2` and so on with the types that the statement gives them.
    pub(super) parameters: Schema,
}

/// A table, or a view, and its columns.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_view: bool,
    pub(super) columns: SchemaRef,
}

/// Names who asks; the scheduler says from then on what session that is.
pub(super) async fn authenticate(client: &FlightClient, user: &str, password: &str) -> Result<()> {
    let header = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
    let header: AsciiMetadataValue = header.parse().map_err(|_| ClientError::Local("the user's name can't be sent".into()))?;
    request.metadata_mut().insert("authorization", header);
    let response = client.answer(client.service().handshake(request).await.map(|response| {
        let (metadata, stream, extensions) = response.into_parts();
        tonic::Response::from_parts(metadata.clone(), (metadata, stream), extensions)
    }))?;
    let (metadata, mut answers) = response;
    let answer = answers.message().await.map_err(|status| ClientError::from_status(client.url(), &status))?;
    let token = match metadata.get("authorization") {
        Some(header) => header.clone(),
        None => {
            let token = answer.map(|answer| answer.payload).unwrap_or_default();
            let wrong = |_| ClientError::Protocol("the scheduler's token is no text".into());
            let token = String::from_utf8(token.to_vec()).map_err(|_| ClientError::Protocol("the scheduler's token is no text".into()))?;
            format!("Bearer {token}").parse().map_err(wrong)?
        }
    };
    client.authorize(token);
    Ok(())
}

/// Has a statement planned, but not run.
pub(super) async fn prepare(client: &FlightClient, sql: &str) -> Result<Prepared> {
    let request = ActionCreatePreparedStatementRequest { query: sql.to_owned(), transaction_id: None };
    let body = client.act("CreatePreparedStatement", request.as_any().encode_to_vec()).await?;
    let prepared: ActionCreatePreparedStatementResult = decode_any(&body)?;
    let schema = |bytes: &Bytes| if bytes.is_empty() { Ok(Schema::empty()) } else { decode_schema(bytes) };
    let columns = schema(&prepared.dataset_schema)?;
    Ok(Prepared {
        handle: prepared.prepared_statement_handle,
        schema: (!columns.fields().is_empty()).then(|| Arc::new(columns)),
        parameters: schema(&prepared.parameter_schema)?,
    })
}

/// Runs a prepared statement, with a row of parameters where it takes some.
pub(super) async fn run_prepared(client: &FlightClient, handle: &Bytes, parameters: Option<RecordBatch>) -> Result<Execution> {
    let handle = match parameters {
        Some(row) => bind(client, handle, row).await?,
        None => handle.clone(),
    };
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle };
    client.flight_info(command.as_any().encode_to_vec()).await
}

async fn bind(client: &FlightClient, handle: &Bytes, row: RecordBatch) -> Result<Bytes> {
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let frames = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(futures::stream::iter([Ok::<_, FlightError>(row)]))
        .try_collect::<Vec<_>>()
        .await
        .map_err(|error| ClientError::Local(format!("the parameters can't be sent: {error}")))?;
    let request = client.request(futures::stream::iter(frames));
    let mut answers = client.answer(client.service().do_put(request).await)?;
    let answer = answers.message().await.map_err(|status| ClientError::from_status(client.url(), &status))?;
    let answer = answer.ok_or_else(|| ClientError::Protocol("no answer to parameters".into()))?;
    let result = DoPutPreparedStatementResult::decode(answer.app_metadata).map_err(|error| ClientError::Protocol(error.to_string()))?;
    Ok(result.prepared_statement_handle.unwrap_or_else(|| handle.clone()))
}

/// The names of the session's catalogs.
pub(super) async fn catalogs(client: &FlightClient) -> Result<Vec<String>> {
    let rows = fetch(client, CommandGetCatalogs {}.as_any().encode_to_vec()).await?;
    Ok(rows.iter().flat_map(|batch| texts(batch, "catalog_name")).collect())
}

/// The names of a catalog's schemas, those with tables that describe tables left out.
pub(super) async fn schemas(client: &FlightClient, catalog: &str) -> Result<Vec<String>> {
    let command = CommandGetDbSchemas { catalog: Some(catalog.to_owned()), db_schema_filter_pattern: None };
    let rows = fetch(client, command.as_any().encode_to_vec()).await?;
    let names = rows.iter().flat_map(|batch| texts(batch, "db_schema_name"));
    Ok(names.filter(|name| name != "information_schema").collect())
}

/// The tables of a catalog.
pub(super) async fn tables(client: &FlightClient, catalog: &str) -> Result<Vec<Table>> {
    let command = CommandGetTables { catalog: Some(catalog.to_owned()), include_schema: true, ..Default::default() };
    let rows = fetch(client, command.as_any().encode_to_vec()).await?;
    let mut tables = vec![];
    for batch in &rows {
        let (schemas, names, kinds) = (texts(batch, "db_schema_name"), texts(batch, "table_name"), texts(batch, "table_type"));
        let columns = batch.column_by_name("table_schema").and_then(|column| column.as_binary_opt::<i32>());
        let columns = columns.ok_or_else(|| ClientError::Protocol("tables without their columns".into()))?;
        for (row, ((schema, name), kind)) in schemas.into_iter().zip(names).zip(kinds).enumerate() {
            let columns = Arc::new(decode_schema(&Bytes::copy_from_slice(columns.value(row)))?);
            tables.push(Table { schema, name, is_view: kind == "VIEW", columns });
        }
    }
    Ok(tables)
}

/// The value of a setting in the session.
pub(super) async fn setting(client: &FlightClient, name: &str) -> Result<Option<String>> {
    let execution = client.execute(&format!("SHOW {name}")).await?;
    let rows: Vec<RecordBatch> = client.fetch(&execution).await?.try_collect().await?;
    Ok(rows.iter().flat_map(|batch| texts(batch, "value")).next())
}

async fn fetch(client: &FlightClient, command: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let execution = client.flight_info(command).await?;
    client.fetch(&execution).await?.boxed().try_collect().await
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
    let text = |column: &datafusion::arrow::array::StringArray, row| {
        if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
    };
    column.map(|column| (0..column.len()).map(|row| text(column, row)).collect()).unwrap_or_default()
}
