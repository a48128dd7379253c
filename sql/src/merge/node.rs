//! The operator in the logical plan, and how it becomes a physical one.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::exec::{FurtherMatches, OneMatchExec};

/// The rows of a join, of which those with the same id in a column come once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OneMatch {
    input: Arc<LogicalPlan>,
    id: Column,
    further: FurtherMatches,
}

impl OneMatch {
    pub(crate) fn new(input: LogicalPlan, id: Column, further: FurtherMatches) -> Self {
        Self { input: Arc::new(input), id, further }
    }
}

impl PartialOrd for OneMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.id, self.further, &self.input).partial_cmp(&(&other.id, other.further, &other.input))
    }
}

impl UserDefinedLogicalNodeCore for OneMatch {
    fn name(&self) -> &str {
        "OneMatch"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.id.clone())]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneMatch: further={:?}", self.further)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.as_slice(), <[LogicalPlan; 1]>::try_from(inputs)) {
            ([Expr::Column(id)], Ok([input])) => Ok(Self::new(input, id.clone(), self.further)),
            _ => Err(DataFusionError::Internal("OneMatch has one column and one input".into())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let id = self.input.schema().index_of_column(&self.id).ok()?;
        let mut columns = output_columns.to_vec();
        if !columns.contains(&id) {
            columns.push(id);
            columns.sort_unstable();
        }
        Some(vec![columns])
    }
}

/// Plans [`OneMatch`].
#[derive(Debug, Default)]
pub(crate) struct OneMatchPlanner;

#[async_trait]
impl ExtensionPlanner for OneMatchPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical: &[&LogicalPlan],
        physical: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match (node.as_any().downcast_ref::<OneMatch>(), logical, physical) {
            (Some(node), [logical], [input]) => {
                let id = logical.schema().index_of_column(&node.id)?;
                Ok(Some(Arc::new(OneMatchExec::try_new(Arc::clone(input), id, node.further)?)))
            }
            _ => Ok(None),
        }
    }
}
