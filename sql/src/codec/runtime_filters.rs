//! Runtime filters in protobuf: dynamic filters keep their ids, by which the join that fills them is found again.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};

use super::messages::RuntimeFilterNode;
use crate::runtime_filter::{RuntimeFilter, RuntimeFilterExec};

type Converter<'a> = &'a dyn PhysicalProtoConverterExtension;

pub(super) fn encode(node: &RuntimeFilterExec, codec: &dyn PhysicalExtensionCodec, converter: Converter<'_>) -> Result<RuntimeFilterNode> {
    let predicates = node.filters().iter().map(|filter| converter.physical_expr_to_proto(&filter.predicate, codec));
    Ok(RuntimeFilterNode {
        predicates: predicates.collect::<Result<_>>()?,
        saves: node.filters().iter().map(|filter| filter.saves).collect(),
    })
}

pub(super) fn decode(
    node: &RuntimeFilterNode,
    input: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: Converter<'_>,
) -> Result<RuntimeFilterExec> {
    let schema = input.schema();
    let filter = |(predicate, saves): (_, &u32)| {
        Ok(RuntimeFilter { predicate: converter.proto_to_physical_expr(predicate, &schema, context)?, saves: *saves })
    };
    let filters = node.predicates.iter().zip(&node.saves).map(filter).collect::<Result<_>>()?;
    Ok(RuntimeFilterExec::new(input, filters))
}
