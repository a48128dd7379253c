//! The bytes of what travels beside the engine's own encoding, and of what is kept: a change is seen where it is made.
//! `INSTA_UPDATE=always cargo test -p volley-sql golden` writes them anew; a change that matters also raises the version.

use datafusion::common::ScalarValue;
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode, PhysicalSortExprNode, Schema};
use prost::Message;

use super::bindings::{
    ColumnBounds, ExchangeSlice, ExchangeSlices, FileGroups, FileSplit, FileSplits, GeneratorSlice, GeneratorSlices, LeafContent,
    TaskBindings,
};
use super::messages::{
    BuildKeysNode, ColumnOrder, ExchangeKind, ExchangeReadNode, ExchangeWriteNode, ForeignNode, GeneratorNode, LeafNode, NeighbourRowsNode,
    OneMatchNode, Operator, OrderingNode, PlanExtension, ProjectionNode, RecursiveNode, RuntimeFilterNode, StagedWriteNode, TellsNode,
    WayNode, WorkTableNode,
};
use crate::write::{StagedFile, WriteFormat, WriteMode, WriteSpec};

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

fn spec() -> WriteSpec {
    WriteSpec {
        id: "j7".into(),
        url: "file:///data/out/".into(),
        format: WriteFormat::Csv,
        options: vec![("format.compression".into(), "gzip".into())],
        partition_by: vec!["day".into()],
        mode: WriteMode::Append,
        not_null: vec![],
        staging: "file:///data/.volley-j7/".into(),
        table: None,
        delta: None,
        change: None,
    }
}

#[test]
fn every_operator_has_its_bytes() {
    let operators = [
        Operator::Leaf(LeafNode {
            index: 3,
            leaf: Some(Box::new(PhysicalPlanNode::default())),
            without_columns: true,
            compression: "GZIP".into(),
        }),
        Operator::ExchangeRead(ExchangeReadNode {
            input: 1,
            producer: 2,
            schema: Some(Schema::default()),
            orderings: vec![OrderingNode { exprs: vec![PhysicalSortExprNode::default()] }],
        }),
        Operator::ExchangeWrite(ExchangeWriteNode {
            kind: ExchangeKind::Hash.into(),
            partitions: 300,
            keys: vec![PhysicalExprNode::default()],
            tells: Some(TellsNode { keys: vec![PhysicalExprNode::default()], bloom_bytes: 65_536, partition: 300, tasks: 4 }),
        }),
        Operator::Generator(GeneratorNode {
            suite: "tpch".into(),
            table: "lineitem".into(),
            scale: "sf0_1".into(),
            projection: Some(ProjectionNode { columns: vec![0, 4] }),
        }),
        Operator::StagedWrite(StagedWriteNode { spec: b"spec".to_vec() }),
        Operator::Recursive(RecursiveNode { name: "r".into(), schema: Some(Schema::default()), is_distinct: true }),
        Operator::WorkTable(WorkTableNode { name: "r".into(), schema: Some(Schema::default()) }),
        Operator::Foreign(ForeignNode { extension: "e".into(), name: "MyExec".into(), operator: b"bytes".to_vec() }),
        Operator::OneMatch(OneMatchNode { id: 5, drops_further: true }),
        Operator::NeighbourRows(NeighbourRowsNode {
            order: vec![ColumnOrder { descending: true, nulls_first: false }, ColumnOrder { descending: false, nulls_first: true }],
            first: 1,
            before: 2,
            after: 3,
            last: 4,
            ranges: Some(9),
        }),
        Operator::RuntimeFilter(RuntimeFilterNode {
            predicates: vec![PhysicalExprNode::default()],
            ways: vec![WayNode { costs: vec![40, 300], filters: vec![2, 0] }],
        }),
        Operator::BuildKeys(BuildKeysNode { filters: vec![PhysicalExprNode::default()] }),
    ];
    for operator in operators {
        let name = match &operator {
            Operator::Leaf(_) => "leaf",
            Operator::ExchangeRead(_) => "exchange_read",
            Operator::ExchangeWrite(_) => "exchange_write",
            Operator::Generator(_) => "generator",
            Operator::StagedWrite(_) => "staged_write",
            Operator::Recursive(_) => "recursive",
            Operator::WorkTable(_) => "work_table",
            Operator::Foreign(_) => "foreign",
            Operator::OneMatch(_) => "one_match",
            Operator::NeighbourRows(_) => "neighbour_rows",
            Operator::RuntimeFilter(_) => "runtime_filter",
            Operator::BuildKeys(_) => "build_keys",
        };
        insta::assert_snapshot!(format!("plan_extension_{name}"), hex(&PlanExtension { operator: Some(operator) }.encode_to_vec()));
    }
}

#[test]
fn bindings_have_their_bytes() {
    let file = FileSplit {
        path: "data/t/p=1/part-0.parquet".into(),
        size: 1 << 30,
        modified_ns: 1_700_000_000_123_456_789,
        e_tag: Some("\"etag\"".into()),
        version: Some("v1".into()),
        start: Some(4),
        end: Some(128 << 20),
        partition_values: Vec::new(),
        metadata_size_hint: Some(65_536),
        bounds: vec![ColumnBounds { column: 1, least: Some((&ScalarValue::from(-3i64)).try_into().unwrap()), greatest: None }],
        rows: vec![0, 7, 1, 92],
    };
    let whole = FileSplit {
        start: None,
        end: None,
        e_tag: None,
        version: None,
        metadata_size_hint: None,
        bounds: Vec::new(),
        rows: Vec::new(),
        ..file.clone()
    };
    let leaves = vec![
        LeafContent::Files(FileGroups { groups: vec![FileSplits { files: vec![file, whole] }, FileSplits::default()] }),
        LeafContent::Exchange(ExchangeSlices {
            slices: vec![ExchangeSlice { partitions: vec![2, 300], part: 1, of: 3, wave: 2, waves: 5, keys: vec![0, 4] }],
        }),
        LeafContent::Generator(GeneratorSlices { slices: vec![GeneratorSlice { parts: vec![0, 7], of: vec![8, 8] }] }),
        LeafContent::Whole(true),
    ];
    let bindings = TaskBindings::new(4, 2, leaves);
    insta::assert_snapshot!("task_bindings", hex(&bindings.to_bytes()));
    assert_eq!(TaskBindings::from_bytes(&bindings.to_bytes()).unwrap(), bindings);
}

#[test]
fn a_write_has_its_text() {
    insta::assert_snapshot!("write_spec", String::from_utf8(spec().encode()).unwrap());
    assert_eq!(WriteSpec::decode(&spec().encode()).unwrap(), spec());
    let file = StagedFile { staged: "t0-a1/part.csv".into(), path: "day=1/part.csv".into(), rows: 3, bytes: 40, ..StagedFile::default() };
    insta::assert_snapshot!("staged_file", serde_json::to_string(&file).unwrap());
}
