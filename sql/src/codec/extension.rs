//! Our operators in DataFusion's protobuf.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RangeExpr;
use datafusion::physical_plan::work_table::WorkTableExec;
use datafusion_proto::physical_plan::from_proto::parse_physical_sort_exprs;
use datafusion_proto::physical_plan::to_proto::serialize_physical_sort_exprs;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension};
use parking_lot::Mutex;
use prost::Message;
use volley_proto::StageId;

use super::messages::{
    ExchangeKind, ExchangeReadNode, ExchangeWriteNode, ForeignNode, GeneratorNode, LeafNode, OneMatchNode, Operator, OrderingNode,
    PlanExtension, ProjectionNode, StagedWriteNode,
};
use super::page_index::with_page_index;
use super::{LeafContent, TaskBindings, build_keys, neighbours, recursive, runtime_filters};
use crate::build_keys::BuildKeysExec;
use crate::catalog::{GeneratorExec, Scale, Suite};
use crate::exchange::{Exchange, ExchangeReadExec, ExchangeWriteExec};
use crate::extension::Extensions;
use crate::leaf::{LeafExec, LeafKind, file_scan, leaf_kind};
use crate::merge::{FurtherMatches, OneMatchExec};
use crate::neighbours::NeighbourRowsExec;
use crate::runtime_filter::RuntimeFilterExec;
use crate::write::{StagedWriteExec, WriteSpec};

type Converter<'a> = &'a dyn PhysicalProtoConverterExtension;

/// Encodes our operators, and decodes them with the content of one task's leaves.
#[derive(Debug)]
pub(super) struct StageCodec {
    bindings: Option<TaskBindings>,
    extensions: Extensions,
    /// Why the first operator that can't be encoded can't.
    refused: Mutex<Option<DataFusionError>>,
}

impl StageCodec {
    pub(super) fn encoder(extensions: Extensions) -> Self {
        Self { bindings: None, extensions, refused: Mutex::default() }
    }

    pub(super) fn decoder(bindings: TaskBindings, extensions: Extensions) -> Self {
        Self { bindings: Some(bindings), extensions, refused: Mutex::default() }
    }

    /// Why encoding failed, in our words: the engine puts a dump of the whole plan around them.
    pub(super) fn into_refusal(self) -> Option<DataFusionError> {
        self.refused.into_inner()
    }

    fn bindings(&self) -> Result<&TaskBindings> {
        self.bindings.as_ref().ok_or_else(|| internal("a stage plan was decoded without task bindings"))
    }

    fn encode_leaf(&self, node: &LeafExec, converter: Converter<'_>) -> Result<Operator> {
        let series = unprojected_series(node.leaf())?;
        let without_columns = series.is_some();
        let leaf = match file_scan(node.leaf()) {
            _ if without_columns => series.unwrap_or_else(|| Arc::clone(node.leaf())),
            Some(scan) => {
                let scan = FileScanConfigBuilder::from(scan.clone()).with_file_groups(vec![]).with_output_partitioning(None).build();
                DataSourceExec::from_data_source(scan)
            }
            None => Arc::clone(node.leaf()),
        };
        let compression = file_scan(node.leaf()).map(|scan| scan.file_compression_type.get_variant().to_string()).unwrap_or_default();
        let leaf = converter.execution_plan_to_proto(&leaf, self)?;
        Ok(Operator::Leaf(LeafNode { index: node.index() as u32, leaf: Some(Box::new(leaf)), without_columns, compression }))
    }

    fn decode_leaf(&self, node: &LeafNode, context: &TaskContext, converter: Converter<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let leaf = node.leaf.as_deref().ok_or_else(|| missing("leaf", "plan"))?;
        let mut leaf = converter.proto_to_execution_plan(leaf, &PhysicalPlanDecodeContext::new(context, self))?;
        if node.without_columns {
            leaf = without_columns(&leaf)?;
        }
        bind_leaf(leaf, node, self.bindings()?)
    }

    fn encode_read(&self, node: &ExchangeReadExec, converter: Converter<'_>) -> Result<Operator> {
        let ordering =
            |ordering: &LexOrdering| Ok(OrderingNode { exprs: serialize_physical_sort_exprs(ordering.iter().cloned(), self, converter)? });
        Ok(Operator::ExchangeRead(ExchangeReadNode {
            input: node.input() as u32,
            producer: node.producer().0,
            schema: Some(node.schema().as_ref().try_into()?),
            orderings: node.orderings().iter().map(ordering).collect::<Result<_>>()?,
        }))
    }

