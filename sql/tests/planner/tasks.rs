//! What the planner says of stages and tasks.

use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::UnionExec;
use volley_sql::exchange::run_in_memory;
use volley_sql::explain::explain;
use volley_sql::graph::ClusterShape;
use volley_sql::planner::plan_job;
use volley_sql::session::{SessionBuilder, runtime_builder};

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

#[tokio::test]
async fn an_executor_keeps_the_page_index_of_a_footer() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let graph = graph(&session, "SELECT s, count(*) FROM t WHERE n > 1500 GROUP BY s").await;
    // Another process than the one that planned: nothing is cached there.
    let executor = SessionBuilder::new().build_state().unwrap();
    run_in_memory(&executor, &graph).await.unwrap();
    let footers = executor.runtime_env().cache_manager.get_file_metadata_cache().list_entries();
    assert!(!footers.is_empty());
    for (path, footer) in footers {
        let held = footer.value.file_metadata.extra_info();
        assert_eq!(held.get("page_index").map(String::as_str), Some("true"), "{path}");
    }
}

/// Each partition of an aggregation costs an opened scan and a hash table, so that a few groups get no more of them than there are slots.
#[tokio::test]
async fn few_groups_take_few_partitions_on_one_executor() {
    let tables = Tables::usual().await;
    let session = tables.ours(&[("volley.min_bytes_per_partition", "8000")]).await;
    let executor = ClusterShape { executors: 1, slots: 2, largest_slots: 2, memory_bytes: 4 << 30 };
    // `s` has 7 values in 4000 rows, which its encoding tells; `n` has 4000, which its bounds tell.
    for (key, least, most) in [("s", 2, 2), ("n", 16, 32), ("n, s", 16, 32), ("concat(s, 'x')", 16, 32)] {
        let plan = session.state().create_logical_plan(&format!("SELECT {key}, count(*) FROM t GROUP BY {key}")).await.unwrap();
        let graph = plan_job(&session.state(), &plan, executor).await.unwrap();
        assert_eq!(graph.stages.len(), 1, "{}", explain(&graph));
        let spread = all::<RepartitionExec>(&graph.stages[0].plan);
        let partitions = spread[0].output_partitioning().partition_count();
        assert!((least..=most).contains(&partitions), "{key}: {partitions}");
    }
}
