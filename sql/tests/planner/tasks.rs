//! What the planner says of stages and tasks.

use datafusion::physical_plan::union::UnionExec;
use volley_sql::explain::explain;
use volley_sql::session::runtime_builder;

use super::{CUT, Tables, all, graph};

#[tokio::test]
async fn an_input_of_a_union_whose_partitions_share_files_is_indeterminate() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    // The window takes one partition, so the inner union can't be split; its other input reads several groups of files.
    let sql = "SELECT n FROM t UNION ALL SELECT unnest(a) \
               FROM (SELECT make_array(n, k) AS a FROM t UNION ALL SELECT make_array(sum(n) OVER (ORDER BY n)) FROM t)";
    let graph = graph(&session, sql).await;
    let root = graph.root();
    let inner = graph.stages.iter().find(|stage| stage.shape.id != root && !all::<UnionExec>(&stage.plan).is_empty());
    let inner = inner.unwrap_or_else(|| panic!("{}", explain(&graph)));
    assert!(!inner.shape.deterministic, "{}", explain(&graph));
}

#[test]
fn caches_hold_what_a_large_table_needs() {
    let caches = &runtime_builder().build_arc().unwrap().cache_manager;
    assert!(caches.get_metadata_cache_limit() >= 256 << 20, "footers");
    assert!(caches.get_file_statistic_cache_limit() >= 64 << 20, "statistics");
    assert_eq!(caches.get_list_files_cache_limit(), 0, "a file written a moment ago is seen");
}