    fn decode_read(&self, node: &ExchangeReadNode, context: &TaskContext, converter: Converter<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema: Schema = node.schema.as_ref().ok_or_else(|| missing("exchange reader", "schema"))?.try_into()?;
        let decode = PhysicalPlanDecodeContext::new(context, self);
        let mut orderings = Vec::with_capacity(node.orderings.len());
        for ordering in &node.orderings {
            orderings.extend(LexOrdering::new(parse_physical_sort_exprs(&ordering.exprs, &decode, &schema, converter)?));
        }
        let (input, producer) = (node.input as usize, StageId(node.producer));
        Ok(Arc::new(ExchangeReadExec::new(input, producer, Arc::new(schema), vec![], orderings)))
    }

    fn encode_write(&self, node: &ExchangeWriteExec, converter: Converter<'_>) -> Result<Operator> {
        let range;
        let (kind, partitions, keys) = match node.exchange() {
            Exchange::Gather => (ExchangeKind::Gather, 0, &[][..]),
            Exchange::Broadcast => (ExchangeKind::Broadcast, 0, &[][..]),
            Exchange::RoundRobin { partitions } => (ExchangeKind::RoundRobin, *partitions, &[][..]),
            Exchange::Hash { keys, partitions } => (ExchangeKind::Hash, *partitions, keys.as_slice()),
            Exchange::Range { by } => {
                let keys = by.ordering().iter().map(|key| Arc::clone(&key.expr)).collect();
                range = Arc::new(RangeExpr::try_new(keys, by)?) as Arc<dyn PhysicalExpr>;
                (ExchangeKind::Range, by.partition_count(), std::slice::from_ref(&range))
            }
        };
        let keys = keys.iter().map(|key| converter.physical_expr_to_proto(key, self)).collect::<Result<_>>()?;
        let tells = node.tells().map(|tells| build_keys::encode_tells(tells, self, converter)).transpose()?;
        Ok(Operator::ExchangeWrite(ExchangeWriteNode { kind: kind.into(), partitions: partitions as u32, keys, tells }))
    }

    fn decode_write(
        &self,
        node: &ExchangeWriteNode,
        input: Arc<dyn ExecutionPlan>,
        context: &TaskContext,
        converter: Converter<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = node.partitions as usize;
        let keys = || {
            let (schema, decode) = (input.schema(), PhysicalPlanDecodeContext::new(context, self));
            let key = |key| converter.proto_to_physical_expr(key, &schema, &decode);
            node.keys.iter().map(key).collect::<Result<Vec<Arc<dyn PhysicalExpr>>>>()
        };
        let exchange = match node.kind() {
            ExchangeKind::Gather => Exchange::Gather,
            ExchangeKind::Broadcast => Exchange::Broadcast,
            ExchangeKind::RoundRobin => Exchange::RoundRobin { partitions },
            ExchangeKind::Hash => Exchange::Hash { keys: keys()?, partitions },
            ExchangeKind::Range => {
                let keys = keys()?;
                let range = keys.first().and_then(|key| key.downcast_ref::<RangeExpr>());
                Exchange::Range { by: partitioning(range.ok_or_else(|| missing("exchange writer", "range"))?)? }
            }
        };
        let tells = node.tells.as_ref();
        let decode = PhysicalPlanDecodeContext::new(context, self);
        let tells = tells.map(|tells| build_keys::decode_tells(tells, &input.schema(), &decode, converter)).transpose()?;
        let write = ExchangeWriteExec::new(input, exchange, self.bindings()?.first_partition as usize);
        Ok(Arc::new(match tells {
            Some(tells) => write.telling(tells)?,
            None => write,
        }))
    }

