//! The operator whose rows a cluster computes.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{TryFutureExt, TryStreamExt};
use volley_proto::wire::client::v1::StatementPlan;

use crate::flight::FlightClient;

/// What the cluster is asked for.
#[derive(Debug, Clone)]
pub(super) enum Remote {
    /// A statement.
    Sql(String),
    /// A logical plan.
    Plan(Arc<StatementPlan>),
}

/// Asks a cluster when it is executed, and passes its rows on. Dropping the stream cancels the job.
#[derive(Debug)]
pub(super) struct RemoteExec {
    client: FlightClient,
    what: Remote,
    properties: Arc<PlanProperties>,
}

impl RemoteExec {
    pub(super) fn new(client: FlightClient, what: Remote, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { client, what, properties: Arc::new(properties) }
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteExec: cluster={}, ", self.client.url())?;
        match &self.what {
            Remote::Sql(sql) => write!(f, "sql={sql}"),
            Remote::Plan(plan) => write!(f, "plan of {} bytes", plan.plan.len()),
        }
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &'static str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("RemoteExec has no children".into())) }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("RemoteExec has one partition, not a partition {partition}")));
        }
        let (client, what, schema) = (self.client.clone(), self.what.clone(), self.schema());
        let expected = Arc::clone(&schema);
        let rows = async move {
            let execution = match what {
                Remote::Sql(sql) => client.execute(&sql).await?,
                Remote::Plan(plan) => client.execute_plan(&plan).await?,
            };
            let rows = client.fetch(&execution).await?;
            Ok(rows.map_err(DataFusionError::from).and_then(move |batch| std::future::ready(same_columns(batch, &expected))))
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten_stream())))
    }
}

/// The batch with the schema that was planned with: it may differ in metadata and nullability, but not in types.
fn same_columns(batch: datafusion::arrow::array::RecordBatch, schema: &SchemaRef) -> Result<datafusion::arrow::array::RecordBatch> {
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    datafusion::arrow::array::RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|error| DataFusionError::External(format!("the cluster's rows are not those that were planned: {error}").into()))
}
