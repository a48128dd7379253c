//! Queries that refer to themselves.
//!
//! The rows that go from one step to the next are in a table in memory. The query's operator makes it when it is built and
//! hands it to the reader of its name below, so nothing shared has to travel: both ends are decoded in one task.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::work_table::WorkTableExec;

use super::extension::{internal, missing};
use super::messages::{RecursiveNode, WorkTableNode};

pub(super) fn encode_query(node: &RecursiveQueryExec) -> Result<RecursiveNode> {
    let schema = ExecutionPlan::schema(node);
    Ok(RecursiveNode { name: node.name().to_owned(), schema: Some(schema.as_ref().try_into()?), is_distinct: node.is_distinct() })
}

pub(super) fn decode_query(node: RecursiveNode, inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema: Schema = node.schema.as_ref().ok_or_else(|| missing("recursive query", "schema"))?.try_into()?;
    let [base, step] = inputs else { return Err(internal("a recursive query has other than two inputs")) };
    let schema = Arc::new(schema);
    let step = Arc::clone(step).transform_up(|below| {
        let bound = bind(&below, &node.name, &schema)?;
        Ok(bound.map_or_else(|| Transformed::no(below), Transformed::yes))
    })?;
    Ok(Arc::new(RecursiveQueryExec::try_new(node.name, schema, Arc::clone(base), step.data, node.is_distinct)?))
}

pub(super) fn encode_reader(node: &WorkTableExec) -> Result<WorkTableNode> {
    Ok(WorkTableNode { name: node.name().to_owned(), schema: Some(node.schema().as_ref().try_into()?) })
}

/// A reader of the columns that its step needs. Which ones of the query's they are is only known where the query is decoded.
pub(super) fn decode_reader(node: WorkTableNode) -> Result<WorkTableExec> {
    let schema: Schema = node.schema.as_ref().ok_or_else(|| missing("work table", "schema"))?.try_into()?;
    WorkTableExec::new(node.name, Arc::new(schema), None)
}

/// The reader `node` of the query `name` with its projection, which the engine does not show, found again by the columns' names.
fn bind(node: &Arc<dyn ExecutionPlan>, name: &str, whole: &SchemaRef) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(reader) = node.downcast_ref::<WorkTableExec>().filter(|reader| reader.name() == name) else { return Ok(None) };
    let read = reader.schema();
    let mut fields = whole.fields().to_vec();
    let mut projection = Vec::with_capacity(read.fields().len());
    for field in read.fields() {
        let place = whole.index_of(field.name())?;
        // The step was planned with the base's types, which may be narrower about nulls than the query's.
        fields[place] = Arc::clone(field);
        projection.push(place);
    }
    let schema = Schema::new_with_metadata(fields, read.metadata().clone());
    Ok(Some(Arc::new(WorkTableExec::new(name.to_owned(), Arc::new(schema), Some(projection))?)))
}
