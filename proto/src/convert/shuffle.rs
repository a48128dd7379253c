//! Exchanges over Flight.

use super::error::{ConvertError, all, each, executor, kind, required, same_length};
use crate::ids::{Incarnation, JobId, PartitionId, StageId, Term};
use crate::shuffle::{ChunkHeader, ChunkKind, Compression, ExchangeTicket, ReaderMessage, Selection, TaskAttempt};
use crate::wire::shuffle::v1 as wire;

impl From<Selection> for wire::Selection {
    fn from(selection: Selection) -> Self {
        Self {
            partition: selection.partitions.into_iter().map(|partition| partition.0).collect(),
            task: selection.attempts.iter().map(|attempt| attempt.task).collect(),
            attempt: selection.attempts.iter().map(|attempt| attempt.attempt).collect(),
        }
    }
}

impl TryFrom<wire::Selection> for Selection {
    type Error = ConvertError;

    fn try_from(selection: wire::Selection) -> Result<Self, ConvertError> {
        same_length(selection.attempt.len(), selection.task.len(), "Selection", "attempt")?;
        Ok(Self {
            partitions: selection.partition.into_iter().map(PartitionId).collect(),
            attempts: (selection.task.into_iter().zip(selection.attempt)).map(|(task, attempt)| TaskAttempt { task, attempt }).collect(),
        })
    }
}

impl From<ExchangeTicket> for wire::ExchangeTicket {
    fn from(ticket: ExchangeTicket) -> Self {
        let compression = match ticket.compression {
            Compression::None => wire::Compression::None,
            Compression::Lz4 => wire::Compression::Lz4,
        };
        Self {
            term: ticket.term.0,
            job: ticket.job.0,
            stage: ticket.stage.0,
            executor: ticket.executor.as_str().to_owned(),
            incarnation: ticket.incarnation.0,
            compression: compression.into(),
            selections: all(ticket.selections),
        }
    }
}

impl TryFrom<wire::ExchangeTicket> for ExchangeTicket {
    type Error = ConvertError;

    fn try_from(ticket: wire::ExchangeTicket) -> Result<Self, ConvertError> {
        const MESSAGE: &str = "ExchangeTicket";
        let compression = match wire::Compression::try_from(ticket.compression) {
            Ok(wire::Compression::None) => Compression::None,
            Ok(wire::Compression::Lz4) => Compression::Lz4,
            Ok(wire::Compression::Unspecified) | Err(_) => {
                return Err(ConvertError::UnknownValue { message: MESSAGE, field: "compression", value: ticket.compression });
            }
        };
        Ok(Self {
            term: Term(ticket.term),
            job: JobId(ticket.job),
            stage: StageId(ticket.stage),
            executor: executor(ticket.executor, MESSAGE, "executor")?,
            incarnation: Incarnation(ticket.incarnation),
            compression,
            selections: each(ticket.selections)?,
        })
    }
}

impl From<ReaderMessage> for wire::ReaderMessage {
    fn from(message: ReaderMessage) -> Self {
        use wire::reader_message::Request;
        let request = match message {
            ReaderMessage::Subscribe { subscription, selection, credit_bytes } => {
                Request::Subscribe(wire::Subscribe { subscription, selection: Some(selection.into()), credit_bytes })
            }
            ReaderMessage::Credit { subscription, partition, bytes } => {
                Request::Credit(wire::Credit { subscription, partition: partition.0, bytes })
            }
            ReaderMessage::Unsubscribe { subscription, partition } => {
                Request::Unsubscribe(wire::Unsubscribe { subscription, partition: partition.map(|partition| partition.0) })
            }
        };
        Self { request: Some(request) }
    }
}

impl TryFrom<wire::ReaderMessage> for ReaderMessage {
    type Error = ConvertError;

    fn try_from(message: wire::ReaderMessage) -> Result<Self, ConvertError> {
        use wire::reader_message::Request;
        Ok(match kind(message.request, "ReaderMessage", "request")? {
            Request::Subscribe(subscribe) => Self::Subscribe {
                subscription: subscribe.subscription,
                selection: required(subscribe.selection, "Subscribe", "selection")?.try_into()?,
                credit_bytes: subscribe.credit_bytes,
            },
            Request::Credit(credit) => {
                Self::Credit { subscription: credit.subscription, partition: PartitionId(credit.partition), bytes: credit.bytes }
            }
            Request::Unsubscribe(unsubscribe) => {
                Self::Unsubscribe { subscription: unsubscribe.subscription, partition: unsubscribe.partition.map(PartitionId) }
            }
        })
    }
}

impl From<ChunkHeader> for wire::ChunkHeader {
    fn from(header: ChunkHeader) -> Self {
        use wire::chunk_header::{Chunk, End, Gone, Kind};
        let kind = match header.kind {
            ChunkKind::Chunk { rows } => Kind::Chunk(Chunk { rows }),
            ChunkKind::End { rows, chunks, checksum } => Kind::End(End { rows, chunks, checksum }),
            ChunkKind::Gone { message } => Kind::Gone(Gone { message }),
        };
        Self {
            subscription: header.subscription,
            partition: header.partition.0,
            task: header.attempt.task,
            attempt: header.attempt.attempt,
            kind: Some(kind),
        }
    }
}

impl TryFrom<wire::ChunkHeader> for ChunkHeader {
    type Error = ConvertError;

    fn try_from(header: wire::ChunkHeader) -> Result<Self, ConvertError> {
        use wire::chunk_header::Kind;
        let kind = match kind(header.kind, "ChunkHeader", "kind")? {
            Kind::Chunk(chunk) => ChunkKind::Chunk { rows: chunk.rows },
            Kind::End(end) => ChunkKind::End { rows: end.rows, chunks: end.chunks, checksum: end.checksum },
            Kind::Gone(gone) => ChunkKind::Gone { message: gone.message },
        };
        Ok(Self {
            subscription: header.subscription,
            partition: PartitionId(header.partition),
            attempt: TaskAttempt { task: header.task, attempt: header.attempt },
            kind,
        })
    }
}
