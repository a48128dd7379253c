//! Bulk ingest: the rows that a client sends go into a table, all of them or none.
//!
//! ```text
//! client ──DoPut──> decode ──one batch──> columns of the table ──> staged files ──> one commit
//! ```
//!
//! The rows pass through this process and no executor. No more of them is here than a batch at each of these steps and the unfinished row
//! group of a file ([`MEMORY`]); a client that is faster than the files is held up by flow control. Nothing is committed before the client
//! has said that it has sent everything: one that goes away in the middle leaves nothing.

use std::fmt;
use std::sync::Arc;

use arrow_flight::sql::CommandStatementIngest;
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::stream;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::{Request, Status};
use volley_proto::Failure;
use volley_proto::client::Statement;
use volley_sql::diagnostics::failure_of;
use volley_sql::write::{StagedFile, StagedWriteExec, WriteSpec};

use super::incoming::Incoming;
use super::ingest_target::{Planned, Refusal, Target};
use super::service::FlightSql;
use super::statements::{Call, CallError, planning_limit};
use super::writes::Rows;
use crate::service::status;

/// Bytes of memory that the unfinished row groups of one ingest may take; beyond, they are ended early.
const MEMORY: usize = 256 << 20;

impl FlightSql {
    /// Writes the rows of a DoPut to a table: their number.
    pub(super) async fn ingest(&self, command: CommandStatementIngest, request: Request<PeekableFlightDataStream>) -> Result<i64, Status> {
        let (metadata, _, stream) = request.into_parts();
        let target = Target::of(command)?;
        let mut incoming = Incoming::new(stream);
        let first = incoming.next().await?;
        let schema = incoming.schema().ok_or_else(|| Status::invalid_argument("the rows to ingest have no schema"))?;
        let (sender, rows) = client_rows(schema)?;
        let call = self.call(Statement::Sql(target.to_string()), None, &metadata);
        let (context, limit) = (call.session.context.clone(), planning_limit(&call.session.options()));
        let keyed = call.session.keyed;
        let planned = self.planning.run(limit, async move || target.plan(&context, keyed, rows).await).await;
        let planned = planned.map_err(Refusal::from).flatten().map_err(Refusal::into_status)?;
        self.take_rows(call, planned, first, incoming, sender).await
    }

    /// Writes the rows of a client as it is planned, to their end: their number.
    pub(super) async fn take_rows(
        &self,
        call: Call,
        planned: Planned,
        first: Option<RecordBatch>,
        incoming: Incoming,
        sender: Sender,
    ) -> Result<i64, Status> {
        let (this, state) = (self.clone(), planned.state);
        // A task of its own: it has to clean up also when nobody waits for it any more.
        let written = tokio::spawn(async move { this.write_sent(&call, state, planned.write, Rows::Sent(planned.rows)).await });
        let sent = send(first, incoming, sender).await;
        let written = written.await.map_err(|error| Status::internal(format!("the ingest panicked: {error}")))?;
        match (sent, written) {
            (Err(status), _) => Err(status),
            (Ok(()), written) => written.map(|rows| rows.try_into().unwrap_or(i64::MAX)).map_err(CallError::into_status),
        }
    }
}

/// Hands on what the client sends, to its end. Dropped before, it leaves the writer without the end, which then writes nothing.
async fn send(first: Option<RecordBatch>, mut incoming: Incoming, Sender(sender): Sender) -> Result<(), Status> {
    let mut next = first;
    while let Some(batch) = next {
        // A writer that is gone has an error to tell.
        if sender.send(Sent::Batch(batch)).await.is_err() {
            return Ok(());
        }
        next = incoming.next().await?;
    }
    // As above.
    let _ = sender.send(Sent::End).await;
    Ok(())
}

/// What a client sent.
#[derive(Debug)]
enum Sent {
    Batch(RecordBatch),
    End,
}

/// Where the rows of a client go in.
pub(super) struct Sender(mpsc::Sender<Sent>);

/// The rows of a client as a table that is read once, and where they go in.
pub(super) fn client_rows(schema: SchemaRef) -> Result<(Sender, Arc<dyn TableProvider>), Status> {
    let (sender, batches) = mpsc::channel(1);
    let rows = ClientRows { schema: Arc::clone(&schema), batches: Mutex::new(Some(batches)) };
    let table = StreamingTable::try_new(schema, vec![Arc::new(rows)]);
    let table = table.map_err(|error| status::of_failure(&failure_of(&error), None))?;
    Ok((Sender(sender), Arc::new(table)))
}

/// What a client sends, for the one who reads it.
struct ClientRows {
    schema: SchemaRef,
    batches: Mutex<Option<mpsc::Receiver<Sent>>>,
}

impl fmt::Debug for ClientRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for ClientRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.lock().take();
        let rows = stream::unfold(batches, |batches| async move {
            let mut batches = batches?;
            match batches.recv().await {
                Some(Sent::Batch(batch)) => Some((Ok(batch), Some(batches))),
                Some(Sent::End) => None,
                None => Some((Err(went_away()), None)),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

fn went_away() -> DataFusionError {
    let failure = Failure::cancelled("the client went away before it had sent all rows: none of them is kept");
    DataFusionError::External(Box::new(failure))
}

/// Writes what the client sends to files that no reader sees.
pub(super) async fn stage(rows: Arc<dyn ExecutionPlan>, state: &SessionState, spec: &WriteSpec) -> Result<Vec<StagedFile>, Failure> {
    stage_rows(rows, state, spec).await.map_err(|error| failure_of(&error))
}

async fn stage_rows(rows: Arc<dyn ExecutionPlan>, state: &SessionState, spec: &WriteSpec) -> Result<Vec<StagedFile>> {
    let sink = StagedWriteExec::try_new(rows, spec.clone(), 0)?;
    let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env()).with_memory_pool(Arc::new(GreedyMemoryPool::new(MEMORY)));
    let context = TaskContext::from(state).with_runtime(runtime.build_arc()?);
    let batches = collect(Arc::new(sink), Arc::new(context)).await?;
    Ok(batches.iter().map(StagedFile::from_batch).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
