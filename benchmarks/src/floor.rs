//! `volley-bench floor`: a bare Flight SQL server that answers every statement with the same row.
//!
//! What a client measures against it is what gRPC, Flight and the client itself cost: the floor below which no engine can come.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::server::FlightSqlService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::error::{BenchError, Result};

/// The server: one row of one number, whatever is asked.
#[derive(Debug, Clone)]
struct Floor {
    batch: RecordBatch,
}

/// Serves until the process ends.
pub async fn serve_floor(address: SocketAddr) -> Result<()> {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let floor = Floor { batch: RecordBatch::try_from_iter([("one", column)])? };
    // The settings of Volley's own listeners.
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(1 << 20)
        .tcp_nodelay(true)
        .add_service(FlightServiceServer::new(floor))
        .serve(address);
    server.await.map_err(|error| BenchError::Usage(format!("can't serve on {address}: {error}")))
}

impl Floor {
    fn info(&self, ticket: Vec<u8>, descriptor: FlightDescriptor) -> Result<Response<FlightInfo>, Status> {
        let info = FlightInfo::new().try_with_schema(&self.batch.schema()).map_err(|error| Status::internal(error.to_string()))?;
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
        Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(descriptor)))
    }

    fn rows(&self) -> Response<BoxStream<'static, Result<FlightData, Status>>> {
        let rows = futures::stream::iter([Ok(self.batch.clone())]);
        let frames = FlightDataEncoderBuilder::new().with_schema(self.batch.schema()).build(rows);
        Response::new(frames.map_err(Status::from).boxed())
    }
}

#[tonic::async_trait]
impl FlightSqlService for Floor {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        _: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = TicketStatementQuery { statement_handle: bytes::Bytes::from_static(b"1") };
        self.info(ticket.as_any().encode_to_vec(), request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.info(query.as_any().encode_to_vec(), request.into_inner())
    }

    async fn do_get_statement(
        &self,
        _: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(self.rows())
    }

    async fn do_get_prepared_statement(
        &self,
        _: CommandPreparedStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        Ok(self.rows())
    }

    async fn do_action_create_prepared_statement(
        &self,
        _: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let schema = self.batch.schema();
        let schema: Result<IpcMessage, _> = SchemaAsIpc::new(&schema, &IpcWriteOptions::default()).try_into();
        let schema = schema.map_err(|error: datafusion::arrow::error::ArrowError| Status::internal(error.to_string()))?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: bytes::Bytes::from_static(b"1"),
            dataset_schema: schema.0,
            parameter_schema: bytes::Bytes::new(),
        })
    }

    async fn do_action_close_prepared_statement(&self, _: ActionClosePreparedStatementRequest, _: Request<Action>) -> Result<(), Status> {
        Ok(())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
