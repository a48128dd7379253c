//! A leaf of a stage plan whose content differs from task to task.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};

use crate::catalog::GeneratorExec;
use crate::exchange::ExchangeReadExec;

/// What kind of content a leaf binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// Groups of file ranges.
    Files,
    /// Exchange partitions.
    Exchange,
    /// Parts of a generated table.
    Generator,
    /// All of it, in exactly one task: values, an empty relation, a series.
    Whole,
}

/// Numbers a leaf, so that a task's bindings can name it.
///
/// It holds the leaf as planned, with all partitions of the stage, and is executable as such. The codec sends the leaf
/// without its content; what a task decodes in its place is the leaf itself with the task's content.
#[derive(Debug)]
pub struct LeafExec {
    index: usize,
    leaf: Arc<dyn ExecutionPlan>,
}

impl LeafExec {
    /// Leaf number `index` of its stage.
    pub fn new(index: usize, leaf: Arc<dyn ExecutionPlan>) -> Self {
        Self { index, leaf }
    }

    /// The leaf's number in its stage.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The leaf as planned.
    pub fn leaf(&self) -> &Arc<dyn ExecutionPlan> {
        &self.leaf
    }

    /// What it binds.
    pub fn kind(&self) -> LeafKind {
        leaf_kind(&self.leaf)
    }
}

/// What kind of content `leaf` binds.
pub fn leaf_kind(leaf: &Arc<dyn ExecutionPlan>) -> LeafKind {
    if leaf.is::<ExchangeReadExec>() {
        LeafKind::Exchange
    } else if leaf.is::<GeneratorExec>() {
        LeafKind::Generator
    } else if file_scan(leaf).is_some() {
        LeafKind::Files
    } else {
        LeafKind::Whole
    }
}

/// The file scan that `plan` is, if it is one.
pub fn file_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// The files that a plan reads, each once, in the order of its leaves.
pub fn scanned_files(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let mut files = Vec::new();
    let mut pending = vec![plan];
    while let Some(node) = pending.pop() {
        if let Some(scan) = file_scan(node) {
            for file in scan.file_groups.iter().flat_map(|group| group.files()) {
                let name = format!("{}{}", scan.object_store_url.as_str(), file.object_meta.location);
                if !files.contains(&name) {
                    files.push(name);
                }
            }
        }
        pending.extend(node.children().into_iter().rev());
    }
    files
}

impl DisplayAs for LeafExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leaf.fmt_as(t, f)
    }
}

impl ExecutionPlan for LeafExec {
    fn name(&self) -> &'static str {
        "LeafExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.leaf.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.leaf.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("LeafExec has no children".into())) }
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        // How a recursive query reaches the reader of its rows.
        self.leaf.with_new_state(state).map(|leaf| Arc::new(Self::new(self.index, leaf)) as _)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.leaf.output_partitioning().partition_count();
        if partition >= partitions {
            return Err(DataFusionError::Internal(format!("leaf {} has no partition {partition} of {partitions}", self.index)));
        }
        self.leaf.execute(partition, context)
    }
}
