//! The stage graph: what the planner makes of a plan and the scheduler runs.

mod validate;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::ExecutionPlan;
use volley_proto::{StageId, StageShape};

use crate::codec::TaskBindings;
use crate::exchange::Exchange;

/// One stage: a plan that is encoded once, and what each of its tasks binds into it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What the scheduling machine sees.
    pub shape: StageShape,
    /// The plan, whose root is an `ExchangeWriteExec` and whose leaves are unbound.
    pub plan: Arc<dyn ExecutionPlan>,
    /// How its rows are spread.
    pub output: Exchange,
    /// One entry for each task.
    pub tasks: Vec<TaskBindings>,
    /// What was changed about its tasks while the job ran, and why, for people.
    pub adapted: Option<String>,
}

/// The stages of a job, producers before consumers; the last one is the root.
#[derive(Debug, Clone)]
pub struct StageGraph {
    /// By `StageId`, dense from 0.
    pub stages: Vec<Stage>,
    /// The schema of the job's result.
    pub schema: SchemaRef,
}

impl StageGraph {
    /// The stage whose output is the result.
    pub fn root(&self) -> StageId {
        StageId(self.stages.len().saturating_sub(1) as u32)
    }
}

/// What the planner knows of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterShape {
    /// Live executors, at least 1.
    pub executors: usize,
    /// Slots of all executors together.
    pub slots: usize,
    /// Slots of the largest executor.
    pub largest_slots: usize,
    /// Bytes of memory of the smallest executor.
    pub memory_bytes: u64,
}
