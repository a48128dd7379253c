//! A job's plan in the journal, from which a later scheduler runs what is left of it.

use std::sync::Arc;

use arrow_flight::{IpcMessage, SchemaAsIpc};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use volley_proto::JobId;
use volley_proto::journal::{JobEvent, StageWork};
use volley_proto::{StagePlan, StageShape};
use volley_sql::build_id;
use volley_sql::extension::Extensions;

use super::PlannedJob;
use super::plan::PlannedStage;

/// The version of every plan of a job as a later scheduler has it.
const VERSION: u32 = 0;

impl PlannedJob {
    /// The plan as an event of `job`, which has this weight.
    pub(crate) fn to_event(&self, job: JobId, weight: u32) -> Result<JobEvent, ArrowError> {
        let IpcMessage(schema) = SchemaAsIpc::new(&self.schema, &IpcWriteOptions::default()).try_into()?;
        let work = self.stages.iter().filter_map(|stage| {
            let plan = self.stage_plan(job, stage.shape.id, VERSION, weight)?;
            let PlannedStage { bindings, partitions, output, operators, .. } = stage;
            let (bindings, output, operators) = (bindings.clone(), output.clone(), operators.clone());
            Some(StageWork { plan, bindings, partitions: *partitions, output, operators })
        });
        Ok(JobEvent::Planned { stages: self.shapes(), build: build_id(), schema, work: work.collect() })
    }

    /// A plan that an event tells: `shapes` and `work` by stage, and the schema of the result.
    pub(crate) fn from_event(shapes: Vec<StageShape>, schema: bytes::Bytes, work: Vec<StageWork>) -> Result<Self, ArrowError> {
        let schema = Arc::new(Schema::try_from(IpcMessage(schema))?);
        let settings = work.first().map(|stage| stage.plan.settings.clone()).unwrap_or_default();
        let stage = |(shape, work): (StageShape, StageWork)| {
            let StageWork { plan: StagePlan { plan, depth, stores, .. }, bindings, partitions, output, operators } = work;
            PlannedStage { shape, partitions, output, operators, adapted: None, plan, bindings, depth, stores }
        };
        let stages = shapes.into_iter().zip(work).map(stage).collect();
        // Without the graph nothing is adapted any more.
        Ok(Self { schema, stages, graph: None, settings, extensions: Extensions::default(), is_small: false, adapting: None })
    }
}
