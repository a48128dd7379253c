//! The operator in the logical plan, and how it becomes physical ones.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::{Mode, NeighbourRowsExec, Order, Reach};

/// For each range of rows in an order, rows of the other ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NeighbourRows {
    input: Arc<LogicalPlan>,
    /// Of the columns after the first.
    order: Order,
    reach: Reach,
    ranges: u32,
}

impl NeighbourRows {
    /// `input` has the number of each row's range, from -1 to `ranges - 2`, and the columns of `order`.
    pub(crate) fn new(input: LogicalPlan, order: Order, reach: Reach, ranges: u32) -> Self {
        Self { input: Arc::new(input), order, reach, ranges }
    }
}

impl PartialOrd for NeighbourRows {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.reach, self.ranges, &self.input).partial_cmp(&(other.reach, other.ranges, &other.input))
    }
}

impl UserDefinedLogicalNodeCore for NeighbourRows {
    fn name(&self) -> &str {
        "NeighbourRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NeighbourRows: {:?}", self.reach)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self::new(input, self.order.clone(), self.reach, self.ranges)),
            Err(_) => Err(DataFusionError::Internal("NeighbourRows has one input".into())),
        }
    }
}

/// Plans [`NeighbourRows`].
#[derive(Debug, Default)]
pub(crate) struct NeighbourRowsPlanner;

#[async_trait]
impl ExtensionPlanner for NeighbourRowsPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        physical: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match (node.as_any().downcast_ref::<NeighbourRows>(), physical) {
            (Some(node), [input]) => {
                let exec = |input, mode| NeighbourRowsExec::try_new(input, node.order.clone(), node.reach, mode).map(Arc::new);
                let partial = exec(Arc::clone(input), Mode::Partial)?;
                Ok(Some(exec(partial, Mode::Final { ranges: node.ranges })?))
            }
            _ => Ok(None),
        }
    }
}
