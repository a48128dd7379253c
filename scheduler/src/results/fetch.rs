//! One root attempt's rows, as encoded frames from the executor that holds them. Record batches are passed on and never decoded.

use std::sync::Arc;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, Ticket};
use arrow_ipc::{MessageHeader, root_as_message};
use bytes::Bytes;
use prost::Message;
use tonic::Streaming;
use volley_proto::shuffle::{ChunkHeader, ChunkKind};
use volley_proto::wire::shuffle::v1 as wire;

use super::Results;
use crate::jobs::RootOutput;
use crate::net;

/// The attempt's rows could not be read to their end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FetchError(String);

/// The frames of one attempt.
pub(super) struct Fetch {
    frames: Streaming<FlightData>,
    /// Rows seen since the last partition ended, where an executor says where one does.
    rows: u64,
    /// Rows of all partitions.
    total: u64,
}

impl Fetch {
    /// Asks for all partitions of an attempt.
    pub(super) async fn start(results: &Results, root: &RootOutput, partitions: u32) -> Result<Self, FetchError> {
        let ticket = Ticket::new(results.key.sign_ticket(&results.exchange_ticket(root, partitions)));
        let channel = results.executors.channel(&root.address).map_err(|error| FetchError(error.to_string()))?;
        let mut client = FlightServiceClient::new(channel).max_decoding_message_size(net::MESSAGE_BYTES);
        let frames = client.do_get(ticket).await.map_err(|status| failed(root, &status))?.into_inner();
        Ok(Self { frames, rows: 0, total: 0 })
    }

    /// The next frame for the client, or `None` when all rows have come: when the executor ended its stream well.
    pub(super) async fn next(&mut self, root: &RootOutput) -> Result<Option<FlightData>, FetchError> {
        while let Some(frame) = self.frames.message().await.map_err(|status| failed(root, &status))? {
            if let Some(frame) = self.take(root, frame)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Rows that have come.
    pub(super) fn rows_so_far(&self) -> u64 {
        self.total
    }

    fn take(&mut self, root: &RootOutput, mut frame: FlightData) -> Result<Option<FlightData>, FetchError> {
        let metadata = std::mem::replace(&mut frame.app_metadata, Bytes::new());
        if metadata.is_empty() {
            // The stream's own schema is not the client's: that one was sent first. Dictionaries are passed on.
            let schema = root_as_message(&frame.data_header).is_ok_and(|message| message.header_type() == MessageHeader::Schema);
            return Ok((!schema && !frame.data_header.is_empty()).then_some(frame));
        }
        let strange =
            |error: &dyn std::fmt::Display| FetchError(format!("{}: a frame of {} is strange: {error}", root.executor, root.attempt));
        let header = wire::ChunkHeader::decode(metadata).map_err(|error| strange(&error))?;
        match ChunkHeader::try_from(header).map_err(|error| strange(&error))?.kind {
            ChunkKind::Chunk { rows } => {
                self.rows += rows;
                self.total += rows;
                Ok(Some(frame))
            }
            ChunkKind::End { rows, .. } if rows == self.rows => {
                self.rows = 0;
                Ok(None)
            }
            ChunkKind::End { rows, .. } => Err(strange(&format_args!("{} of {rows} rows came", self.rows))),
            ChunkKind::Gone { message } => Err(FetchError(format!("{}: {message}", root.executor))),
        }
    }
}

fn failed(root: &RootOutput, status: &tonic::Status) -> FetchError {
    let address: &Arc<str> = &root.address;
    FetchError(format!("{} at {address}: {}", root.executor, status.message()))
}
