//! Stages that run in another way than planned, once the sizes of what they read are known.

use std::sync::Arc;

use volley_proto::{PartitionStats, StageId};
use volley_sql::exchange::{run_and_count, run_in_memory};
use volley_sql::explain::explain;
use volley_sql::graph::{ClusterShape, StageGraph};
use volley_sql::options::VolleyOptions;
use volley_sql::planner::adapt::{Limits, Progress, adapt, adaptable};

use super::{CLUSTER, CUT, PARTITIONED, Tables, graph, plain_rows, sorted};

const MIB: u64 = 1 << 20;

/// Bytes of the partitions of every stage: next to nothing, one partition that has nearly all, and one of a middle size beside small ones.
pub(super) const SIZES: [[u64; 4]; 3] = [[0, 100, 0, 7], [64 * MIB, 0, 100, 50], [3 * MIB, MIB / 4, MIB / 4, MIB / 4]];

/// Of executors that have room for 8 MiB of build sides at a time.
const SMALL: ClusterShape = ClusterShape { memory_bytes: 16 << 20, ..CLUSTER };

/// A session's options that let plans change.
fn adapting() -> VolleyOptions {
    let mut options = VolleyOptions::default();
    options.adapt = true;
    options
}

fn limits(cluster: ClusterShape) -> Limits {
    Limits::new(&adapting(), cluster).unwrap()
}

fn sizes(bytes: [u64; 4]) -> Arc<[PartitionStats]> {
    // With one more for what a build side tells of its keys.
    bytes.into_iter().chain([9]).map(|bytes| PartitionStats { rows: bytes.div_ceil(8), bytes }).collect()
}

/// The graph in all the ways in which it may run: with stages of the sizes above, with stages one of whose inputs has most of its bytes in
/// one partition and the other next to none, on executors with little memory, and with joins whose build sides are there first.
pub(super) fn all_adapted(graph: &StageGraph) -> Vec<StageGraph> {
    let even = SIZES.iter().flat_map(|bytes| [CLUSTER, SMALL].map(|cluster| adapted(graph, cluster, |_| *bytes)));
    let skewed = (0..2).flat_map(|large| {
        let bytes = move |stage: StageId| if stage.0 % 2 == large { SIZES[1] } else { [1; 4] };
        [CLUSTER, SMALL].map(|cluster| adapted(graph, cluster, bytes))
    });
    even.chain(skewed).chain([switched(graph)]).flatten().collect()
}

/// The graph as it changes when questions about these stages are answered, in this order; `None` where nothing does, or where rows may differ
/// from run to run.
fn answered(graph: &StageGraph, asked: &[StageId], progress: &Progress, limits: &Limits) -> Option<StageGraph> {
    let mut changed = graph.clone();
    for stage in asked {
        let stages = adapt(&changed, *stage, progress, limits).unwrap();
        changed = changed.with_stages(stages);
    }
    let is_changed = changed.stages.iter().any(|stage| stage.adapted.is_some());
    (is_changed && graph.stages.iter().all(|stage| stage.shape.deterministic)).then_some(changed)
}

/// The graph with every stage adapted to inputs of these sizes.
fn adapted(graph: &StageGraph, cluster: ClusterShape, bytes: impl Fn(StageId) -> [u64; 4]) -> Option<StageGraph> {
    let mut progress = Progress::default();
    graph.stages.iter().map(|stage| stage.shape.id).for_each(|stage| progress.completed(stage, sizes(bytes(stage)), true));
    answered(graph, &adaptable(graph), &progress, &limits(cluster))
}

/// The graph with every stage adapted to a first input that is small, and there before the others have started.
fn switched(graph: &StageGraph) -> Option<StageGraph> {
    let mut changed = None;
    for stage in adaptable(graph) {
        let now = changed.as_ref().unwrap_or(graph);
        let Some(first) = now.stages[stage.0 as usize].shape.inputs.first() else { continue };
        let mut progress = Progress::default();
        progress.completed(first.producer, sizes([1; 4]), false);
        changed = answered(now, &[stage], &progress, &limits(CLUSTER)).or(changed);
    }
    changed
}

fn decisions(graph: &StageGraph) -> Vec<String> {
    graph.stages.iter().filter_map(|stage| Some(format!("{} {}: {}", stage.shape.id, stage.shape.tasks, stage.adapted.as_ref()?))).collect()
}

