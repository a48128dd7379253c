//! Results: whole outputs in a given order, as any Flight reader understands them. They travel by `DoGet`, or within a task's
//! report where they are small.

use std::future::poll_fn;
use std::sync::Arc;

use arrow_flight::FlightData;
use datafusion::arrow::datatypes::SchemaRef;
use tokio::sync::mpsc;
use tonic::Status;
use volley_proto::shuffle::{ChunkHeader, ChunkKind, Compression, ExchangeTicket, TaskAttempt};
use volley_proto::{AttemptId, Failure, InlineFrame, PartitionId, Remedy, TaskId};

use super::frames::{encode_batch, flight_data, for_reader, load_chunk};
use crate::exchange::Exchange;
use crate::exchange::encoding::{WireSchema, hydrate_batch, hydrate_schema};
use crate::exchange::store::{Chunk, Content, CursorStep, Output, PartitionCursor};

type Sender = mpsc::Sender<Result<FlightData, Status>>;

/// The schema that is sent: hydrated, since a foreign reader need not know the dictionaries of the plan.
struct Shape {
    wire: WireSchema,
    schema: SchemaRef,
}

/// Sends what the ticket selects, attempt by attempt and partition by partition: the schema first, then the rows. `of_client`: the
/// ticket is that of a client, who does not tell the scheduler what came.
pub(super) async fn send_result(exchange: Arc<Exchange>, ticket: ExchangeTicket, of_client: bool, out: Sender) {
    match send_all(&exchange, &ticket, &out).await {
        Ok(true) if of_client => tell(&exchange, &ticket),
        // The scheduler knows what it was sent, and a reader that went away was not sent all.
        Ok(_) => {}
        Err(failure) => {
            // Nobody listens any more if this fails.
            let _ = out.send(Err(status(&failure))).await;
        }
    }
}

/// Tells that everything which the ticket selects was sent.
fn tell(exchange: &Exchange, ticket: &ExchangeTicket) {
    let Some(readers) = &exchange.store.hooks().readers else { return };
    for attempt in ticket.selections.iter().flat_map(|selection| &selection.attempts) {
        let attempt = TaskId::new(ticket.job, ticket.stage, attempt.task).attempt(attempt.attempt);
        readers.sent(attempt, exchange.rows_written(attempt));
    }
}

/// A failure as the status of a `DoGet`: `NOT_FOUND` where the output is gone and its producer is to be run again.
pub(super) fn status(failure: &Failure) -> Status {
    match failure.remedy {
        Remedy::Rerun { .. } | Remedy::Retry => Status::not_found(&failure.message),
        Remedy::Cancelled => Status::cancelled(&failure.message),
        Remedy::Resources => Status::resource_exhausted(&failure.message),
        Remedy::Query | Remedy::Internal => Status::internal(&failure.message),
    }
}

/// Sends everything; false when nobody listens any more.
async fn send_all(exchange: &Arc<Exchange>, ticket: &ExchangeTicket, out: &Sender) -> Result<bool, Failure> {
    let mut shape = None;
    for selection in &ticket.selections {
        for &attempt in &selection.attempts {
            for &partition in &selection.partitions {
                if !send_partition(exchange, ticket, attempt, partition, &mut shape, out).await? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Sends one partition; false when nobody listens any more.
async fn send_partition(
    exchange: &Arc<Exchange>,
    ticket: &ExchangeTicket,
    attempt: TaskAttempt,
    partition: PartitionId,
    shape: &mut Option<Shape>,
    out: &Sender,
) -> Result<bool, Failure> {
    let producer = TaskId::new(ticket.job, ticket.stage, attempt.task).attempt(attempt.attempt);
    let mut cursor = PartitionCursor::new(Arc::clone(&exchange.store), producer, partition, exchange.config.subscribe_timeout);
    let header = |rows| ChunkHeader { subscription: 0, partition, attempt, kind: ChunkKind::Chunk { rows } };
    loop {
        let step = poll_fn(|context| cursor.poll_next(context)).await?;
        let Some(output) = cursor.output() else { return Err(Failure::internal("a cursor without an output came to something")) };
        let shape = match &*shape {
            Some(shape) => shape,
            None => {
                let new = Shape::of(output)?;
                if out.send(Ok(flight_data(new.wire.message()))).await.is_err() {
                    return Ok(false);
                }
                shape.insert(new)
            }
        };
        let CursorStep::Chunk(chunk) = step else { return Ok(true) };
        for frame in encode(exchange, shape, output, chunk, ticket).await? {
            let rows = frame.rows;
            for data in frame.into_flight(header(rows)) {
                if out.send(Ok(data)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
}

/// All rows of a sealed output, partition by partition; `None` where some of them are no longer in memory.
pub(in crate::exchange) async fn inline_rows(
    exchange: &Exchange,
    attempt: AttemptId,
    partitions: u32,
) -> Result<Option<Vec<InlineFrame>>, Failure> {
    let failed = |e| Failure::internal(format!("encoding a result: {e}"));
    let (mut shape, mut frames) = (None, Vec::new());
    for partition in (0..partitions).map(PartitionId) {
        let mut cursor = PartitionCursor::new(Arc::clone(&exchange.store), attempt, partition, exchange.config.subscribe_timeout);
        while let CursorStep::Chunk(chunk) = poll_fn(|context| cursor.poll_next(context)).await? {
            let (Content::Memory(batch), Some(output)) = (chunk.content(), cursor.output()) else { return Ok(None) };
            let shape = match &shape {
                Some(shape) => shape,
                None => shape.insert(Shape::of(output)?),
            };
            let batch = hydrate_batch(&batch, &shape.schema).map_err(failed)?;
            for frame in encode_batch(&shape.wire, &batch, Compression::None).map_err(failed)? {
                frames.extend(frame.into_inline());
            }
        }
    }
    Ok(Some(frames))
}

async fn encode(
    exchange: &Exchange,
    shape: &Shape,
    output: &Output,
    chunk: Arc<Chunk>,
    ticket: &ExchangeTicket,
) -> Result<Vec<super::frames::Frame>, Failure> {
    let hooks = exchange.store.hooks();
    // A spilled chunk is decoded: not every foreign reader takes compressed bodies.
    let batch = load_chunk(&chunk, output.wire(), hooks).await?;
    let (wire, schema, compression) = (shape.wire.clone(), Arc::clone(&shape.schema), ticket.compression);
    let encoded = for_reader(hooks, move || encode_batch(&wire, &hydrate_batch(&batch, &schema)?, compression)).await?;
    encoded.map_err(|e| Failure::internal(format!("encoding a result: {e}")))
}

impl Shape {
    fn of(output: &Output) -> Result<Self, Failure> {
        let schema = hydrate_schema(output.wire().schema());
        let wire = WireSchema::try_new(&schema).map_err(|e| Failure::internal(format!("encoding a result's schema: {e}")))?;
        Ok(Self { wire, schema })
    }
}
