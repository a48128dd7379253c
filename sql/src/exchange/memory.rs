//! An exchange in memory: runs a stage graph in one process, task by task, each decoded into an instance of its own.
//!
//! It proves planner and codec without a cluster: what it answers must be what the engine answers for the uncut plan.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use volley_proto::{PartitionId, StageId};

use super::{ExchangeSink, ExchangeSource, Share, TaskIo};
use crate::codec::{PlanCodec, TaskBindings};
use crate::extension::Extensions;
use crate::graph::{Stage, StageGraph};

type Outputs = Arc<Mutex<HashMap<(StageId, PartitionId), Vec<RecordBatch>>>>;

/// Runs the stages of `graph` one after another and returns the root's rows, in the order of its partitions.
pub async fn run_in_memory(state: &SessionState, graph: &StageGraph) -> Result<Vec<RecordBatch>> {
    run_and_count(state, graph).await.map(|(rows, _)| rows)
}

/// As [`run_in_memory`]; also returns how many rows each stage wrote.
pub async fn run_and_count(state: &SessionState, graph: &StageGraph) -> Result<(Vec<RecordBatch>, Vec<usize>)> {
    let outputs = Outputs::default();
    for stage in &graph.stages {
        let plan = PlanCodec::encode_stage(stage, &Extensions::default())?;
        for task in &stage.tasks {
            run_task(state, stage, &plan, &task.to_bytes(), &outputs).await?;
        }
    }
    let root = graph.root();
    let partitions = graph.stages.last().map_or(0, |stage| stage.shape.output_partitions);
    let mut outputs = outputs.lock();
    let mut written = vec![0; graph.stages.len()];
    for ((stage, _), batches) in outputs.iter() {
        written[stage.0 as usize] += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    }
    let rows = (0..partitions).filter_map(|partition| outputs.remove(&(root, PartitionId(partition)))).flatten().collect();
    Ok((rows, written))
}

async fn run_task(state: &SessionState, stage: &Stage, plan: &[u8], bindings: &[u8], outputs: &Outputs) -> Result<()> {
    let producers = stage.shape.inputs.iter().map(|input| input.producer).collect();
    let io = TaskIo {
        source: Arc::new(MemorySource { producers, outputs: Arc::clone(outputs) }),
        sink: Arc::new(MemorySink { stage: stage.shape.id, outputs: Arc::clone(outputs) }),
    };
    let context = TaskContext::from(state);
    let config = context.session_config().clone().with_extension(Arc::new(io));
    let context = Arc::new(context.with_session_config(config));
    let plan = PlanCodec::decode_task(plan, TaskBindings::from_bytes(bindings)?, &context)?;
    let mut partitions = JoinSet::new();
    // All at once: operators wait for one another across the partitions of an instance.
    for partition in 0..plan.output_partitioning().partition_count() {
        let rows = plan.execute(partition, Arc::clone(&context))?;
        partitions.spawn(rows.try_for_each(|_| async { Ok(()) }));
    }
    while let Some(done) = partitions.join_next().await {
        done.map_err(|e| DataFusionError::External(Box::new(e)))??;
    }
    Ok(())
}

#[derive(Debug)]
struct MemorySource {
    producers: Vec<StageId>,
    outputs: Outputs,
}

impl ExchangeSource for MemorySource {
    /// Which task wrote a batch is not kept: any share of them will do.
    fn read_share(&self, input: usize, partitions: &[PartitionId], share: Share, schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        let producer = self.producers.get(input).ok_or_else(|| DataFusionError::Internal(format!("the stage has no input {input}")))?;
        let outputs = self.outputs.lock();
        let batches = partitions.iter().filter_map(|partition| outputs.get(&(*producer, *partition))).flatten();
        let batches: Vec<_> = (0..).zip(batches).filter(|(number, _)| share.has(*number)).map(|(_, batch)| batch.clone()).collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches).map(Ok))))
    }
}

#[derive(Debug)]
struct MemorySink {
    stage: StageId,
    outputs: Outputs,
}

impl ExchangeSink for MemorySink {
    fn write(&self, partition: PartitionId, batch: RecordBatch) -> Result<()> {
        self.outputs.lock().entry((self.stage, partition)).or_default().push(batch);
        Ok(())
    }
}