#[tokio::test]
async fn what_is_small_is_read_together_and_tasks_get_equal_bytes() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, "SELECT count(*) FROM (SELECT t.k, count(*) FROM t JOIN d ON t.k = d.k GROUP BY t.k)").await;
    let decided = SIZES.map(|bytes| decisions(&adapted(&graph, CLUSTER, |_| bytes).unwrap_or_else(|| panic!("{}", explain(&graph)))));
    assert!(decided[0].iter().all(|one| one.contains(" 1: 1 partition in 1 task instead of 4 partitions in 3 tasks: ")), "{decided:?}");
    assert!(decided[1].iter().all(|one| one.contains(" 2: 2 partitions in 2 tasks instead of 4 partitions in 3 tasks: ")), "{decided:?}");
    assert!(!decided[0].is_empty() && !decided[1].is_empty(), "{}", explain(&graph));
}

#[tokio::test]
async fn a_stage_waits_until_all_that_it_reads_is_complete() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, "SELECT count(*) FROM t JOIN d ON t.k = d.k").await;
    let [join] = adaptable(&graph)[..] else { panic!("{}", explain(&graph)) };
    let mut progress = Progress::default();
    let [first, second] = graph.stages[join.0 as usize].shape.inputs[..] else { panic!("{}", explain(&graph)) };
    progress.started(second.producer);
    progress.completed(first.producer, sizes(SIZES[0]), true);
    assert!(adapt(&graph, join, &progress, &limits(CLUSTER)).unwrap().is_empty());
    progress.completed(second.producer, sizes(SIZES[0]), true);
    assert_eq!(adapt(&graph, join, &progress, &limits(CLUSTER)).unwrap().len(), 1);
}

#[tokio::test]
async fn who_asks_for_small_partitions_gets_them() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let graph = graph(&session, "SELECT count(*) FROM (SELECT k, count(*) FROM t GROUP BY k)").await;
    let [stage] = adaptable(&graph)[..] else { panic!("{}", explain(&graph)) };
    let mut progress = Progress::default();
    graph.stages.iter().for_each(|stage| progress.completed(stage.shape.id, sizes([100; 4]), true));
    let mut options = adapting();
    options.min_bytes_per_partition = 1;
    let limits = Limits::new(&options, CLUSTER).unwrap();
    assert!(adapt(&graph, stage, &progress, &limits).unwrap().is_empty());
    options.adapt = false;
    assert_eq!(Limits::new(&options, CLUSTER), None);
}

#[tokio::test]
async fn what_reads_files_or_is_the_result_stays_as_it_is() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    for sql in ["SELECT k, count(*) FROM t GROUP BY k", "SELECT count(*) FROM t", "SELECT n FROM t ORDER BY n"] {
        let graph = graph(&session, sql).await;
        assert_eq!(adaptable(&graph), [], "{}", explain(&graph));
    }
}

#[tokio::test]
async fn a_partition_with_most_of_the_rows_is_read_in_parts() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let counted = |join: &str| format!("SELECT u.s, count(*) FROM (SELECT t.s FROM {join}) u GROUP BY u.s");
    // The first stage is the scan of the build side.
    let probe_is_large = |stage: StageId| if stage.0 == 1 { SIZES[1] } else { [1; 4] };
    let graph_of = async |join: &str| graph(&session, &counted(join)).await;
    let graph = graph_of("d JOIN t ON t.k = d.k").await;
    let decided = decisions(&adapted(&graph, CLUSTER, probe_is_large).unwrap_or_else(|| panic!("{}", explain(&graph))));
    assert!(decided[0].contains(" is read in 3 parts: 67108865 of 67109018 bytes came for it"), "{decided:?}");
    // A build side that is as large would be read three times; one whose unmatched rows are wanted can't be.
    for (graph, sizes) in [(graph, SIZES[1]), (graph_of("d LEFT JOIN t ON t.k = d.k AND t.n > 10 WHERE d.k < 100").await, [1; 4])] {
        let even = adapted(&graph, CLUSTER, |stage| if stage.0 == 1 { SIZES[1] } else { sizes });
        let decided = even.map(|even| decisions(&even)).unwrap_or_default();
        assert!(decided.iter().all(|one| !one.contains("parts")), "{decided:?}");
    }
}

/// Names of `d` by how often they come in `t`, so that the join is not the last stage.
const NAMES: &str = "SELECT name, count(*) FROM d JOIN t ON t.k = d.k GROUP BY name";

#[tokio::test]
async fn a_join_builds_from_the_smaller_side() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    for (join, swapped) in [("JOIN", "Inner"), ("LEFT JOIN", "Right"), ("FULL JOIN", "Full"), ("LEFT ANTI JOIN", "RightAnti")] {
        let sql = format!("SELECT d.k % 3, count(*) FROM d {join} t ON t.k = d.k AND d.name <> concat('name ', 4) GROUP BY 1");
        let graph = graph(&session, &sql).await;
        let build_is_large = |stage: StageId| if stage.0 == 0 { SIZES[2] } else { [1; 4] };
        let adapted = adapted(&graph, CLUSTER, build_is_large).unwrap_or_else(|| panic!("{}", explain(&graph)));
        let decided = decisions(&adapted);
        let expected = "the join builds from s1 instead of s0: 4 rows, 4 bytes came from s1, 491520 rows, 3932160 bytes from s0; ";
        assert!(decided[0].contains(expected), "{decided:?}");
        assert!(explain(&adapted).contains(&format!("join_type={swapped}")), "{}", explain(&adapted));
        let rows = run_in_memory(&session.state(), &adapted).await.unwrap();
        assert_eq!(sorted(&rows), plain_rows(&tables.plain().await, &sql).await, "{sql}");
    }
}

