//! Plans to bytes and back, so that a stage runs on another machine.
//!
//! A stage plan is encoded **once**; what its tasks read travels beside it as [`TaskBindings`] and is put in place while
//! the plan is decoded, so that every operator above a leaf is built with the task's own number of partitions.
//! Plans go through a converter of our own ([`fragments`]): protobuf limits how deep messages nest, and with DataFusion's default
//! converter a dynamic filter and its producer decode into two instances, and nothing is pruned.

mod bindings;
mod build_keys;
mod extension;
mod fragments;
mod freshness;
#[cfg(test)]
mod golden;
mod logical;
mod messages;
mod neighbours;
mod page_index;
mod recursive;
mod runtime_filters;
mod sort_pushdown;
mod stores;
mod windows;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_proto::physical_plan::PhysicalPlanDecodeContext;
use prost::Message;

pub use bindings::{
    ColumnBounds, ExchangeSlice, ExchangeSlices, FileGroups, FileSplit, FileSplits, GeneratorSlice, GeneratorSlices, LeafBinding,
    LeafContent, TaskBindings,
};
pub use logical::{RemoteTable, decode_logical_plan, encode_logical_plan};

pub use freshness::check_files;
pub use stores::stores_of;

use crate::extension::Extensions;
use crate::graph::Stage;
use extension::StageCodec;
use fragments::Fragments;

/// Grows when the encoding of plans changes; the build id that executors register with covers DataFusion's own changes.
const VERSION: u8 = 3;

/// The plan of a stage as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanCodec;

impl PlanCodec {
    /// Encodes a stage's plan without the content of its leaves. An operator that neither we nor one of the extensions can encode is refused
    /// by its name.
    pub fn encode_stage(stage: &Stage, extensions: &Extensions) -> Result<Bytes> {
        Self::encode_plan(&stage.plan, extensions)
    }

    /// Encodes a plan without the content of its leaves.
    pub fn encode_plan(plan: &Arc<dyn ExecutionPlan>, extensions: &Extensions) -> Result<Bytes> {
        let codec = StageCodec::encoder(extensions.clone());
        let fragments = Fragments::encode_plan(plan, &codec).map_err(|error| codec.into_refusal().unwrap_or(error))?;
        let mut bytes = BytesMut::with_capacity(fragments.encoded_len() + 1);
        bytes.put_u8(VERSION);
        fragments.encode(&mut bytes).map_err(|e| DataFusionError::Internal(format!("stage plan can't be encoded: {e}")))?;
        Ok(bytes.freeze())
    }

    /// Decodes a plan into an instance of its own for one task. Its root is the stage's `ExchangeWriteExec`.
    pub fn decode_task(plan: &[u8], bindings: TaskBindings, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((&VERSION, plan)) = plan.split_first() else {
            let found = plan.first().map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
            return Err(DataFusionError::Internal(format!("stage plan is {found}, this build reads version {VERSION}")));
        };
        let fragments = Fragments::decode(plan).map_err(|e| DataFusionError::Internal(format!("stage plan can't be decoded: {e}")))?;
        let partitions = bindings.partitions as usize;
        let codec = StageCodec::decoder(bindings, Extensions::of_task(context));
        let plan =
            fragments.decode_plan(&PhysicalPlanDecodeContext::new(context, &codec)).map_err(|error| name_function(error, context))?;
        // An operator that has a partition whatever it reads would give its rows once for each task.
        let built = plan.output_partitioning().partition_count();
        if built != partitions {
            return Err(DataFusionError::Internal(format!("a task of {partitions} partitions was decoded into a plan of {built}")));
        }
        sort_pushdown::redo(plan, context)
    }
}

/// An error about a function that this process does not know, in words that say what to do.
fn name_function(error: DataFusionError, context: &TaskContext) -> DataFusionError {
    let text = error.strip_backtrace();
    match text.find("There is no UD").or_else(|| text.find("PhysicalExtensionCodec is not provided for")) {
        Some(at) => DataFusionError::Plan(format!(
            "this executor was started without a function of the plan, which its scheduler has ({}); its extensions: {}",
            text[at..].lines().next().unwrap_or_default(),
            Extensions::of_task(context).names()
        )),
        None => error,
    }
}
