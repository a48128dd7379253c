//! The operator.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs};
use futures::{Stream, StreamExt};

use super::simplify::simplified;
use super::trial::{Next, SAMPLE_ROWS, Trial};

/// A dynamic filter, and what it saves.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeFilter {
    /// What has to be true of a row.
    pub(crate) predicate: Arc<dyn PhysicalExpr>,
    /// What a row costs, in nanoseconds, that is dropped further up and not here.
    pub(crate) saves: u32,
}

/// Drops rows for which one of its filters is not true, and may let any of them pass: whoever fills the filter drops them too.
#[derive(Debug)]
pub(crate) struct RuntimeFilterExec {
    input: Arc<dyn ExecutionPlan>,
    filters: Vec<RuntimeFilter>,
    metrics: ExecutionPlanMetricsSet,
}

impl RuntimeFilterExec {
    /// `filters` have the columns of `input`.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, filters: Vec<RuntimeFilter>) -> Self {
        Self { input, filters, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What it looks for.
    pub(crate) fn filters(&self) -> &[RuntimeFilter] {
        &self.filters
    }
}

impl DisplayAs for RuntimeFilterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = self.filters.iter().map(|filter| filter.predicate.to_string()).collect::<Vec<_>>();
        write!(f, "RuntimeFilterExec: {}", filters.join(" AND "))
    }
}

impl ExecutionPlan for RuntimeFilterExec {
    fn name(&self) -> &'static str {
        "RuntimeFilterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        let mut go_on = TreeNodeRecursion::Continue;
        for filter in &self.filters {
            go_on = go_on.visit_sibling(|| f(&filter.predicate))?;
        }
        Ok(go_on)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.filters.clone()))),
            _ => Err(DataFusionError::Internal("RuntimeFilterExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size();
        Ok(Box::pin(Rows {
            input: self.input.execute(partition, context)?,
            filters: self.filters.iter().map(Look::new).collect(),
            kept: BatchCoalescer::new(self.schema(), batch_rows).with_biggest_coalesce_batch_size(Some(batch_rows / 2)),
            has_ended: false,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            seen: MetricBuilder::new(&self.metrics).counter("rows_seen", partition),
            dropped: MetricBuilder::new(&self.metrics).counter("rows_dropped", partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(inputs[0].as_ref().clone().to_inexact()))
    }
}

/// The rows of one partition.
struct Rows {
    input: SendableRecordBatchStream,
    filters: Vec<Look>,
    kept: BatchCoalescer,
    has_ended: bool,
    baseline: BaselineMetrics,
    seen: Count,
    dropped: Count,
}

impl Rows {
    /// Takes a batch in.
    fn take(&mut self, mut batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let (mut kept, mut is_seen): (Option<BooleanArray>, _) = (None, false);
        for filter in &mut self.filters {
            let next = filter.trial.next(batch.num_rows());
            if next == Next::Pass || batch.num_rows() == 0 {
                continue;
            }
            if let Some(keep) = kept.take() {
                batch = filter_record_batch(&batch, &keep)?;
            }
            let began = Instant::now();
            let looked_at = if next == Next::Look { batch.clone() } else { batch.slice(0, batch.num_rows().min(SAMPLE_ROWS)) };
            let Some(keep) = filter.matches(&looked_at)? else { continue };
            let dropped = keep.len() - keep.true_count();
            filter.trial.note(keep.len(), dropped, began.elapsed());
            if next == Next::Look {
                is_seen = true;
                kept = (dropped > 0).then_some(keep);
            }
        }
        if is_seen {
            self.seen.add(rows);
            self.dropped.add(rows - kept.as_ref().map_or(batch.num_rows(), BooleanArray::true_count));
        }
        match kept {
            Some(keep) => Ok(self.kept.push_batch_with_filter(batch, &keep)?),
            None => Ok(self.kept.push_batch(batch)?),
        }
    }
}

/// A filter at work on the rows of one partition.
struct Look {
    predicate: Arc<dyn PhysicalExpr>,
    trial: Trial,
    /// What the filter last said, and that in the way in which it is looked up.
    said: Option<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
}

impl Look {
    fn new(filter: &RuntimeFilter) -> Self {
        Self { predicate: Arc::clone(&filter.predicate), trial: Trial::new(filter.saves), said: None }
    }

    /// For which rows the filter is true; `None` as long as it is not filled.
    fn matches(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let current = match self.predicate.downcast_ref::<DynamicFilterPhysicalExpr>() {
            Some(filter) => filter.current()?,
            None => Arc::clone(&self.predicate),
        };
        let (_, quick) = match self.said.take().filter(|(said, _)| Arc::ptr_eq(said, &current)) {
            Some(known) => self.said.insert(known),
            None => {
                let quick = simplified(Arc::clone(&current), batch.schema_ref())?;
                self.said.insert((current, quick))
            }
        };
        match quick.evaluate(batch)? {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => Ok(None),
            ColumnarValue::Scalar(_) => Ok(Some(BooleanArray::from(vec![false; batch.num_rows()]))),
            ColumnarValue::Array(keep) => Ok(Some(as_boolean_array(&keep)?.clone())),
        }
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(batch) = this.kept.next_completed_batch() {
                return this.baseline.record_poll(Poll::Ready(Some(Ok(batch))));
            }
            if this.has_ended {
                return Poll::Ready(None);
            }
            let next = ready!(this.input.poll_next_unpin(context));
            let elapsed = this.baseline.elapsed_compute().clone();
            let _timer = elapsed.timer();
            let taken = match next {
                Some(Ok(batch)) => this.take(batch),
                Some(Err(error)) => Err(error),
                None => {
                    this.has_ended = true;
                    this.kept.finish_buffered_batch().map_err(DataFusionError::from)
                }
            };
            if let Err(error) = taken {
                this.has_ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl RecordBatchStream for Rows {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
