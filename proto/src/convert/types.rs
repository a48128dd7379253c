//! What several conversations share.

use super::error::{ConvertError, all, each, executor, kind, required, same_length};
use crate::failure::{Failure, Remedy};
use crate::ids::{AttemptId, JobId, SessionId, StageId, TaskId};
use crate::job::{JobOwner, Speculation, TraceContext};
use crate::stage::{Edge, InputRead, StageInput, StageShape};
use crate::task::PartitionStats;
use crate::wire::types::v1 as wire;

impl From<AttemptId> for wire::AttemptId {
    fn from(id: AttemptId) -> Self {
        Self { job: id.task.job.0, stage: id.task.stage.0, task: id.task.index, attempt: id.number }
    }
}

impl From<wire::AttemptId> for AttemptId {
    fn from(id: wire::AttemptId) -> Self {
        TaskId::new(JobId(id.job), StageId(id.stage), id.task).attempt(id.attempt)
    }
}

/// The attempt that a message must name.
pub(super) fn attempt(id: Option<wire::AttemptId>, message: &'static str, field: &'static str) -> Result<AttemptId, ConvertError> {
    required(id, message, field).map(AttemptId::from)
}

pub(super) fn settings_to_wire(settings: Vec<(String, String)>) -> Vec<wire::Setting> {
    settings.into_iter().map(|(name, value)| wire::Setting { name, value }).collect()
}

pub(super) fn settings_from_wire(settings: Vec<wire::Setting>) -> Vec<(String, String)> {
    settings.into_iter().map(|setting| (setting.name, setting.value)).collect()
}

impl From<TraceContext> for wire::TraceContext {
    fn from(trace: TraceContext) -> Self {
        Self { traceparent: trace.traceparent, tracestate: trace.tracestate }
    }
}

/// The trace, or none where none was sent.
pub(super) fn trace_from_wire(trace: Option<wire::TraceContext>) -> TraceContext {
    trace.map_or_else(TraceContext::default, |trace| TraceContext { traceparent: trace.traceparent, tracestate: trace.tracestate })
}

/// A trace for the wire: none where there is nothing in it.
pub(super) fn trace_to_wire(trace: TraceContext) -> Option<wire::TraceContext> {
    if trace == TraceContext::default() { None } else { Some(trace.into()) }
}

impl From<Failure> for wire::Failure {
    fn from(failure: Failure) -> Self {
        use wire::failure::{Nothing, Remedy as Wire, Rerun};
        let remedy = match failure.remedy {
            Remedy::Retry => Wire::Retry(Nothing {}),
            Remedy::Rerun { producer, executor } => {
                Wire::Rerun(Rerun { producer: Some(producer.into()), executor: executor.as_str().to_owned() })
            }
            Remedy::Resources => Wire::Resources(Nothing {}),
            Remedy::Query => Wire::Query(Nothing {}),
            Remedy::Cancelled => Wire::Cancelled(Nothing {}),
            Remedy::Internal => Wire::Internal(Nothing {}),
        };
        Self { message: failure.message, remedy: Some(remedy) }
    }
}

impl TryFrom<wire::Failure> for Failure {
    type Error = ConvertError;

    fn try_from(failure: wire::Failure) -> Result<Self, ConvertError> {
        use wire::failure::Remedy as Wire;
        let remedy = match kind(failure.remedy, "Failure", "remedy")? {
            Wire::Retry(_) => Remedy::Retry,
            Wire::Rerun(rerun) => Remedy::Rerun {
                producer: attempt(rerun.producer, "Failure.Rerun", "producer")?,
                executor: executor(rerun.executor, "Failure.Rerun", "executor")?,
            },
            Wire::Resources(_) => Remedy::Resources,
            Wire::Query(_) => Remedy::Query,
            Wire::Cancelled(_) => Remedy::Cancelled,
            Wire::Internal(_) => Remedy::Internal,
        };
        Ok(Self { remedy, message: failure.message })
    }
}

