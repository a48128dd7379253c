//! Stages that run in another way than planned, once the sizes of what they read are known.

use volley_proto::{PartitionStats, StageId};
use volley_sql::explain::explain;
use volley_sql::graph::StageGraph;
use volley_sql::options::VolleyOptions;
use volley_sql::planner::adapt::{Limits, adapt, adaptable};

use super::{CLUSTER, CUT, PARTITIONED, Tables, graph};

const MIB: u64 = 1 << 20;

/// Bytes of the partitions of every stage: next to nothing, one partition that has nearly all, and one of a middle size beside small ones.
pub(super) const SIZES: [[u64; 4]; 3] = [[0, 100, 0, 7], [64 * MIB, 0, 100, 50], [3 * MIB, MIB / 4, MIB / 4, MIB / 4]];

/// A session's options that let plans change.
fn adapting() -> VolleyOptions {
    let mut options = VolleyOptions::default();
    options.adapt = true;
    options
}

fn sizes(bytes: [u64; 4]) -> Vec<PartitionStats> {
    // With one more for what a build side tells of its keys.
    bytes.into_iter().chain([9]).map(|bytes| PartitionStats { rows: bytes / 8, bytes }).collect()
}

/// The graph in all the ways in which it may run: with stages of the sizes above, and with stages one of whose inputs has most of its bytes in
/// one partition and the other next to none.
pub(super) fn all_adapted(graph: &StageGraph) -> Vec<StageGraph> {
    let even = SIZES.iter().filter_map(|bytes| adapted(graph, |_| *bytes));
    let skewed = (0..2).filter_map(|large| adapted(graph, |stage| if stage.0 % 2 == large { SIZES[1] } else { [1; 4] }));
    even.chain(skewed).collect()
}

/// The graph with every stage adapted to inputs of these sizes; `None` where none is, or where rows may differ from run to run.
fn adapted(graph: &StageGraph, bytes: impl Fn(StageId) -> [u64; 4]) -> Option<StageGraph> {
    let limits = Limits::new(&adapting(), CLUSTER).unwrap();
    let sizes: Vec<_> = graph.stages.iter().map(|stage| sizes(bytes(stage.shape.id))).collect();
    let mut changed = graph.clone();
    for stage in adaptable(graph) {
        if let Some(adapted) = adapt(graph, stage, |stage| sizes.get(stage.0 as usize).map(|sizes| &sizes[..]), &limits).unwrap() {
            changed = changed.adapted(stage, adapted);
        }
    }
    let is_changed = changed.stages.iter().any(|stage| stage.adapted.is_some());
    (is_changed && graph.stages.iter().all(|stage| stage.shape.deterministic)).then_some(changed)
}

fn decisions(graph: &StageGraph) -> Vec<String> {
    graph.stages.iter().filter_map(|stage| Some(format!("{} {}: {}", stage.shape.id, stage.shape.tasks, stage.adapted.as_ref()?))).collect()
}

#[tokio::test]
async fn what_is_small_is_read_together_and_tasks_get_equal_bytes() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, "SELECT count(*) FROM (SELECT t.k, count(*) FROM t JOIN d ON t.k = d.k GROUP BY t.k)").await;
    let decided = SIZES.map(|bytes| decisions(&adapted(&graph, |_| bytes).unwrap_or_else(|| panic!("{}", explain(&graph)))));
    assert!(decided[0].iter().all(|one| one.contains(" 1: 1 partition in 1 task instead of 4 partitions in 3 tasks: ")), "{decided:?}");
    assert!(decided[1].iter().all(|one| one.contains(" 2: 2 partitions in 2 tasks instead of 4 partitions in 3 tasks: ")), "{decided:?}");
    assert!(!decided[0].is_empty() && !decided[1].is_empty(), "{}", explain(&graph));
}

#[tokio::test]
async fn a_stage_waits_until_all_that_it_reads_is_complete() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let graph = graph(&session, "SELECT count(*) FROM t JOIN d ON t.k = d.k").await;
    let limits = Limits::new(&adapting(), CLUSTER).unwrap();
    let sizes = sizes(SIZES[0]);
    let [join] = adaptable(&graph)[..] else { panic!("{}", explain(&graph)) };
    let first = graph.stages[join.0 as usize].shape.inputs[0].producer;
    let one = adapt(&graph, join, |stage| (stage == first).then_some(&sizes[..]), &limits).unwrap();
    assert_eq!(one, None);
    assert!(adapt(&graph, join, |_| Some(&sizes), &limits).unwrap().is_some());
}

#[tokio::test]
async fn who_asks_for_small_partitions_gets_them() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let graph = graph(&session, "SELECT count(*) FROM (SELECT k, count(*) FROM t GROUP BY k)").await;
    let sizes = sizes([100; 4]);
    let [stage] = adaptable(&graph)[..] else { panic!("{}", explain(&graph)) };
    let mut options = adapting();
    options.min_bytes_per_partition = 1;
    let limits = Limits::new(&options, CLUSTER).unwrap();
    assert_eq!(adapt(&graph, stage, |_| Some(&sizes), &limits).unwrap(), None);
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
    let decided = decisions(&adapted(&graph, probe_is_large).unwrap_or_else(|| panic!("{}", explain(&graph))));
    assert!(decided[0].contains(" is read in 3 parts: 67108865 of 67109018 bytes came for it"), "{decided:?}");
    // A build side that is as large would be read three times; one whose unmatched rows are wanted can't be.
    for (graph, sizes) in [(graph, SIZES[1]), (graph_of("d LEFT JOIN t ON t.k = d.k AND t.n > 10 WHERE d.k < 100").await, [1; 4])] {
        let even = adapted(&graph, |stage| if stage.0 == 1 { SIZES[1] } else { sizes });
        let decided = even.map(|even| decisions(&even)).unwrap_or_default();
        assert!(decided.iter().all(|one| !one.contains("parts")), "{decided:?}");
    }
}
