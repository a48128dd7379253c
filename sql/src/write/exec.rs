//! The operator that writes.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties};

use super::sink::write_partition;
use super::spec::WriteSpec;
use super::staged::{StagedFile, staged_schema};

/// Writes each partition of its input to files of its own in the staging place, and gives a row for each: [`StagedFile`].
///
/// Every execution draws new file names, so attempts of one task never meet.
#[derive(Debug)]
pub struct StagedWriteExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    /// Number of its first partition in the whole stage, so that the files of all tasks sort as their rows do.
    first_partition: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StagedWriteExec {
    /// Writes `input`, whose partitions are numbered from `first_partition` in the whole write. For a single file it is brought into one
    /// partition, in its order if it has one.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, spec: WriteSpec, first_partition: usize) -> Result<Self> {
        if let Some(column) = spec.partition_by.iter().find(|column| input.schema().index_of(column).is_err()) {
            return Err(DataFusionError::Plan(format!("can't partition by '{column}': the rows have no such column")));
        }
        let several = input.output_partitioning().partition_count() > 1;
        let input = match input.output_ordering().cloned() {
            Some(order) if spec.single_file() && several => Arc::new(SortPreservingMergeExec::new(order, input)) as _,
            None if spec.single_file() && several => Arc::new(CoalescePartitionsExec::new(input)) as _,
            _ => input,
        };
        Ok(Self::new(input, Arc::new(spec), first_partition))
    }

    fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<WriteSpec>, first_partition: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(staged_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            input.boundedness(),
        );
        Self { input, spec, first_partition, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What it writes, where and how.
    pub fn spec(&self) -> &Arc<WriteSpec> {
        &self.spec
    }

    /// The rows that it writes.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for StagedWriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedWriteExec: format={}, ", self.spec.format)?;
        match &self.spec.table {
            Some(table) => write!(f, "table={}.{}", table.schema, table.name)?,
            None if self.spec.delta.is_some() => write!(f, "delta={}", self.spec.url)?,
            None => write!(f, "url={}", self.spec.url)?,
        }
        if !self.spec.partition_by.is_empty() {
            write!(f, ", partition_by=[{}]", self.spec.partition_by.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for StagedWriteExec {
    fn name(&self) -> &'static str {
        "StagedWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, Arc::clone(&self.spec), self.first_partition))),
            _ => Err(DataFusionError::Internal("StagedWriteExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let spec = Arc::clone(&self.spec);
        let number = self.first_partition + partition;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let rows_written = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let bytes_written = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let write = async move {
            let name = format!("{number:05}-{}", uuid::Uuid::new_v4().simple());
            let files = write_partition(&spec, &name, input, &context).await?;
            rows_written.add(files.iter().map(|file| file.rows as usize).sum());
            bytes_written.add(files.iter().map(|file| file.bytes as usize).sum());
            baseline.record_output(files.len());
            StagedFile::to_batch(&files)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(staged_schema(), futures::stream::once(write))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
