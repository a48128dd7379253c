//! Plans of any depth in protobuf.
//!
//! Messages nested more than 100 deep are not decoded, and that limit has to stay: without it a few kilobytes from any peer would
//! overflow the stack of whoever decodes them. An operator or an expression takes two to four levels. So a plan is sent in
//! fragments of a few levels each: a reference stands where a fragment goes on in another one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_expr_node::ExprType;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalExtensionExprNode, PhysicalExtensionNode, PhysicalPlanNode};
use prost::Message;

use super::windows;

/// Operators and expressions below one another in a fragment. Each takes at most four levels; what is left of the 100 is for types.
const DEEPEST: usize = 8;

/// How the bytes of a reference begin: with a tag that no message has.
const REFERENCE: u8 = 0;

/// A plan in fragments. What a fragment refers to comes before it, so that the last one is the root.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fragments {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    fragments: Vec<Bytes>,
}

impl Fragments {
    /// Encodes a plan.
    pub(super) fn encode_plan(plan: &Arc<dyn ExecutionPlan>, codec: &dyn PhysicalExtensionCodec) -> Result<Self> {
        let encoder = Encoder::default();
        let root = encoder.execution_plan_to_proto(plan, codec)?;
        encoder.add(&root)?;
        Ok(Self { fragments: encoder.fragments.into_inner() })
    }

    /// Decodes a plan. Expressions that share state when they are encoded share it afterwards.
    pub(super) fn decode_plan(&self, context: &PhysicalPlanDecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let decoder = Decoder { fragments: &self.fragments, within: Cell::new(self.fragments.len()), shared: RefCell::default() };
        let root = self.fragments.len().checked_sub(1).ok_or_else(|| internal("it has no fragment"))?;
        decoder.follow(root, |node: &PhysicalPlanNode| decoder.proto_to_execution_plan(node, context))
    }
}

/// Cuts a plan while it is converted.
#[derive(Default)]
struct Encoder {
    /// Conversions that the present one is inside of, within its fragment.
    depth: Cell<usize>,
    fragments: RefCell<Vec<Bytes>>,
}

impl Encoder {
    /// Converts a subtree, as a fragment of its own where this one is deep enough.
    fn convert<N: Message + Default>(&self, may_cut: bool, convert: impl FnOnce() -> Result<N>, refer: fn(Vec<u8>) -> N) -> Result<N> {
        let depth = self.depth.get();
        let cut = may_cut && depth >= DEEPEST;
        self.depth.set(if cut { 1 } else { depth + 1 });
        let node = convert();
        self.depth.set(depth);
        if cut { Ok(refer(reference(self.add(&node?)?))) } else { node }
    }

    fn add<N: Message + Default>(&self, node: &N) -> Result<usize> {
        let bytes = Bytes::from(node.encode_to_vec());
        // What can't be decoded, because a type nests too deep, should be known to who plans rather than to an executor.
        decode::<N>(&bytes).map_err(|error| DataFusionError::Plan(format!("the plan can't be sent to executors: {error}")))?;
        let mut fragments = self.fragments.borrow_mut();
        fragments.push(bytes);
        Ok(fragments.len() - 1)
    }
}

impl PhysicalProtoConverterExtension for Encoder {
    fn execution_plan_to_proto(&self, plan: &Arc<dyn ExecutionPlan>, codec: &dyn PhysicalExtensionCodec) -> Result<PhysicalPlanNode> {
        let convert = || {
            let mut node = PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self)?;
            windows::complete(plan, &mut node)?;
            Ok(node)
        };
        self.convert(true, convert, |node| PhysicalPlanNode {
            physical_plan_type: Some(PhysicalPlanType::Extension(PhysicalExtensionNode { node, inputs: vec![] })),
        })
    }

    fn physical_expr_to_proto(&self, expr: &Arc<dyn PhysicalExpr>, codec: &dyn PhysicalExtensionCodec) -> Result<PhysicalExprNode> {
        let may_cut = !expr.children().is_empty();
        let convert = || serialize_physical_expr_with_converter(expr, codec, self);
        self.convert(may_cut, convert, |expr| PhysicalExprNode {
            expr_id: None,
            expr_type: Some(ExprType::Extension(PhysicalExtensionExprNode { expr, inputs: vec![] })),
        })
    }

    fn proto_to_execution_plan(&self, _: &PhysicalPlanNode, _: &PhysicalPlanDecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        Err(internal("it is being encoded"))
    }

    fn proto_to_physical_expr(&self, _: &PhysicalExprNode, _: &Schema, _: &PhysicalPlanDecodeContext<'_>) -> Result<Arc<dyn PhysicalExpr>> {
        Err(internal("it is being encoded"))
    }
}

