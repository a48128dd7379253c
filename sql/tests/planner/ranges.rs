//! Large sorts are of ranges: in the same order as plain DataFusion's, in partitions of about the same size.

use datafusion::physical_plan::displayable;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use volley_sql::exchange::{Exchange, run_in_memory};
use volley_sql::graph::StageGraph;

use super::{CUT, RANGES, Tables, all, graph, rows};

fn ranges(graph: &StageGraph) -> usize {
    graph.stages.iter().filter(|stage| matches!(stage.output, Exchange::Range { .. })).count()
}

#[tokio::test]
async fn rows_come_in_order() {
    let tables = Tables::unordered().await;
    let (ours, plain) = (tables.ours(RANGES).await, tables.plain().await);
    for sql in [
        "SELECT n, s FROM r ORDER BY n",
        "SELECT n, s FROM r ORDER BY n DESC",
        "SELECT k, n FROM r ORDER BY k, n",
        "SELECT k, n FROM r ORDER BY k DESC NULLS FIRST, n DESC",
        "SELECT k, n FROM r ORDER BY k DESC NULLS LAST, n",
        "SELECT s, n FROM r ORDER BY s DESC, n",
        "SELECT n + 1 AS m, s FROM r WHERE k = 3 ORDER BY n",
        "SELECT k, count(*) AS c FROM r GROUP BY k ORDER BY k",
        "SELECT n * 3 % 1000 AS m, n FROM r ORDER BY m DESC, n",
        "SELECT n, k FROM r WHERE k > 5 ORDER BY n - 10 * k, n",
        "SELECT n FROM r ORDER BY concat(s, 'x'), n",
    ] {
        let graph = graph(&ours, sql).await;
        let plans: Vec<_> = graph.stages.iter().map(|stage| displayable(stage.plan.as_ref()).indent(false).to_string()).collect();
        assert_eq!(ranges(&graph), 1, "{sql}\n{}", plans.join("\n"));
        let root = &graph.stages[graph.root().0 as usize];
        assert!(root.shape.output_partitions > 1 && all::<SortPreservingMergeExec>(&root.plan).is_empty(), "{sql}");
        let found = rows(&run_in_memory(&ours.state(), &graph).await.unwrap());
        assert_eq!(found, rows(&plain.sql(sql).await.unwrap().collect().await.unwrap()), "{sql}");
    }
}

#[tokio::test]
async fn partitions_are_of_about_one_size() {
    let tables = Tables::unordered().await;
    let ours = tables.ours(RANGES).await;
    let graph = graph(&ours, "SELECT n FROM r ORDER BY n").await;
    let Some(Exchange::Range { by }) =
        graph.stages.iter().map(|stage| &stage.output).find(|output| matches!(output, Exchange::Range { .. }))
    else {
        panic!("no ranges");
    };
    let points: Vec<i64> = by.split_points().iter().map(|point| point.values()[0].to_string().parse().unwrap()).collect();
    let bounds: Vec<i64> = std::iter::once(0).chain(points).chain([4000]).collect();
    assert_eq!(bounds.len(), 5);
    for range in bounds.windows(2) {
        assert!((800..1200).contains(&(range[1] - range[0])), "{bounds:?}");
    }
}

#[tokio::test]
async fn small_sorts_and_those_of_unknown_values_are_merged() {
    let tables = Tables::unordered().await;
    for (options, sql) in [
        (CUT, "SELECT n FROM r ORDER BY n"),
        (RANGES, "SELECT k, count(*) AS c FROM r GROUP BY k ORDER BY c"),
        (RANGES, "SELECT n FROM r ORDER BY n LIMIT 9"),
    ] {
        let ours = tables.ours(options).await;
        assert_eq!(ranges(&graph(&ours, sql).await), 0, "{sql}");
    }
}
