//! The operator in the physical plan.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, BooleanBuilder, FixedSizeBinaryArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;
use parking_lot::Mutex;

use super::row_id::{BATCH_BYTES, ID_TYPE};

/// Bytes that the set takes for a batch besides the bits, about.
const BATCH_OVERHEAD: usize = 64;

/// What becomes of further matches of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FurtherMatches {
    /// The statement fails: which of the matches counts would be chance.
    Refused,
    /// They are left out: nothing is taken from a match.
    Dropped,
}

/// Gives the rows of its input, of those with the same id one. Rows without an id, which are in no row of the target, all come.
#[derive(Debug)]
pub(crate) struct OneMatchExec {
    input: Arc<dyn ExecutionPlan>,
    id: usize,
    further: FurtherMatches,
    /// Of all partitions: where a join collects the target, its rows are matched in each of them.
    seen: Arc<Mutex<SeenRows>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OneMatchExec {
    /// Column `id` of `input` is what [`super::RowId`] gives, or NULL.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, id: usize, further: FurtherMatches) -> Result<Self> {
        let is_id = input.schema().fields().get(id).is_some_and(|field| *field.data_type() == ID_TYPE);
        if !is_id {
            return Err(DataFusionError::Internal(format!("column {id} of the rows to merge has no ids")));
        }
        let properties = PlanProperties::new(
            input.equivalence_properties().clone(),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        let (seen, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Ok(Self { input, id, further, seen, properties: Arc::new(properties), metrics })
    }

    /// The column of ids.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// What becomes of further rows with an id.
    pub(crate) fn further(&self) -> FurtherMatches {
        self.further
    }
}

impl DisplayAs for OneMatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneMatchExec: further={:?}", self.further)
    }
}

impl ExecutionPlan for OneMatchExec {
    fn name(&self) -> &'static str {
        "OneMatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Nothing may come between it and the join: its rows would reach other tasks.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, self.id, self.further)?)),
            _ => Err(DataFusionError::Internal("OneMatchExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let (id, further, seen) = (self.id, self.further, Arc::clone(&self.seen));
        seen.lock().memory.get_or_insert_with(|| MemoryConsumer::new("OneMatchExec").register(context.memory_pool()));
        let rows = input.map(move |batch| {
            let batch = {
                let _timer = baseline.elapsed_compute().timer();
                seen.lock().first_of_each(batch?, id, further)?
            };
            baseline.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The rows that were seen: a bit for each, by their batch.
#[derive(Debug, Default)]
struct SeenRows {
    batches: HashMap<[u8; BATCH_BYTES], Vec<u64>>,
    memory: Option<MemoryReservation>,
}

impl SeenRows {
    fn first_of_each(&mut self, batch: RecordBatch, id: usize, further: FurtherMatches) -> Result<RecordBatch> {
        let ids: &FixedSizeBinaryArray =
            batch.column(id).as_any().downcast_ref().ok_or_else(|| DataFusionError::Internal("the rows to merge have no ids".into()))?;
        let mut is_first = BooleanBuilder::with_capacity(ids.len());
        for row in 0..ids.len() {
            is_first.append_value(ids.is_null(row) || self.insert(ids.value(row))?);
        }
        let is_first: BooleanArray = is_first.finish();
        match (is_first.has_false(), further) {
            (false, _) => Ok(batch),
            (true, FurtherMatches::Dropped) => Ok(filter_record_batch(&batch, &is_first)?),
            (true, FurtherMatches::Refused) => Err(DataFusionError::Execution(
                "MERGE found several rows of the source for one row of the table, and could do with one only: make the source's rows unique \
                 in what ON compares, with GROUP BY or with row_number() OVER (PARTITION BY ..) = 1"
                    .into(),
            )),
        }
    }

    /// Whether the row is new.
    fn insert(&mut self, id: &[u8]) -> Result<bool> {
        let (batch, row) = id.split_at_checked(BATCH_BYTES).ok_or_else(|| wrong_id(id))?;
        let batch: [u8; BATCH_BYTES] = batch.try_into().map_err(|_| wrong_id(id))?;
        let row = u32::from_be_bytes(row.try_into().map_err(|_| wrong_id(id))?) as usize;
        let (word, bit) = (row / 64, 1u64 << (row % 64));
        let rows = self.batches.entry(batch).or_default();
        if rows.len() <= word {
            if let Some(memory) = &self.memory {
                memory.try_grow((word + 1 - rows.len()) * size_of::<u64>() + if rows.is_empty() { BATCH_OVERHEAD } else { 0 })?;
            }
            rows.resize(word + 1, 0);
        }
        let is_new = rows[word] & bit == 0;
        rows[word] |= bit;
        Ok(is_new)
    }
}

fn wrong_id(id: &[u8]) -> DataFusionError {
    DataFusionError::Internal(format!("{} bytes are no id of a row to merge", id.len()))
}
