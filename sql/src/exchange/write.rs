//! The root of a stage's plan: spreads its rows over the partitions of the stage's exchange.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use volley_proto::PartitionId;

use super::ranges::RangeRouter;
use super::scatter::{Hashes, Router, Scatter};
use super::{Exchange, ExchangeSink, TaskIo};

/// Writes its input to the stage's exchange; its own stream has no row and ends when the input does.
#[derive(Debug)]
pub struct ExchangeWriteExec {
    input: Arc<dyn ExecutionPlan>,
    exchange: Exchange,
    first_partition: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeWriteExec {
    /// Spreads `input` as `exchange` says. `first_partition` is the stage's number of the input's partition 0: a gather
    /// keeps the stage's partitions, of which a task runs a slice.
    pub fn new(input: Arc<dyn ExecutionPlan>, exchange: Exchange, first_partition: usize) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, exchange, first_partition, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What is written.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// How it is spread.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}

impl DisplayAs for ExchangeWriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeWriteExec: {}", self.exchange)
    }
}

impl ExecutionPlan for ExchangeWriteExec {
    fn name(&self) -> &'static str {
        "ExchangeWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        let keys: Vec<_> = match &self.exchange {
            Exchange::Hash { keys, .. } => keys.iter().collect(),
            Exchange::Range { by } => by.ordering().iter().map(|key| &key.expr).collect(),
            Exchange::RoundRobin { .. } | Exchange::Gather | Exchange::Broadcast => vec![],
        };
        for key in keys {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.exchange.clone(), self.first_partition))),
            _ => Err(DataFusionError::Internal("ExchangeWriteExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let io = TaskIo::of(&context)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let outlet = self.outlet(partition, Arc::clone(&io.sink), baseline.elapsed_compute().clone());
        let written = write_all(input, outlet, baseline);
        let rows = stream::once(written).try_filter_map(|()| async { Ok(None::<RecordBatch>) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl ExchangeWriteExec {
    fn outlet(&self, partition: usize, sink: Arc<dyn ExchangeSink>, elapsed: Time) -> Outlet {
        let stage_partition = self.first_partition + partition;
        match &self.exchange {
            Exchange::Gather | Exchange::Broadcast => Outlet::One { sink, partition: PartitionId(stage_partition as u32) },
            Exchange::Hash { partitions: 1, .. } | Exchange::RoundRobin { partitions: 1 } => {
                Outlet::One { sink, partition: PartitionId(0) }
            }
            Exchange::RoundRobin { partitions } => {
                // Producers start at different places, so that few batches are spread evenly too.
                Outlet::Turns { sink, partitions: *partitions, next: stage_partition % partitions }
            }
            Exchange::Hash { keys, partitions } => {
                let router = Router::Hash(Hashes::new(keys.clone()));
                Outlet::Scattered(Box::new(Scatter::new(router, *partitions, sink, elapsed)))
            }
            Exchange::Range { by } => {
                let router = Router::Range(RangeRouter::new(by.clone()));
                Outlet::Scattered(Box::new(Scatter::new(router, by.partition_count(), sink, elapsed)))
            }
        }
    }
}

/// Where the rows of one input partition go.
enum Outlet {
    One { sink: Arc<dyn ExchangeSink>, partition: PartitionId },
    Turns { sink: Arc<dyn ExchangeSink>, partitions: usize, next: usize },
    Scattered(Box<Scatter>),
}

impl Outlet {
    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::One { sink, partition } => sink.write(*partition, batch),
            Self::Turns { sink, partitions, next } => {
                let partition = PartitionId(*next as u32);
                *next = (*next + 1) % *partitions;
                sink.write(partition, batch)
            }
            Self::Scattered(scatter) => scatter.push(batch),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::One { .. } | Self::Turns { .. } => Ok(()),
            Self::Scattered(mut scatter) => scatter.flush(),
        }
    }
}

async fn write_all(mut input: SendableRecordBatchStream, mut outlet: Outlet, baseline: BaselineMetrics) -> Result<()> {
    while let Some(batch) = input.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            baseline.record_output(batch.num_rows());
            outlet.write(batch)?;
        }
    }
    outlet.finish()
}