/// Follows references while a plan is converted.
struct Decoder<'a> {
    fragments: &'a [Bytes],
    /// The fragment at hand: it refers to those before it alone, which rules out rings.
    within: Cell<usize>,
    /// Expressions that occur more than once with one state, such as dynamic filters.
    shared: RefCell<HashMap<u64, Arc<dyn PhysicalExpr>>>,
}

impl Decoder<'_> {
    fn follow<N: Message + Default, T>(&self, index: usize, convert: impl FnOnce(&N) -> Result<T>) -> Result<T> {
        let within = self.within.get();
        let fragment = self.fragments.get(index).filter(|_| index < within);
        let fragment = fragment.ok_or_else(|| internal(&format!("fragment {within} refers to {index}")))?;
        let node = decode(fragment).map_err(|error| internal(&error.to_string()))?;
        self.within.set(index);
        let converted = convert(&node);
        self.within.set(within);
        converted
    }
}

impl PhysicalProtoConverterExtension for Decoder<'_> {
    fn proto_to_execution_plan(&self, node: &PhysicalPlanNode, context: &PhysicalPlanDecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(PhysicalPlanType::Extension(extension)) = &node.physical_plan_type
            && let Some(index) = referred(&extension.node)
        {
            return self.follow(index, |node| self.proto_to_execution_plan(node, context));
        }
        windows::restore(node, self.default_proto_to_execution_plan(node, context)?)
    }

    fn proto_to_physical_expr(
        &self,
        node: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        if let Some(ExprType::Extension(extension)) = &node.expr_type
            && let Some(index) = referred(&extension.expr)
        {
            return self.follow(index, |node| self.proto_to_physical_expr(node, schema, context));
        }
        let expr = self.default_proto_to_physical_expr(node, schema, context)?;
        let Some(id) = node.expr_id else { return Ok(expr) };
        let known = self.shared.borrow().get(&id).cloned();
        match known {
            // The state of the first one, over the columns of this one.
            Some(first) => first.with_new_children(expr.children().into_iter().cloned().collect()),
            None => {
                self.shared.borrow_mut().insert(id, Arc::clone(&expr));
                Ok(expr)
            }
        }
    }

    fn execution_plan_to_proto(&self, _: &Arc<dyn ExecutionPlan>, _: &dyn PhysicalExtensionCodec) -> Result<PhysicalPlanNode> {
        Err(internal("it is being decoded"))
    }

    fn physical_expr_to_proto(&self, _: &Arc<dyn PhysicalExpr>, _: &dyn PhysicalExtensionCodec) -> Result<PhysicalExprNode> {
        Err(internal("it is being decoded"))
    }
}

fn decode<N: Message + Default>(fragment: &Bytes) -> Result<N, prost::DecodeError> {
    N::decode(fragment.clone())
}

fn reference(index: usize) -> Vec<u8> {
    [&[REFERENCE][..], &(index as u64).to_le_bytes()].concat()
}

fn referred(bytes: &[u8]) -> Option<usize> {
    let (&REFERENCE, index) = bytes.split_first()? else { return None };
    index.try_into().ok().map(|index| u64::from_le_bytes(index) as usize)
}

fn internal(message: &str) -> DataFusionError {
    DataFusionError::Internal(format!("stage plan can't be decoded: {message}"))
}
