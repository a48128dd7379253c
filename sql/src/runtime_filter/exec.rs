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

/// Batches from which it is found out how many rows a filter lets pass.
const MEASURED_BATCHES: u32 = 4;

/// A dynamic filter, and what it saves.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeFilter {
    /// What has to be true of a row.
    pub(crate) predicate: Arc<dyn PhysicalExpr>,
    /// What rows cross from here to the join that fills the filter, that one last. Empty where that join is the next operator, which looks
    /// rows up as quickly: then the filter only tells how many rows go on from there.
    pub(crate) way: Vec<Step>,
}

/// An operator that rows cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// What a row costs there, in nanoseconds.
    pub(crate) costs: u32,
    /// The filter, by its place, that tells which rows come out of it.
    pub(crate) filter: Option<usize>,
}

/// What a row costs, in nanoseconds, that is dropped at the end of its way and not before; `passes` is the share of rows that each filter lets
/// pass. Rows that an operator on the way drops cost nothing further up.
fn saved(way: &[Step], passes: impl Fn(usize) -> f64) -> f64 {
    let (mut arriving, mut saved) = (1.0, 0.0);
    for step in way {
        saved += arriving * f64::from(step.costs);
        arriving *= step.filter.map_or(1.0, &passes);
    }
    saved
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
        let used = self.filters.iter().filter(|filter| !filter.way.is_empty());
        let filters = used.map(|filter| filter.predicate.to_string()).collect::<Vec<_>>();
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
            measured: 0,
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
    /// Batches from which it was found out how many rows pass.
    measured: u32,
    baseline: BaselineMetrics,
    seen: Count,
    dropped: Count,
}

impl Rows {
    /// Takes a batch in.
    fn take(&mut self, mut batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        self.measure(&batch)?;
        let mut passes: Vec<f64> = self.filters.iter().map(Look::passes).collect();
        let (mut kept, mut is_seen): (Option<BooleanArray>, _) = (None, false);
        for (place, filter) in self.filters.iter_mut().enumerate().filter(|(_, filter)| !filter.way.is_empty()) {
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
            filter.trial.note(keep.len(), dropped, began.elapsed(), saved(&filter.way, |place| passes[place]));
            if next == Next::Look {
                // The rows that are left all pass its join.
                passes[place] = 1.0;
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

impl Rows {
    /// Finds out how many rows filters let pass that stand between here and other filters' joins, from the first batches.
    fn measure(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 || self.measured >= MEASURED_BATCHES {
            return Ok(());
        }
        let mut is_measured = true;
        let on_the_way: Vec<usize> = self.filters.iter().flat_map(|filter| &filter.way).filter_map(|step| step.filter).collect();
        let sample = batch.slice(0, batch.num_rows().min(SAMPLE_ROWS));
        for (_, filter) in self.filters.iter_mut().enumerate().filter(|(place, _)| on_the_way.contains(place)) {
            match filter.matches(&sample)? {
                Some(keep) => (filter.sampled, filter.passed) = (filter.sampled + keep.len(), filter.passed + keep.true_count()),
                // It is not filled yet.
                None => is_measured = false,
            }
        }
        self.measured += u32::from(is_measured);
        Ok(())
    }
}

/// A filter at work on the rows of one partition.
struct Look {
    predicate: Arc<dyn PhysicalExpr>,
    way: Vec<Step>,
    /// Rows that were looked at to find out how many pass.
    sampled: usize,
    passed: usize,
    trial: Trial,
    /// What the filter last said, and that in the way in which it is looked up.
    said: Option<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
}

impl Look {
    fn new(filter: &RuntimeFilter) -> Self {
        let (predicate, way) = (Arc::clone(&filter.predicate), filter.way.clone());
        Self { predicate, way, sampled: 0, passed: 0, trial: Trial::new(), said: None }
    }

    /// The share of rows that it lets pass, as far as known.
    fn passes(&self) -> f64 {
        if self.sampled == 0 { 1.0 } else { self.passed as f64 / self.sampled as f64 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_dropped_on_the_way_save_nothing_further_up() {
        let step = |costs, filter| Step { costs, filter };
        let way = [step(15, Some(0)), step(15, None), step(10, Some(1)), step(60, Some(2))];
        assert_eq!(saved(&way, |_| 1.0), 100.0);
        assert_eq!(saved(&way, |place| [0.1, 1.0, 0.5][place]), 15.0 + 1.5 + 1.0 + 6.0);
        assert_eq!(saved(&way, |place| [1.0, 0.5, 0.0][place]), 15.0 + 15.0 + 10.0 + 30.0);
        assert_eq!(saved(&[], |_| 1.0), 0.0);
    }
}
