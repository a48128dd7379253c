//! The leaf that generates a table's rows.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use super::suite::{Batches, GeneratedTable, column_bytes};

/// Part `part` of `of` equal parts of a table, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeneratorSplit {
    /// Which part.
    pub part: u32,
    /// Of how many.
    pub of: u32,
}

/// Generates the rows of a table: each partition its splits, one after another.
#[derive(Debug, Clone)]
pub struct GeneratorExec {
    table: GeneratedTable,
    partitions: Vec<Vec<GeneratorSplit>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GeneratorExec {
    /// A scan of `table` with these partitions, giving the columns of `projection` (by index, in its order) or all of them.
    pub fn new(table: GeneratedTable, partitions: Vec<Vec<GeneratorSplit>>, projection: Option<Vec<usize>>) -> Result<Self> {
        let schema = project(&table.schema(), projection.as_deref())?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { table, partitions, projection, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// The table.
    pub fn table(&self) -> GeneratedTable {
        self.table
    }

    /// What each partition generates.
    pub fn partitions(&self) -> &[Vec<GeneratorSplit>] {
        &self.partitions
    }

    /// The columns that it gives, by index in the table's schema; `None` for all.
    pub fn projection(&self) -> Option<&[usize]> {
        self.projection.as_deref()
    }

    /// The same scan with other partitions.
    pub fn with_partitions(&self, partitions: Vec<Vec<GeneratorSplit>>) -> Result<Self> {
        Self::new(self.table, partitions, self.projection.clone())
    }

    /// Estimated bytes of one of `of` parts, with the projected columns.
    pub fn split_bytes(&self, split: GeneratorSplit) -> usize {
        let rows = self.table.rows().get_value().copied().unwrap_or(0) / (split.of.max(1) as usize);
        rows.saturating_mul(self.row_bytes())
    }

    fn row_bytes(&self) -> usize {
        self.properties.eq_properties.schema().fields().iter().map(|field| column_bytes(field.data_type())).sum()
    }

    /// The share of the table that some splits are.
    fn statistics(&self, splits: impl Iterator<Item = GeneratorSplit>) -> Statistics {
        let share: f64 = splits.map(|split| 1.0 / f64::from(split.of.max(1))).sum();
        let whole = share > 1.0 - 1e-9;
        let num_rows = match self.table.rows() {
            exact @ Precision::Exact(_) if whole => exact,
            rows => rows.map(|rows| (rows as f64 * share) as usize).to_inexact(),
        };
        let row_bytes = self.row_bytes();
        let schema = self.properties.eq_properties.schema();
        let column_statistics = schema
            .fields()
            .iter()
            .map(|field| ColumnStatistics {
                null_count: if field.is_nullable() { Precision::Absent } else { Precision::Exact(0) },
                ..ColumnStatistics::new_unknown()
            })
            .collect();
        Statistics { num_rows, total_byte_size: num_rows.map(|rows| rows * row_bytes).to_inexact(), column_statistics }
    }
}

impl DisplayAs for GeneratorExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.properties.eq_properties.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let splits: usize = self.partitions.iter().map(Vec::len).sum();
        write!(f, "GeneratorExec: {}, splits={splits}, columns=[{}]", self.table, columns.join(", "))
    }
}

impl ExecutionPlan for GeneratorExec {
    fn name(&self) -> &'static str {
        "GeneratorExec"
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
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("GeneratorExec has no children".into())) }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(splits) = self.partitions.get(partition) else {
            let count = self.partitions.len();
            return Err(DataFusionError::Internal(format!("{} has no partition {partition} of {count}", self.table)));
        };
        let rows = Rows {
            table: self.table,
            splits: splits.clone().into_iter(),
            current: None,
            projection: self.projection.clone(),
            batch_size: context.session_config().batch_size().max(1),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::iter(rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let splits = match args.partition() {
            Some(partition) => self.partitions.get(partition..=partition).unwrap_or_default(),
            None => &self.partitions,
        };
        Ok(Arc::new(self.statistics(splits.iter().flatten().copied())))
    }
}

/// The rows of some splits, generated as they are asked for.
struct Rows {
    table: GeneratedTable,
    splits: std::vec::IntoIter<GeneratorSplit>,
    current: Option<Batches>,
    projection: Option<Vec<usize>>,
    batch_size: usize,
    metrics: BaselineMetrics,
}

impl Rows {
    /// The next batch of the current split, or of the next one that has rows.
    fn generate(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.current.as_mut().and_then(Iterator::next) {
                return Ok(Some(batch?));
            }
            let Some(split) = self.splits.next() else {
                return Ok(None);
            };
            self.current = Some(self.table.generate(split, self.batch_size)?);
        }
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let elapsed = self.metrics.elapsed_compute().clone();
        let timer = elapsed.timer();
        let batch = self.generate().and_then(|batch| match (&self.projection, batch) {
            (Some(projection), Some(batch)) => Ok(Some(batch.project(projection)?)),
            (_, batch) => Ok(batch),
        });
        timer.done();
        if let Ok(Some(batch)) = &batch {
            self.metrics.record_output(batch.num_rows());
        }
        batch.transpose()
    }
}

fn project(schema: &SchemaRef, projection: Option<&[usize]>) -> Result<SchemaRef, ArrowError> {
    match projection {
        Some(projection) => Ok(Arc::new(schema.project(projection)?)),
        None => Ok(Arc::clone(schema)),
    }
}
