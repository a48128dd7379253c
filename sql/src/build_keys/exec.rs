//! The operator of the stage that has the scan.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, StatisticsArgs};
use futures::{TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::summary::Summary;

/// A dynamic filter of scans below, and what it is filled with.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The join's filter, over the join's probe keys.
    pub(crate) filter: Arc<DynamicFilterPhysicalExpr>,
    /// Reads the summaries of the join's build side, in one partition.
    pub(crate) summaries: Arc<dyn ExecutionPlan>,
}

/// Reads what build sides of other stages have for keys, fills dynamic filters with it, then runs its input, whose rows it hands on.
#[derive(Debug)]
pub(crate) struct BuildKeysExec {
    input: Arc<dyn ExecutionPlan>,
    told: Vec<Told>,
    /// All partitions of a task wait for one reading.
    filled: Arc<OnceCell<()>>,
}

impl BuildKeysExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, told: Vec<Told>) -> Self {
        Self { input, told, filled: Arc::default() }
    }

    /// What it fills.
    pub(crate) fn told(&self) -> &[Told] {
        &self.told
    }

    /// The same without what fills some filters, by id: its input where nothing is left.
    pub(crate) fn without(&self, filters: &[u64]) -> Arc<dyn ExecutionPlan> {
        let is_left = |told: &&Told| told.filter.expression_id().is_none_or(|id| !filters.contains(&id));
        let told: Vec<_> = self.told.iter().filter(is_left).cloned().collect();
        if told.is_empty() { Arc::clone(&self.input) } else { Arc::new(Self::new(Arc::clone(&self.input), told)) }
    }

    /// Whether `child` is one of the readers of summaries of `node`: each task reads all of these.
    pub(crate) fn reads_whole(node: &Arc<dyn ExecutionPlan>, child: &Arc<dyn ExecutionPlan>) -> bool {
        node.downcast_ref::<Self>().is_some_and(|node| node.told.iter().any(|told| Arc::ptr_eq(&told.summaries, child)))
    }
}

impl DisplayAs for BuildKeysExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuildKeysExec: ")?;
        for (number, told) in self.told.iter().enumerate() {
            let keys: Vec<_> = told.filter.children().into_iter().map(ToString::to_string).collect();
            write!(f, "{}[{}]", if number > 0 { ", " } else { "" }, keys.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for BuildKeysExec {
    fn name(&self) -> &'static str {
        "BuildKeysExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.input).chain(self.told.iter().map(|told| &told.summaries)).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        std::iter::once(true).chain(self.told.iter().map(|_| false)).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.told.len() + 1]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        let mut go_on = TreeNodeRecursion::Continue;
        for told in &self.told {
            let filter = Arc::clone(&told.filter) as Arc<dyn PhysicalExpr>;
            go_on = go_on.visit_sibling(|| f(&filter))?;
        }
        Ok(go_on)
    }

    fn dynamic_expressions_produced(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.told.iter().map(|told| Arc::clone(&told.filter) as Arc<dyn PhysicalExpr>).collect()
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.told.len() + 1 {
            return Err(DataFusionError::Internal(format!("BuildKeysExec has {} children", self.told.len() + 1)));
        }
        let summaries = children.split_off(1);
        let told = self.told.iter().zip(summaries).map(|(told, summaries)| Told { filter: Arc::clone(&told.filter), summaries });
        Ok(Arc::new(Self::new(children.swap_remove(0), told.collect())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, told, filled) = (Arc::clone(&self.input), self.told.clone(), Arc::clone(&self.filled));
        let schema = self.schema();
        // The scan decides what to read of a file when it is executed, or soon after: not before its filter is filled.
        let rows = stream::once(async move {
            filled.get_or_try_init(|| fill(&told, &context)).await?;
            input.execute(partition, context)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten())))
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::new(inputs[0].as_ref().clone().to_inexact()))
    }
}

async fn fill(told: &[Told], context: &Arc<TaskContext>) -> Result<()> {
    for Told { filter, summaries } in told {
        let keys: Vec<_> = filter.children().into_iter().map(Arc::clone).collect();
        let mut summary = Summary::of_none(keys.len());
        for partition in 0..summaries.output_partitioning().partition_count() {
            let mut rows = summaries.execute(partition, Arc::clone(context))?;
            while let Some(batch) = rows.try_next().await? {
                summary.add(&batch)?;
            }
        }
        filter.update(summary.predicate(&keys))?;
        filter.mark_complete();
    }
    Ok(())
}
