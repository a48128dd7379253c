//! From logical to physical plans: the engine's planner, and those of our own operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use crate::merge::OneMatchPlanner;
use crate::neighbours::NeighbourRowsPlanner;

/// Plans our own operators beside all that the engine plans.
#[derive(Debug, Default)]
pub(crate) struct OwnOperators;

#[async_trait]
impl QueryPlanner for OwnOperators {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(OneMatchPlanner), Arc::new(NeighbourRowsPlanner)]);
        planner.create_physical_plan(plan, session).await
    }
}
