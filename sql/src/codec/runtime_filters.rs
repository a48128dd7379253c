//! Runtime filters in protobuf: dynamic filters keep their ids, by which the join that fills them is found again.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};

use super::messages::{RuntimeFilterNode, WayNode};
use crate::runtime_filter::{RuntimeFilter, RuntimeFilterExec, Step};

type Converter<'a> = &'a dyn PhysicalProtoConverterExtension;

pub(super) fn encode(node: &RuntimeFilterExec, codec: &dyn PhysicalExtensionCodec, converter: Converter<'_>) -> Result<RuntimeFilterNode> {
    let predicates = node.filters().iter().map(|filter| converter.physical_expr_to_proto(&filter.predicate, codec));
    Ok(RuntimeFilterNode {
        predicates: predicates.collect::<Result<_>>()?,
        ways: node.filters().iter().map(|filter| way_node(&filter.way)).collect(),
    })
}

pub(super) fn decode(
    node: &RuntimeFilterNode,
    input: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: Converter<'_>,
) -> Result<RuntimeFilterExec> {
    let schema = input.schema();
    let filter = |(predicate, way): (_, &WayNode)| {
        Ok(RuntimeFilter { predicate: converter.proto_to_physical_expr(predicate, &schema, context)?, way: way_of(way) })
    };
    let filters = node.predicates.iter().zip(&node.ways).map(filter).collect::<Result<_>>()?;
    Ok(RuntimeFilterExec::new(input, filters))
}

fn way_node(way: &[Step]) -> WayNode {
    let filter = |step: &Step| step.filter.map_or(0, |place| place as u32 + 1);
    WayNode { costs: way.iter().map(|step| step.costs).collect(), filters: way.iter().map(filter).collect() }
}

fn way_of(node: &WayNode) -> Vec<Step> {
    let step = |(costs, filter): (&u32, &u32)| Step { costs: *costs, filter: filter.checked_sub(1).map(|place| place as usize) };
    node.costs.iter().zip(&node.filters).map(step).collect()
}
