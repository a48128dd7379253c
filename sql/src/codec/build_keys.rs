//! Build keys in protobuf: what a stage tells of its rows, and the operator that fills dynamic filters with it.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterPhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};

use super::messages::{BuildKeysNode, TellsNode};
use crate::build_keys::{BuildKeys, BuildKeysExec, Told};

type Converter<'a> = &'a dyn PhysicalProtoConverterExtension;

pub(super) fn encode_tells(tells: &BuildKeys, codec: &dyn PhysicalExtensionCodec, converter: Converter<'_>) -> Result<TellsNode> {
    let keys = tells.keys.iter().map(|key| converter.physical_expr_to_proto(key, codec)).collect::<Result<_>>()?;
    Ok(TellsNode { keys, bloom_bytes: tells.bloom_bytes as u64, partition: tells.partition, tasks: tells.tasks })
}

pub(super) fn decode_tells(
    node: &TellsNode,
    schema: &Schema,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: Converter<'_>,
) -> Result<BuildKeys> {
    let keys = node.keys.iter().map(|key| converter.proto_to_physical_expr(key, schema, context)).collect::<Result<_>>()?;
    Ok(BuildKeys { keys, bloom_bytes: node.bloom_bytes as usize, partition: node.partition, tasks: node.tasks })
}

pub(super) fn encode(node: &BuildKeysExec, codec: &dyn PhysicalExtensionCodec, converter: Converter<'_>) -> Result<BuildKeysNode> {
    let filter = |filter: &Arc<DynamicFilterPhysicalExpr>| {
        let filter = Arc::clone(filter) as Arc<dyn PhysicalExpr>;
        converter.physical_expr_to_proto(&filter, codec)
    };
    Ok(BuildKeysNode { filters: node.told().iter().map(|told| filter(&told.filter)).collect::<Result<_>>()? })
}

pub(super) fn decode(
    node: &BuildKeysNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    context: &PhysicalPlanDecodeContext<'_>,
    converter: Converter<'_>,
) -> Result<BuildKeysExec> {
    let Some((input, summaries)) = inputs.split_first().filter(|(_, summaries)| summaries.len() == node.filters.len()) else {
        return Err(DataFusionError::Internal(format!("BuildKeysExec fills {} filters from {} inputs", node.filters.len(), inputs.len())));
    };
    // The columns are those of a join in another stage; a column is decoded by its name and number alone.
    let schema = Schema::empty();
    let told = node.filters.iter().zip(summaries).map(|(filter, summaries)| {
        let filter = converter.proto_to_physical_expr(filter, &schema, context)?;
        let filter = Arc::downcast::<DynamicFilterPhysicalExpr>(filter as Arc<dyn std::any::Any + Send + Sync>)
            .map_err(|_| DataFusionError::Internal("BuildKeysExec fills what is no dynamic filter".into()))?;
        Ok(Told { filter, summaries: Arc::clone(summaries) })
    });
    Ok(BuildKeysExec::new(Arc::clone(input), told.collect::<Result<_>>()?))
}
