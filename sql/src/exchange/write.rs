//! The root of a stage's plan: spreads its rows over the partitions of the stage's exchange.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use itertools::Itertools;
use volley_proto::PartitionId;

use super::ranges::RangeRouter;
use super::scatter::{Hashes, Router, Scatter};
use super::{Exchange, ExchangeSink, TaskIo};
use crate::build_keys::{BuildKeys, Collecting, Collector};

/// Writes its input to the stage's exchange; its own stream has no row and ends when the input does.
#[derive(Debug)]
pub struct ExchangeWriteExec {
    input: Arc<dyn ExecutionPlan>,
    exchange: Exchange,
    first_partition: usize,
    /// What it tells of its rows, in a partition behind the others.
    tells: Option<Telling>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Keys that are told, and where those of one task are collected.
#[derive(Debug)]
struct Telling {
    spec: BuildKeys,
    schema: SchemaRef,
    collector: OnceLock<Arc<Collector>>,
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
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, exchange, first_partition, tells: None, properties: Arc::new(properties), metrics }
    }

    /// The same, which also tells what its rows have for keys: a row for each task, in a partition behind those of the exchange.
    pub fn telling(self, spec: BuildKeys) -> Result<Self> {
        let schema = spec.schema(&self.input.schema())?;
        Ok(Self { tells: Some(Telling { spec, schema, collector: OnceLock::new() }), ..self })
    }

    /// What it tells of its rows.
    pub fn tells(&self) -> Option<&BuildKeys> {
        self.tells.as_ref().map(|tells| &tells.spec)
    }

    /// The columns of the partition behind those of the exchange, where there is one.
    pub fn summary_schema(&self) -> Option<&SchemaRef> {
        self.tells.as_ref().map(|tells| &tells.schema)
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
        write!(f, "ExchangeWriteExec: {}", self.exchange)?;
        match &self.tells {
            Some(tells) => write!(f, ", tells=[{}]", tells.spec.keys.iter().join(", ")),
            None => Ok(()),
        }
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
        let mut keys: Vec<_> = match &self.exchange {
            Exchange::Hash { keys, .. } => keys.iter().collect(),
            Exchange::Range { by } => by.ordering().iter().map(|key| &key.expr).collect(),
            Exchange::RoundRobin { .. } | Exchange::Gather | Exchange::Broadcast => vec![],
        };
        keys.extend(self.tells.iter().flat_map(|tells| &tells.spec.keys));
        for key in keys {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => {
                let renewed = Self::new(input, self.exchange.clone(), self.first_partition);
                Ok(Arc::new(match self.tells() {
                    Some(spec) => renewed.telling(spec.clone())?,
                    None => renewed,
                }))
            }
            _ => Err(DataFusionError::Internal("ExchangeWriteExec has one child".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let io = TaskIo::of(&context)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let outlet = self.outlet(partition, Arc::clone(&io.sink), baseline.elapsed_compute().clone());
        let summary = self.collecting(&context, Arc::clone(&io.sink))?;
        let written = write_all(input, outlet, summary, baseline);
        let rows = stream::once(written).try_filter_map(|()| async { Ok(None::<RecordBatch>) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl ExchangeWriteExec {
    /// Collects what one partition has for keys, if that is told.
    fn collecting(&self, context: &TaskContext, sink: Arc<dyn ExchangeSink>) -> Result<Option<SummaryOutlet>> {
        let Some(tells) = &self.tells else { return Ok(None) };
        let partitions = self.input.output_partitioning().partition_count();
        let collector = match tells.collector.get() {
            Some(collector) => collector,
            None => {
                let made = Collector::try_new(tells.spec.clone(), &self.input.schema(), partitions, context.memory_pool())?;
                tells.collector.get_or_init(|| Arc::new(made))
            }
        };
        let partition = PartitionId(tells.spec.partition);
        Ok(Some(SummaryOutlet { keys: Arc::clone(collector).partition()?, sink, partition }))
    }

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

/// Where the summary of a task's keys goes.
struct SummaryOutlet {
    keys: Collecting,
    sink: Arc<dyn ExchangeSink>,
    partition: PartitionId,
}

impl SummaryOutlet {
    fn finish(self) -> Result<()> {
        match self.keys.finish()? {
            Some(summary) => self.sink.write(self.partition, summary),
            None => Ok(()),
        }
    }
}

async fn write_all(
    mut input: SendableRecordBatchStream,
    mut outlet: Outlet,
    mut summary: Option<SummaryOutlet>,
    baseline: BaselineMetrics,
) -> Result<()> {
    let elapsed = baseline.elapsed_compute().clone();
    while let Some(batch) = input.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            baseline.record_output(batch.num_rows());
            if let Some(summary) = &mut summary {
                let _timer = elapsed.timer();
                summary.keys.add(&batch)?;
            }
            outlet.write(batch)?;
        }
    }
    outlet.finish()?;
    summary.map_or(Ok(()), SummaryOutlet::finish)
}
