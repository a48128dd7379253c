//! Pass 4: tables that exist in this process alone become rows of the plan.
//!
//! What describes the session and its catalogs (`information_schema`) is computed from memory that no executor has. It is
//! small, so it is read while the plan is made and then joined, copied or inserted like any other rows.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionState;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect_partitioned};

/// Replaces each table of this process by its rows. One without an end stays, and has no encoding.
pub(super) async fn read_here(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    let mut tables = vec![];
    plan.apply(|node| {
        if node.downcast_ref::<StreamingTableExec>().is_some_and(|table| !table.is_infinite()) {
            tables.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut read = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = collect_partitioned(Arc::clone(&table), state.task_ctx()).await?;
        read.push((rows_of(&table, &rows)?, table));
    }
    let replaced = plan.transform_up(|node| {
        let rows = read.iter().find(|(_, table)| Arc::ptr_eq(table, &node)).map(|(rows, _)| Arc::clone(rows));
        Ok(rows.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    Ok(replaced.data)
}

fn rows_of(table: &Arc<dyn ExecutionPlan>, partitions: &[Vec<RecordBatch>]) -> Result<Arc<dyn ExecutionPlan>> {
    let orderings = table.equivalence_properties().oeq_class().iter().cloned().collect();
    let rows = MemorySourceConfig::try_new(partitions, table.schema(), None)?.try_with_sort_information(orderings)?;
    Ok(DataSourceExec::from_data_source(rows))
}
