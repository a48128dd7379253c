//! The operator in the physical plan.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::kept::KeptRows;
use super::{Mode, Order, Reach};

/// Gives the first and last rows of each range, or for each range rows of the others.
#[derive(Debug)]
pub(crate) struct NeighbourRowsExec {
    input: Arc<dyn ExecutionPlan>,
    order: Order,
    reach: Reach,
    mode: Mode,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl NeighbourRowsExec {
    /// `input` has the number of each row's range and the columns of `order`.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, order: Order, reach: Reach, mode: Mode) -> Result<Self> {
        if input.schema().fields().len() != order.len() + 1 {
            return Err(DataFusionError::Internal(format!(
                "rows in ranges have {} columns, not a range and {}",
                input.schema().fields().len(),
                order.len()
            )));
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            input.boundedness(),
        );
        Ok(Self { input, order, reach, mode, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// How the columns after the first are ordered.
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// How many rows of other ranges each range is given.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Which rows it gives.
    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }
}

impl DisplayAs for NeighbourRowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reach { first, before, after, last } = self.reach;
        write!(f, "NeighbourRowsExec: mode={:?}, first={first}, before={before}, after={after}, last={last}", self.mode)
    }
}

impl ExecutionPlan for NeighbourRowsExec {
    fn name(&self) -> &'static str {
        "NeighbourRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.mode {
            Mode::Partial => Distribution::UnspecifiedDistribution,
            Mode::Final { .. } => Distribution::SinglePartition,
        }])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![self.mode == Mode::Partial]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn datafusion::physical_expr::PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, self.order.clone(), self.reach, self.mode.clone())?)),
            _ => Err(DataFusionError::Internal("NeighbourRowsExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let memory = MemoryConsumer::new("NeighbourRowsExec").register(context.memory_pool());
        let mut kept = KeptRows::try_new(self.schema(), &self.order, self.reach, memory)?;
        let (mode, batch_rows) = (self.mode.clone(), context.session_config().batch_size());
        let rows = async move {
            while let Some(batch) = input.next().await {
                let _timer = baseline.elapsed_compute().timer();
                kept.add(&batch?)?;
            }
            let batches = {
                let _timer = baseline.elapsed_compute().timer();
                kept.finish(&mode, batch_rows)?
            };
            batches.iter().for_each(|batch| baseline.record_output(batch.num_rows()));
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::once(rows).try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