impl From<JobOwner> for wire::JobOwner {
    fn from(owner: JobOwner) -> Self {
        Self {
            principal: owner.principal,
            queue: owner.queue,
            weight: owner.weight,
            timeout_ms: owner.timeout_ms,
            memory_bytes: owner.memory_bytes,
            session: owner.session.as_str().to_owned(),
            speculation: match owner.speculation {
                Speculation::Never => wire::Speculation::Never,
                Speculation::BelowRoot => wire::Speculation::BelowRoot,
                Speculation::Always => wire::Speculation::Always,
            }
            .into(),
        }
    }
}

impl From<wire::JobOwner> for JobOwner {
    fn from(owner: wire::JobOwner) -> Self {
        let speculation = match owner.speculation() {
            wire::Speculation::Never => Speculation::Never,
            wire::Speculation::Unspecified | wire::Speculation::BelowRoot => Speculation::BelowRoot,
            wire::Speculation::Always => Speculation::Always,
        };
        Self {
            principal: owner.principal,
            queue: owner.queue,
            // A share of nothing would starve the job.
            weight: owner.weight.max(1),
            timeout_ms: owner.timeout_ms,
            memory_bytes: owner.memory_bytes,
            session: SessionId::new(owner.session),
            speculation,
        }
    }
}

impl From<StageInput> for wire::StageInput {
    fn from(input: StageInput) -> Self {
        let edge = match input.edge {
            Edge::Sealed => wire::Edge::Sealed,
            Edge::Streaming => wire::Edge::Streaming,
        };
        let read = match input.read {
            InputRead::Slice => wire::InputRead::Slice,
            InputRead::All => wire::InputRead::All,
        };
        Self { producer: input.producer.0, edge: edge.into(), read: read.into() }
    }
}

impl TryFrom<wire::StageInput> for StageInput {
    type Error = ConvertError;

    fn try_from(input: wire::StageInput) -> Result<Self, ConvertError> {
        let unknown = |field, value| ConvertError::UnknownValue { message: "StageInput", field, value };
        let edge = match wire::Edge::try_from(input.edge) {
            Ok(wire::Edge::Sealed) => Edge::Sealed,
            Ok(wire::Edge::Streaming) => Edge::Streaming,
            Ok(wire::Edge::Unspecified) | Err(_) => return Err(unknown("edge", input.edge)),
        };
        let read = match wire::InputRead::try_from(input.read) {
            Ok(wire::InputRead::Slice) => InputRead::Slice,
            Ok(wire::InputRead::All) => InputRead::All,
            Ok(wire::InputRead::Unspecified) | Err(_) => return Err(unknown("read", input.read)),
        };
        Ok(Self { producer: StageId(input.producer), edge, read })
    }
}

impl From<StageShape> for wire::StageShape {
    fn from(shape: StageShape) -> Self {
        Self {
            id: shape.id.0,
            inputs: all(shape.inputs),
            tasks: shape.tasks,
            slots_per_task: shape.slots_per_task,
            output_partitions: shape.output_partitions,
            deterministic: shape.deterministic,
        }
    }
}

impl TryFrom<wire::StageShape> for StageShape {
    type Error = ConvertError;

    fn try_from(shape: wire::StageShape) -> Result<Self, ConvertError> {
        Ok(Self {
            id: StageId(shape.id),
            inputs: each(shape.inputs)?,
            tasks: shape.tasks,
            slots_per_task: shape.slots_per_task,
            output_partitions: shape.output_partitions,
            deterministic: shape.deterministic,
        })
    }
}

pub(super) fn sizes_to_wire(outputs: &[PartitionStats]) -> wire::PartitionSizes {
    wire::PartitionSizes {
        rows: outputs.iter().map(|output| output.rows).collect(),
        bytes: outputs.iter().map(|output| output.bytes).collect(),
    }
}

pub(super) fn sizes_from_wire(sizes: wire::PartitionSizes) -> Result<Vec<PartitionStats>, ConvertError> {
    same_length(sizes.bytes.len(), sizes.rows.len(), "PartitionSizes", "bytes")?;
    Ok(sizes.rows.into_iter().zip(sizes.bytes).map(|(rows, bytes)| PartitionStats { rows, bytes }).collect())
}
