//! The built-in catalogs: parts are the whole, whatever their number.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::stats::Precision;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use volley_sql::catalog::{GeneratedTable, GeneratorExec, GeneratorSplit, Scale, Suite};

use crate::support::{count, error, session, settings};

async fn generate(session: &SessionContext, table: GeneratedTable, partitions: Vec<Vec<GeneratorSplit>>) -> RecordBatch {
    let mut batches = vec![];
    let plan = std::sync::Arc::new(GeneratorExec::new(table, partitions, None).unwrap());
    for partition in 0..plan.partitions().len() {
        let stream = plan.execute(partition, session.task_ctx()).unwrap();
        batches.extend(datafusion::physical_plan::common::collect(stream).await.unwrap());
    }
    concat_batches(&table.schema(), &batches).unwrap()
}

fn parts(of: u32) -> Vec<Vec<GeneratorSplit>> {
    (0..of).map(|part| vec![GeneratorSplit { part, of }]).collect()
}

async fn parts_are_the_whole(suite: Suite, scale: &str) {
    let session = session();
    let scale: Scale = scale.parse().unwrap();
    for name in suite.tables() {
        let table = suite.table(name, scale).unwrap();
        let whole = generate(&session, table, parts(1)).await;
        for of in [2, 3, 7, 64] {
            let split = generate(&session, table, parts(of.min(table.most_parts() as u32))).await;
            assert!(whole == split, "{table} in {of} parts differs from the whole: {} and {} rows", whole.num_rows(), split.num_rows());
        }
        match table.rows() {
            Precision::Exact(rows) => assert_eq!(rows, whole.num_rows(), "{table} has another number of rows than told"),
            Precision::Inexact(rows) => {
                let (told, is) = (rows as f64, whole.num_rows() as f64);
                assert!((told / is - 1.0).abs() < 0.1, "{table} has {is} rows, told are {told}");
            }
            Precision::Absent => panic!("{table} tells nothing of its rows"),
        }
        let bytes = whole.get_array_memory_size() as f64 / whole.num_rows() as f64;
        let told = table.row_bytes() as f64;
        assert!(whole.num_rows() < 1000 || (0.3..3.0).contains(&(told / bytes)), "{table}: told are {told} bytes a row, it has {bytes}");
    }
}

#[tokio::test]
async fn all_parts_of_a_tpch_table_are_the_table() {
    parts_are_the_whole(Suite::TpcH, "sf0_01").await;
}

#[tokio::test]
async fn all_parts_of_a_tpcds_table_are_the_table() {
    parts_are_the_whole(Suite::TpcDs, "sf0_01").await;
}

#[tokio::test]
async fn a_scan_has_the_rows_of_the_table_in_any_partitioning() {
    for partitions in ["1", "5"] {
        for least_bytes in ["1", "33554432"] {
            let settings =
                settings(&[("datafusion.execution.target_partitions", partitions), ("volley.min_bytes_per_partition", least_bytes)]);
            let session = volley_sql::session::SessionBuilder::new().settings(&settings).build().unwrap();
            assert_eq!(count(&session, "SELECT count(l_orderkey) FROM tpch.sf0_01.lineitem").await, 60175);
            assert_eq!(count(&session, "SELECT count(distinct o_orderkey) FROM tpch.sf0_01.orders").await, 15000);
            assert_eq!(count(&session, "SELECT sum(r_regionkey) FROM tpch.sf0_01.region").await, 10);
        }
    }
}

#[tokio::test]
async fn one_byte_partitions_make_as_many_partitions_as_asked_for() {
    let settings = settings(&[("datafusion.execution.target_partitions", "7"), ("volley.min_bytes_per_partition", "1")]);
    let session = volley_sql::session::SessionBuilder::new().settings(&settings).build().unwrap();
    let plan = session.sql("SELECT l_orderkey FROM tpch.sf0_01.lineitem").await.unwrap().create_physical_plan().await.unwrap();
    let scan = std::iter::successors(Some(&plan), |node| node.children().first().copied());
    let scan = scan.filter_map(|node| node.downcast_ref::<GeneratorExec>()).next().unwrap();
    assert_eq!(scan.partitions().len(), 7);
    assert_eq!(scan.projection(), Some(&[0][..]));
    let again = scan.with_partitions(scan.partitions()[3..].to_vec()).unwrap();
    let rows: usize = collect(std::sync::Arc::new(again), session.task_ctx()).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert!(0 < rows && rows < 60175);
}

#[tokio::test]
async fn any_scale_has_its_schema() {
    let session = session();
    assert_eq!(count(&session, "SELECT count(*) FROM tpch.sf0_02.supplier").await, 200);
    assert_eq!(count(&session, "SELECT count(*) FROM tpch.sf300.nation").await, 25);
    let names =
        count(&session, "SELECT count(*) FROM information_schema.tables WHERE table_catalog = 'tpcds' AND table_schema = 'sf1'").await;
    assert_eq!(names, 25);
    for scale in ["sf0", "sf", "sf-1", "sf1e3", "sf999999", "1", "sf1_0_0"] {
        assert!(scale.parse::<Scale>().is_err(), "{scale} is a scale");
    }
    let unknown = error(&session, "SELECT * FROM tpch.sf1.linitem").await;
    assert!(unknown.contains("did you mean 'lineitem'?"), "{unknown}");
}
