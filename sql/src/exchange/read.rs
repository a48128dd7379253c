//! The leaf of a stage's plan that reads another stage's output.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use volley_proto::{PartitionId, StageId};

use super::{Share, TaskIo, Wave};

/// Which of the rows of its exchange partitions a local partition reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which of the producer's tasks.
    pub share: Share,
    /// Of which keys; of all where there is none.
    pub wave: Option<Wave>,
}

impl Part {
    /// All rows.
    pub const WHOLE: Self = Self { share: Share::WHOLE, wave: None };
}

/// Reads exchange partitions of one input of the stage.
///
/// In a planned stage it has one partition for each partition of the stage; a task binds the slice that it reads. Its
/// partitioning is always unknown: an operator above that routed by `hash % partitions` of a task's instance would miss rows.
#[derive(Debug, Clone)]
pub struct ExchangeReadExec {
    input: usize,
    producer: StageId,
    partitions: Vec<Vec<PartitionId>>,
    /// Of each local partition; all of them whole where there is none.
    parts: Vec<Part>,
    orderings: Vec<LexOrdering>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeReadExec {
    /// Reads input `input` of its stage, whose producer is `producer`: local partition `i` reads `partitions[i]`.
    ///
    /// `orderings` are what each exchange partition is sorted by; they hold only where each local partition reads one
    /// exchange partition that one producer task wrote (a gather).
    pub fn new(input: usize, producer: StageId, schema: SchemaRef, partitions: Vec<Vec<PartitionId>>, orderings: Vec<LexOrdering>) -> Self {
        let partitioning = Partitioning::UnknownPartitioning(partitions.len());
        let equivalence = EquivalenceProperties::new_with_orderings(schema, orderings.clone());
        let properties = PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded)
            .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            input,
            producer,
            partitions,
            parts: vec![],
            orderings,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The place among the stage's inputs.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The stage whose output is read.
    pub fn producer(&self) -> StageId {
        self.producer
    }

    /// What each local partition reads.
    pub fn partitions(&self) -> &[Vec<PartitionId>] {
        &self.partitions
    }

    /// What each exchange partition is sorted by.
    pub fn orderings(&self) -> &[LexOrdering] {
        &self.orderings
    }

    /// The same exchange as input `input` of its stage.
    #[must_use]
    pub fn as_input(&self, input: usize) -> Self {
        Self { input, metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }
    }

    /// The same input, with the partitions that one task reads, and what of them where they are not read whole.
    pub fn with_partitions(&self, partitions: Vec<Vec<PartitionId>>, parts: Vec<Part>) -> Self {
        Self { parts, ..Self::new(self.input, self.producer, self.schema(), partitions, self.orderings.clone()) }
    }
}

impl DisplayAs for ExchangeReadExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeReadExec: from={}, partitions={}", self.producer, self.partitions.len())
    }
}

impl ExecutionPlan for ExchangeReadExec {
    fn name(&self) -> &'static str {
        "ExchangeReadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("ExchangeReadExec is a leaf".into())) }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(partitions) = self.partitions.get(partition) else {
            return Err(DataFusionError::Internal(format!("ExchangeReadExec has no partition {partition} of {}", self.partitions.len())));
        };
        let Part { share, wave } = self.parts.get(partition).cloned().unwrap_or(Part::WHOLE);
        let stream = TaskIo::of(&context)?.source.read_share(self.input, partitions, share, self.schema())?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let in_wave = stream.map(move |batch| match &wave {
            Some(wave) => batch.and_then(|batch| wave.rows_of(&batch)),
            None => batch,
        });
        let counted = in_wave.inspect(move |batch| {
            if let Ok(batch) = batch {
                baseline.record_output(batch.num_rows());
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