    fn encode_operator(&self, node: &Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>, converter: Converter<'_>) -> Result<()> {
        let operator = if let Some(node) = node.downcast_ref::<LeafExec>() {
            self.encode_leaf(node, converter)?
        } else if let Some(node) = node.downcast_ref::<ExchangeReadExec>() {
            self.encode_read(node, converter)?
        } else if let Some(node) = node.downcast_ref::<ExchangeWriteExec>() {
            self.encode_write(node, converter)?
        } else if let Some(node) = node.downcast_ref::<GeneratorExec>() {
            Operator::Generator(encode_generator(node))
        } else if let Some(node) = node.downcast_ref::<StagedWriteExec>() {
            Operator::StagedWrite(StagedWriteNode { spec: node.spec().encode() })
        } else if let Some(node) = node.downcast_ref::<OneMatchExec>() {
            Operator::OneMatch(OneMatchNode { id: node.id() as u32, drops_further: node.further() == FurtherMatches::Dropped })
        } else if let Some(node) = node.downcast_ref::<NeighbourRowsExec>() {
            Operator::NeighbourRows(neighbours::encode(node))
        } else if let Some(node) = node.downcast_ref::<RuntimeFilterExec>() {
            Operator::RuntimeFilter(runtime_filters::encode(node, self, converter)?)
        } else if let Some(node) = node.downcast_ref::<BuildKeysExec>() {
            Operator::BuildKeys(build_keys::encode(node, self, converter)?)
        } else if let Some(node) = node.downcast_ref::<RecursiveQueryExec>() {
            Operator::Recursive(recursive::encode_query(node)?)
        } else if let Some(node) = node.downcast_ref::<WorkTableExec>() {
            Operator::WorkTable(recursive::encode_reader(node)?)
        } else {
            Operator::Foreign(self.encode_foreign(node, converter)?)
        };
        PlanExtension { operator: Some(operator) }.encode(buf).map_err(|e| internal(&format!("an operator can't be encoded: {e}")))
    }
}

/// The partitioning that an expression tells.
fn partitioning(range: &RangeExpr) -> Result<RangePartitioning> {
    let keys = range.on_columns().iter().zip(range.sort_options());
    let ordering = LexOrdering::new(keys.map(|(key, options)| PhysicalSortExpr::new(Arc::clone(key), *options)));
    RangePartitioning::try_new(ordering.ok_or_else(|| missing("exchange writer", "range"))?, range.split_points().to_vec())
}

impl StageCodec {
    /// An operator of one of the extensions: the first that takes it.
    fn encode_foreign(&self, node: &Arc<dyn ExecutionPlan>, converter: Converter<'_>) -> Result<ForeignNode> {
        for (extension, codec) in self.extensions.codecs() {
            let mut operator = Vec::new();
            if codec.try_encode(Arc::clone(node), &mut operator, converter).is_ok() {
                return Ok(ForeignNode { extension: extension.to_owned(), name: node.name().to_owned(), operator });
            }
        }
        Err(DataFusionError::NotImplemented(format!(
            "operator {} can't be sent to an executor: it has no encoding; rewrite the query without it",
            node.name()
        )))
    }

    fn decode_foreign(
        &self,
        node: &ForeignNode,
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: Converter<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.extensions.codecs().find(|(extension, _)| *extension == node.extension) {
            Some((_, codec)) => codec.try_decode(&node.operator, inputs, context, converter),
            None => Err(DataFusionError::Plan(format!(
                "operator {} belongs to extension '{}', which this executor was started without; its extensions: {}",
                node.name,
                node.extension,
                self.extensions.names()
            ))),
        }
    }
}

impl PhysicalExtensionCodec for StageCodec {
    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, buf: &mut Vec<u8>, converter: Converter<'_>) -> Result<()> {
        self.encode_operator(&node, buf, converter).map_err(|error| {
            let told = internal(&error.strip_backtrace());
            self.refused.lock().get_or_insert(error);
            told
        })
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: Converter<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = PlanExtension::decode(buf).map_err(|e| internal(&format!("an operator can't be decoded: {e}")))?;
        let input = || inputs.first().map(Arc::clone).ok_or_else(|| missing("operator", "input"));
        match node.operator.ok_or_else(|| missing("plan extension", "operator"))? {
            Operator::Leaf(node) => self.decode_leaf(&node, context, converter),
            Operator::ExchangeRead(node) => self.decode_read(&node, context, converter),
            Operator::ExchangeWrite(node) => self.decode_write(&node, input()?, context, converter),
            Operator::Generator(node) => Ok(Arc::new(decode_generator(node)?)),
            Operator::StagedWrite(node) => {
                Ok(Arc::new(StagedWriteExec::try_new(input()?, WriteSpec::decode(&node.spec)?, self.bindings()?.first_partition as usize)?))
            }
            Operator::OneMatch(node) => {
                let further = if node.drops_further { FurtherMatches::Dropped } else { FurtherMatches::Refused };
                Ok(Arc::new(OneMatchExec::try_new(input()?, node.id as usize, further)?))
            }
            Operator::NeighbourRows(node) => Ok(Arc::new(neighbours::decode(&node, input()?)?)),
            Operator::RuntimeFilter(node) => {
                Ok(Arc::new(runtime_filters::decode(&node, input()?, &PhysicalPlanDecodeContext::new(context, self), converter)?))
            }
            Operator::BuildKeys(node) => {
                Ok(Arc::new(build_keys::decode(&node, inputs, &PhysicalPlanDecodeContext::new(context, self), converter)?))
            }
            Operator::Recursive(node) => recursive::decode_query(node, inputs),
            Operator::WorkTable(node) => Ok(Arc::new(recursive::decode_reader(node)?)),
            Operator::Foreign(node) => self.decode_foreign(&node, inputs, context, converter),
        }
    }
}

