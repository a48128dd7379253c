//! From a logical plan to the one operator that has the cluster run it.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use volley_proto::wire::client::v1::StatementPlan;
use volley_sql::codec::{RemoteTable, encode_logical_plan};

use super::exec::{Remote, RemoteExec};
use crate::flight::FlightClient;

/// Sends plans to a cluster instead of running them here.
#[derive(Debug)]
pub(super) struct RemotePlanner {
    client: FlightClient,
}

impl RemotePlanner {
    pub(super) fn new(client: FlightClient) -> Self {
        Self { client }
    }
}

#[async_trait::async_trait]
impl QueryPlanner for RemotePlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        // A whole query of the cluster stays the text that it is.
        if let Some(sql) = whole_query(plan) {
            return Ok(self.remote(Remote::Sql(sql), plan));
        }
        if !reads_tables(plan)? {
            return DefaultPhysicalPlanner::default().create_physical_plan(plan, session).await;
        }
        let encoded = StatementPlan { plan: encode_logical_plan(plan)?, settings: Vec::new() };
        Ok(self.remote(Remote::Plan(Arc::new(encoded)), plan))
    }
}

impl RemotePlanner {
    fn remote(&self, what: Remote, plan: &LogicalPlan) -> Arc<dyn ExecutionPlan> {
        Arc::new(RemoteExec::new(self.client.clone(), what, Arc::clone(plan.schema().inner())))
    }
}

/// The text of a plan that is a query of the cluster and nothing else.
fn whole_query(plan: &LogicalPlan) -> Option<String> {
    let LogicalPlan::TableScan(TableScan { source, projection, filters, fetch: None, .. }) = plan else {
        return None;
    };
    let columns = source.schema().fields().len();
    let all_columns = projection.as_ref().is_none_or(|columns_read| columns_read.iter().copied().eq(0..columns));
    if !filters.is_empty() || !all_columns {
        return None;
    }
    let provider = source_as_provider(source).ok()?;
    Some(provider.downcast_ref::<RemoteTable>()?.sql().to_owned())
}

/// Whether there is something to read; a plan without tables is run where its rows are.
fn reads_tables(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            reads |= !provider.is::<datafusion::catalog::MemTable>();
        }
        Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(reads)
}