#[tokio::test]
async fn a_build_side_that_is_small_goes_to_where_the_probe_side_is_made() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, NAMES).await;
    let switched = switched(&graph).unwrap_or_else(|| panic!("{}", explain(&graph)));
    assert_eq!(
        decisions(&switched)[..2],
        [
            "s1 0: dropped: s2 does its work: 4 rows, 4 bytes came from s0".to_owned(),
            format!(
                "s2 {}: every task joins with all of s0, where s1 would have run: 4 rows, 4 bytes came from s0",
                graph.stages[1].tasks.len()
            ),
        ],
        "{}",
        explain(&switched)
    );
    assert!(explain(&switched).contains("mode=CollectLeft"), "{}", explain(&switched));
    let (rows, written) = run_and_count(&session.state(), &switched).await.unwrap();
    assert_eq!(written[1], 0);
    assert_eq!(sorted(&rows), plain_rows(&tables.plain().await, NAMES).await);
    // Not what has started, nor what is large.
    let [join, ..] = adaptable(&graph)[..] else { panic!("{}", explain(&graph)) };
    for (bytes, is_started) in [([1; 4], true), (SIZES[1], false)] {
        let mut progress = Progress::default();
        progress.completed(StageId(0), sizes(bytes), true);
        if is_started {
            progress.started(StageId(1));
        }
        assert!(adapt(&graph, join, &progress, &limits(CLUSTER)).unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_a_join_without_rows_would_have_read_is_not_made() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let sql = "SELECT name, count(*) FROM (SELECT * FROM d WHERE name > 'z') d JOIN (SELECT k, count(*) FROM t GROUP BY k) t ON t.k = d.k GROUP BY name";
    let graph = graph(&session, sql).await;
    let join = adaptable(&graph).into_iter().find(|stage| graph.stages[stage.0 as usize].shape.inputs.len() == 2);
    let join = join.unwrap_or_else(|| panic!("{}", explain(&graph)));
    let nothing: Arc<[PartitionStats]> = vec![PartitionStats { rows: 0, bytes: 0 }; 4].into();
    let empty = graph.stages[join.0 as usize].shape.inputs[0].producer;
    let complete = |is_exact| {
        let mut progress = Progress::default();
        progress.completed(empty, Arc::clone(&nothing), is_exact);
        progress
    };
    let emptied = answered(&graph, &[join], &complete(true), &limits(CLUSTER)).unwrap_or_else(|| panic!("{}", explain(&graph)));
    let decided = decisions(&emptied);
    assert_eq!(decided.last().unwrap(), &format!("{join} 1: a join makes no rows: {empty} has none"), "{}", explain(&emptied));
    assert!(decided.len() > 1 && decided[..decided.len() - 1].iter().all(|one| one.contains(" 0: dropped: ")), "{decided:?}");
    let (rows, written) = run_and_count(&session.state(), &emptied).await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
    // Besides one of each task of the build side, which tells that it has none.
    let told = graph.stages[empty.0 as usize].tasks.len();
    assert!(written.iter().sum::<usize>() <= told && written[join.0 as usize] == 0, "{written:?}");
    // Sizes that may be those of other rows are no proof.
    let estimated = answered(&graph, &[join], &complete(false), &limits(CLUSTER));
    assert!(estimated.is_none_or(|graph| decisions(&graph).iter().all(|one| !one.contains("makes no rows"))));
}

#[tokio::test]
async fn a_build_side_that_does_not_fit_is_joined_in_waves() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, NAMES).await;
    // 8 MiB are there for a build side of 6 MiB and for its hash table; as much comes of the other side.
    let large = |_: StageId| [6 * MIB, 100, 100, 100];
    let adapted = adapted(&graph, SMALL, large).unwrap_or_else(|| panic!("{}", explain(&graph)));
    let decided = decisions(&adapted);
    assert!(
        decided[0].contains("partition 0 is joined in 2 waves: 6291456 bytes came for its build side, more than a task has room for"),
        "{decided:?}"
    );
    let rows = run_in_memory(&session.state(), &adapted).await.unwrap();
    assert_eq!(sorted(&rows), plain_rows(&tables.plain().await, NAMES).await);
}