/// Puts a task's content into a leaf.
fn bind_leaf(leaf: Arc<dyn ExecutionPlan>, node: &LeafNode, bindings: &TaskBindings) -> Result<Arc<dyn ExecutionPlan>> {
    let index = node.index as usize;
    match (leaf_kind(&leaf), bindings.leaf(index)?) {
        (LeafKind::Files, LeafContent::Files(groups)) => {
            let scan = file_scan(&leaf).ok_or_else(|| missing("leaf", "file scan"))?;
            let columns = scan.file_schema().fields().len();
            let compression: CompressionTypeVariant = node.compression.parse()?;
            let scan = FileScanConfigBuilder::from(scan.clone())
                .with_file_groups(groups.to_file_groups(columns)?)
                .with_file_compression_type(compression.into())
                .build();
            Ok(DataSourceExec::from_data_source(with_page_index(scan)))
        }
        (LeafKind::Exchange, LeafContent::Exchange(slices)) => {
            let read = leaf.downcast_ref::<ExchangeReadExec>().ok_or_else(|| missing("leaf", "exchange reader"))?;
            Ok(Arc::new(read.with_partitions(slices.partitions(), slices.parts())))
        }
        (LeafKind::Generator, LeafContent::Generator(slices)) => {
            let generator = leaf.downcast_ref::<GeneratorExec>().ok_or_else(|| missing("leaf", "generator"))?;
            Ok(Arc::new(generator.with_partitions(slices.splits()?)?))
        }
        (LeafKind::Whole, LeafContent::Whole(true)) => Ok(leaf),
        (LeafKind::Whole, LeafContent::Whole(false)) => Ok(Arc::new(EmptyExec::new(leaf.schema()).with_partitions(0))),
        (kind, _) => Err(internal(&format!("leaf {index} is {kind:?}, but its bindings are of another kind"))),
    }
}

/// A series with its column, where `leaf` is one without: the engine's encoding keeps a series' schema but not its projection,
/// so that one without columns would decode into a generator that can't make its batches.
fn unprojected_series(leaf: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(series) = leaf.downcast_ref::<LazyMemoryExec>() else { return Ok(None) };
    let [generator] = series.generators().as_slice() else { return Ok(None) };
    if !leaf.schema().fields().is_empty() {
        return Ok(None);
    }
    // Only a batch tells the schema of a generator.
    let again = generator.read().reset_state();
    let Some(batch) = again.write().generate_next_batch()? else { return Ok(None) };
    Ok(Some(Arc::new(LazyMemoryExec::try_new(batch.schema(), series.generators().clone())?)))
}

/// Undoes [`unprojected_series`].
fn without_columns(leaf: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let series = leaf.downcast_ref::<LazyMemoryExec>().ok_or_else(|| missing("leaf", "series"))?;
    Ok(Arc::new(LazyMemoryExec::try_new(leaf.schema(), series.generators().clone())?.with_projection(Some(vec![]))))
}

fn encode_generator(node: &GeneratorExec) -> GeneratorNode {
    let table = node.table();
    let columns = |projection: &[usize]| ProjectionNode { columns: projection.iter().map(|&column| column as u32).collect() };
    GeneratorNode {
        suite: table.suite().to_string(),
        table: table.name().to_owned(),
        scale: table.scale().to_string(),
        projection: node.projection().map(columns),
    }
}

fn decode_generator(node: GeneratorNode) -> Result<GeneratorExec> {
    let (suite, scale): (Suite, Scale) = (node.suite.parse()?, node.scale.parse()?);
    let table = suite.table(&node.table, scale).ok_or_else(|| internal(&format!("{suite} has no table '{}'", node.table)))?;
    let projection = node.projection.map(|projection| projection.columns.into_iter().map(|column| column as usize).collect());
    GeneratorExec::new(table, vec![], projection)
}

pub(super) fn missing(message: &str, field: &str) -> DataFusionError {
    internal(&format!("a stage plan has a {message} without {field}"))
}

pub(super) fn internal(message: &str) -> DataFusionError {
    DataFusionError::Internal(message.to_owned())
}
