//! What DataFusion's protobuf has no message for.

use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode, PhysicalSortExprNode, Schema};

/// One of our operators.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PlanExtension {
    #[prost(oneof = "Operator", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(super) operator: Option<Operator>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Operator {
    #[prost(message, tag = "1")]
    Leaf(LeafNode),
    #[prost(message, tag = "2")]
    ExchangeRead(ExchangeReadNode),
    #[prost(message, tag = "3")]
    ExchangeWrite(ExchangeWriteNode),
    #[prost(message, tag = "4")]
    Generator(GeneratorNode),
    #[prost(message, tag = "5")]
    StagedWrite(StagedWriteNode),
    #[prost(message, tag = "6")]
    Recursive(RecursiveNode),
    #[prost(message, tag = "7")]
    WorkTable(WorkTableNode),
    #[prost(message, tag = "8")]
    Foreign(ForeignNode),
    #[prost(message, tag = "9")]
    OneMatch(OneMatchNode),
    #[prost(message, tag = "10")]
    NeighbourRows(NeighbourRowsNode),
    #[prost(message, tag = "11")]
    RuntimeFilter(RuntimeFilterNode),
    #[prost(message, tag = "12")]
    BuildKeys(BuildKeysNode),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeafNode {
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    #[prost(message, optional, boxed, tag = "2")]
    pub(super) leaf: Option<Box<PhysicalPlanNode>>,
    /// Of a series, none of whose columns is read.
    #[prost(bool, tag = "3")]
    pub(super) without_columns: bool,
    /// How the files of a scan are compressed, which the engine's encoding leaves out; empty for not at all.
    #[prost(string, tag = "4")]
    pub(super) compression: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExchangeReadNode {
    #[prost(uint32, tag = "1")]
    pub(super) input: u32,
    #[prost(uint32, tag = "2")]
    pub(super) producer: u32,
    #[prost(message, optional, tag = "3")]
    pub(super) schema: Option<Schema>,
    #[prost(message, repeated, tag = "4")]
    pub(super) orderings: Vec<OrderingNode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OrderingNode {
    #[prost(message, repeated, tag = "1")]
    pub(super) exprs: Vec<PhysicalSortExprNode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExchangeWriteNode {
    #[prost(enumeration = "ExchangeKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(uint32, tag = "2")]
    pub(super) partitions: u32,
    #[prost(message, repeated, tag = "3")]
    pub(super) keys: Vec<PhysicalExprNode>,
    /// What is told of the rows' keys beside them.
    #[prost(message, optional, tag = "4")]
    pub(super) tells: Option<TellsNode>,
}

/// What a stage tells of its rows.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TellsNode {
    #[prost(message, repeated, tag = "1")]
    pub(super) keys: Vec<PhysicalExprNode>,
    #[prost(uint64, tag = "2")]
    pub(super) bloom_bytes: u64,
    /// Where it is told.
    #[prost(uint32, tag = "3")]
    pub(super) partition: u32,
    /// Tasks that tell it.
    #[prost(uint64, tag = "4")]
    pub(super) tasks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ExchangeKind {
    Gather = 0,
    Broadcast = 1,
    RoundRobin = 2,
    Hash = 3,
    /// One key: the expression that tells the range of a row.
    Range = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GeneratorNode {
    #[prost(string, tag = "1")]
    pub(super) suite: String,
    #[prost(string, tag = "2")]
    pub(super) table: String,
    /// As a schema is named: `sf0_1`.
    #[prost(string, tag = "3")]
    pub(super) scale: String,
    #[prost(message, optional, tag = "4")]
    pub(super) projection: Option<ProjectionNode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProjectionNode {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) columns: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StagedWriteNode {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) spec: Vec<u8>,
}

/// A query that refers to itself; its inputs are the first rows and the step.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RecursiveNode {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<Schema>,
    #[prost(bool, tag = "3")]
    pub(super) is_distinct: bool,
}

/// Where a step reads the rows of the step before.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WorkTableNode {
    /// Of the query.
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The columns that are read.
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<Schema>,
}

/// An operator that drops rows by dynamic filters.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RuntimeFilterNode {
    /// What has to be true of a row.
    #[prost(message, repeated, tag = "1")]
    pub(super) predicates: Vec<PhysicalExprNode>,
    /// For each of them, what rows cross on their way to the join that fills it.
    #[prost(message, repeated, tag = "2")]
    pub(super) ways: Vec<WayNode>,
}

/// Operators that rows cross, in their order.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WayNode {
    /// What a row costs in each, in nanoseconds.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) costs: Vec<u32>,
    /// The filter, counted from 1, that tells which rows come out of each; 0 where none does.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) filters: Vec<u32>,
}

/// An operator that fills dynamic filters with what its inputs behind the first tell.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BuildKeysNode {
    /// Dynamic filters, one for each of these inputs.
    #[prost(message, repeated, tag = "1")]
    pub(super) filters: Vec<PhysicalExprNode>,
}

/// An operator of an embedding program.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ForeignNode {
    /// The extension that can read it.
    #[prost(string, tag = "1")]
    pub(super) extension: String,
    /// The operator, for errors.
    #[prost(string, tag = "2")]
    pub(super) name: String,
    /// As the extension wrote it.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) operator: Vec<u8>,
}

/// An operator that gives each row of a merge's table once.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OneMatchNode {
    /// The column of ids.
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    /// Whether further rows with an id are left out; otherwise the task fails.
    #[prost(bool, tag = "2")]
    pub(super) drops_further: bool,
}

/// An operator that gives rows of ranges to other ranges.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NeighbourRowsNode {
    /// How the columns after the first are ordered.
    #[prost(message, repeated, tag = "1")]
    pub(super) order: Vec<ColumnOrder>,
    /// How many of the first of all rows each range is given.
    #[prost(uint64, tag = "2")]
    pub(super) first: u64,
    /// How many rows right before it.
    #[prost(uint64, tag = "3")]
    pub(super) before: u64,
    /// How many rows right after it.
    #[prost(uint64, tag = "4")]
    pub(super) after: u64,
    /// How many of the last of all rows.
    #[prost(uint64, tag = "5")]
    pub(super) last: u64,
    /// How many ranges there are; absent where the operator gives the ends of each range.
    #[prost(uint32, optional, tag = "6")]
    pub(super) ranges: Option<u32>,
}

/// How a column is ordered.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ColumnOrder {
    /// Whether greater values come first.
    #[prost(bool, tag = "1")]
    pub(super) descending: bool,
    /// Whether NULL comes first.
    #[prost(bool, tag = "2")]
    pub(super) nulls_first: bool,
}
