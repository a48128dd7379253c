//! What travels: nothing that the engine's own encoding loses, and a clear refusal of what can't.

use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use volley_proto::Remedy;
use volley_sql::codec::PlanCodec;
use volley_sql::diagnostics::failure_of;
use volley_sql::exchange::run_in_memory;
use volley_sql::extension::Extensions;
use volley_sql::graph::ClusterShape;
use volley_sql::leaf::{LeafExec, file_scan};
use volley_sql::planner::plan_job;
use volley_sql::statement::Statement;

use super::{CLUSTER, CUT, Tables, all, decoded, graph, plain_rows, sorted};
use crate::support::{immediate, planned};

#[tokio::test]
async fn an_operator_without_encoding_is_refused_by_its_name() {
    let tables = Tables::none();
    let session = tables.ours(CUT).await;
    let table = session.sql("SELECT * FROM information_schema.tables").await.unwrap().create_physical_plan().await.unwrap();
    let leaf = all::<datafusion::physical_plan::streaming::StreamingTableExec>(&table).remove(0);
    for plan in [table, Arc::new(LeafExec::new(0, leaf)) as Arc<dyn ExecutionPlan>] {
        let failure = failure_of(&PlanCodec::encode_plan(&plan, &Extensions::default()).unwrap_err());
        assert_eq!(failure.remedy, Remedy::Query, "{failure}");
        let words = "operator StreamingTableExec can't be sent to an executor: it has no encoding; rewrite the query without it";
        assert_eq!(failure.message, words);
    }
}

/// The files of the scans in a plan, with all that tells whether one has changed.
fn scanned(plan: &Arc<dyn ExecutionPlan>) -> Vec<Vec<String>> {
    let scans = all::<DataSourceExec>(plan);
    let groups = scans.iter().filter_map(file_scan).flat_map(|scan| &scan.file_groups);
    let file = |file: &datafusion::datasource::listing::PartitionedFile| format!("{:?} {:?}", file.object_meta, file.range);
    groups.map(|group| group.files().iter().map(file).collect()).collect()
}

#[tokio::test]
async fn a_tasks_scan_has_the_planned_groups() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let graph = graph(&session, "SELECT s, count(*) FROM t GROUP BY s").await;
    let stage = &graph.stages[0];
    let leaf = all::<LeafExec>(&stage.plan).remove(0);
    let planned = scanned(leaf.downcast_ref::<LeafExec>().unwrap().leaf());
    assert_eq!((planned.len(), stage.tasks.len()), (4, 3));
    assert!(planned.iter().flatten().all(|file| file.contains("e_tag: Some")), "{planned:?}");
    let mut read = vec![];
    for (index, task) in stage.tasks.iter().enumerate() {
        let groups = scanned(&decoded(&session, stage, index));
        assert_eq!(groups.len(), task.partitions as usize);
        read.extend(groups);
    }
    assert_eq!(read, planned, "each group in one task, in order");
}

fn lines(plan: &Arc<dyn ExecutionPlan>, word: &str) -> Vec<String> {
    let text = displayable(plan.as_ref()).indent(false).to_string();
    text.lines().filter_map(|line| Some(line[line.find(word)?..].to_owned())).collect()
}

#[tokio::test]
async fn a_decoded_scan_knows_the_order_that_a_sort_is_after() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    for (sql, reversed) in [("SELECT n, s FROM t ORDER BY n DESC LIMIT 3", true), ("SELECT n, s FROM t ORDER BY s LIMIT 3", false)] {
        let graph = graph(&session, sql).await;
        let stage = &graph.stages[0];
        let planned = lines(&stage.plan, "sort_order_for_reorder");
        assert_eq!(planned.len(), 1, "{sql}");
        assert_eq!(planned[0].contains("reverse_row_groups=true"), reversed, "{planned:?}");
        for index in 0..stage.tasks.len() {
            assert_eq!(lines(&decoded(&session, stage, index), "sort_order_for_reorder"), planned, "{sql}");
        }
    }
}

#[tokio::test]
async fn an_order_over_several_files_survives() {
    let mut tables = Tables::none();
    tables
        .add(
            "plain",
            &["SELECT value / 3 AS a FROM generate_series(0, 599)".into(), "SELECT value / 3 AS a FROM generate_series(600, 999)".into()],
        )
        .await;
    let session = tables.ours(&[("volley.fit", "always")]).await;
    let at = tables.registered[0].1.display();
    immediate(&session, &format!("CREATE EXTERNAL TABLE sorted (a BIGINT) STORED AS PARQUET WITH ORDER (a) LOCATION '{at}/'")).await;
    let one_slot = ClusterShape { executors: 1, slots: 1, ..CLUSTER };
    let plain = tables.plain().await;
    for (window, operator) in [("PARTITION BY a", " WindowAggExec"), ("PARTITION BY a ORDER BY a", "BoundedWindowAggExec")] {
        let sql = format!("SELECT a, count(*) OVER ({window}) FROM sorted");
        let Statement::Query(plan) = planned(&session, &sql).await.unwrap() else { panic!() };
        let graph = plan_job(&session.state(), &plan, one_slot).await.unwrap();
        let text = displayable(graph.stages[0].plan.as_ref()).indent(false).to_string();
        assert!(text.contains(operator) && !text.contains("SortExec"), "the window relies on the order of the files:\n{text}");
        let text = displayable(decoded(&session, &graph.stages[0], 0).as_ref()).indent(false).to_string();
        assert!(text.contains("output_ordering=[a@0 ASC NULLS LAST]"), "{text}");
        let rows = run_in_memory(&session.state(), &graph).await.unwrap();
        assert_eq!(sorted(&rows), plain_rows(&plain, &sql.replace("sorted", "plain")).await, "{sql}");
    }
}
