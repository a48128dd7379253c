//! A stage graph that breaks a rule is refused: each rule, broken by hand.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, empty::EmptyExec};
use datafusion::prelude::SessionContext;
use volley_proto::{InputRead, StageId};
use volley_sql::codec::{FileGroups, LeafContent};
use volley_sql::exchange::{Exchange, ExchangeWriteExec};
use volley_sql::graph::{Stage, StageGraph};
use volley_sql::leaf::LeafExec;

use super::{CUT, PARTITIONED, Tables, all, graph};

type Plan = Arc<dyn ExecutionPlan>;

const GROUPED: &str = "SELECT s, count(*) FROM t GROUP BY s";
const JOINED: &str = "SELECT t.n, d.name FROM t JOIN d ON t.k = d.k";

fn refused(graph: &StageGraph) -> String {
    graph.validate().unwrap_err().to_string()
}

/// What is said of a query's graph after a change.
async fn broken(session: &SessionContext, sql: &str, change: impl FnOnce(&mut StageGraph)) -> String {
    let mut graph = graph(session, sql).await;
    graph.validate().unwrap();
    change(&mut graph);
    refused(&graph)
}

fn rewrite(stage: &mut Stage, mut change: impl FnMut(&Plan) -> Option<Plan>) {
    let plan = Arc::clone(&stage.plan);
    let changed = plan.transform_up(|node| Ok(change(&node).map_or_else(|| Transformed::no(node), Transformed::yes))).unwrap();
    assert!(changed.transformed, "nothing was changed");
    stage.plan = changed.data;
}

/// The stage with an operator of this kind.
fn stage_with<T: ExecutionPlan>(graph: &mut StageGraph) -> &mut Stage {
    graph.stages.iter_mut().find(|stage| !all::<T>(&stage.plan).is_empty()).unwrap()
}

fn files(stage: &mut Stage, task: usize) -> &mut FileGroups {
    let leaves = stage.tasks[task].leaves.iter_mut();
    let mut groups = leaves.filter_map(|leaf| match &mut leaf.content {
        Some(LeafContent::Files(groups)) => Some(groups),
        _ => None,
    });
    groups.next().unwrap()
}

fn assert_says(said: &str, words: &str) {
    assert!(said.contains("breaks a rule") && said.contains(words), "{words:?} is not in: {said}");
}

#[tokio::test]
async fn stages_read_those_before_them() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, GROUPED, |graph| graph.stages[1].shape.id = StageId(7)).await;
    assert_says(&said, "stage s7 stands at place 1");
    let said = broken(&session, GROUPED, |graph| graph.stages[1].shape.inputs[0].producer = StageId(1)).await;
    assert_says(&said, "stage s1 reads s1, which does not come before it");
    let said = broken(&session, GROUPED, |graph| graph.stages[1].shape.inputs.clear()).await;
    assert_says(&said, "stage s0 has 0 consumers instead of one");
    let said = broken(&session, GROUPED, |graph| graph.stages.clear()).await;
    assert_says(&said, "it has no stage");
}

#[tokio::test]
async fn stages_write_what_they_declare() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, GROUPED, |graph| graph.stages[0].plan = Arc::clone(graph.stages[0].plan.children()[0])).await;
    assert_says(&said, "its root is AggregateExec instead of ExchangeWriteExec");
    let said = broken(&session, GROUPED, |graph| graph.stages[0].shape.output_partitions += 1).await;
    assert_says(&said, "it declares 5 output partitions and writes 4");
}

#[tokio::test]
async fn tasks_cover_the_partitions() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, GROUPED, |graph| drop(graph.stages[0].tasks.pop())).await;
    assert_says(&said, "it declares 3 tasks and binds 2");
    let said = broken(&session, GROUPED, |graph| graph.stages[0].tasks[1].first_partition += 1).await;
    assert_says(&said, "a task starts at partition 2 instead of 1");
    let said = broken(&session, GROUPED, |graph| graph.stages[0].tasks[2].partitions += 1).await;
    assert_says(&said, "its tasks run 5 of 4 partitions");
}

#[tokio::test]
async fn readers_match_their_inputs() {
    let tables = Tables::usual().await;
    let session = tables.ours(PARTITIONED).await;
    let said = broken(&session, GROUPED, |graph| {
        graph.stages[0].output = Exchange::Hash { keys: vec![], partitions: 5 };
        graph.stages[0].shape.output_partitions = 5;
    });
    assert_says(&said.await, "input 0 has 5 partitions, which are not each read once");
    let said = broken(&session, JOINED, |graph| graph.stages[2].shape.inputs.swap(0, 1)).await;
    assert_says(&said, "is read twice or from another producer");
    let said = broken(&session, JOINED, |graph| graph.stages[2].plan = other_leaf(&graph.stages[2])).await;
    assert_says(&said, "an input is never read");
}

/// A plan of as many partitions that reads nothing.
fn other_leaf(stage: &Stage) -> Plan {
    let partitions = stage.tasks.iter().map(|task| task.partitions as usize).sum();
    let nothing = Arc::new(EmptyExec::new(stage.plan.schema()).with_partitions(partitions));
    Arc::new(ExchangeWriteExec::new(nothing, stage.output.clone(), 0))
}

#[tokio::test]
async fn every_split_runs_once() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, GROUPED, |graph| {
        let leaves = graph.stages[0].tasks[0].leaves.clone();
        graph.stages[0].tasks[1].leaves = leaves;
    });
    assert_says(&said.await, "splits of leaf 0 run other than once: 4 planned");
    let said = broken(&session, GROUPED, |graph| graph.stages[0].tasks[0].leaves.clear()).await;
    assert_says(&said, "a task has no content for leaf 0");
    let said = broken(&session, GROUPED, |graph| {
        rewrite(&mut graph.stages[0], |node| node.downcast_ref::<LeafExec>().map(|leaf| Arc::clone(leaf.leaf())));
    });
    assert_says(&said.await, "leaf DataSourceExec has no number");
}

#[tokio::test]
async fn groups_of_files_stay_as_planned() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, GROUPED, |graph| {
        assert_eq!(files(&mut graph.stages[0], 2).groups.len(), 2);
        files(&mut graph.stages[0], 2).groups.reverse();
    });
    assert_says(&said.await, "a task binds groups of files to leaf 0 that were not planned side by side");
    let said = broken(&session, GROUPED, |graph| {
        let moved = files(&mut graph.stages[0], 2).groups[1].files.pop().unwrap();
        files(&mut graph.stages[0], 2).groups[0].files.push(moved);
    });
    assert_says(&said.await, "not planned side by side");
}

#[tokio::test]
async fn filters_have_their_producer() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, JOINED, |graph| {
        let stage = stage_with::<HashJoinExec>(graph);
        let join = all::<HashJoinExec>(&stage.plan).remove(0);
        let probe = Arc::clone(join.children()[1]);
        stage.plan = Arc::new(ExchangeWriteExec::new(probe, stage.output.clone(), 0));
    });
    assert_says(&said.await, "holds a dynamic filter that no operator of the stage fills");
}

#[tokio::test]
async fn requirements_of_operators_hold() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let ranked = "SELECT n, row_number() OVER (PARTITION BY k ORDER BY n) FROM t";
    let said = broken(&session, ranked, |graph| {
        let stage = stage_with::<SortExec>(graph);
        rewrite(stage, |node| node.downcast_ref::<SortExec>().map(|sort| Arc::clone(sort.input())));
    });
    assert_says(&said.await, "needs its input sorted by [k@1 NA, n@0 ASC NULLS LAST]");
    let said = broken(&session, JOINED, |graph| {
        rewrite_left(stage_with::<HashJoinExec>(graph), |left| UnionExec::try_new(vec![Arc::clone(&left), left]).unwrap());
    });
    assert_says(&said.await, "HashJoinExec needs one input partition and has 2");
    let session = tables.ours(PARTITIONED).await;
    let said = broken(&session, JOINED, |graph| {
        rewrite_left(stage_with::<HashJoinExec>(graph), |left| Arc::new(CoalescePartitionsExec::new(left)));
    });
    assert_says(&said.await, "a partitioned join has inputs with different numbers of partitions");
}

/// Puts something between a hash join and its left input.
fn rewrite_left(stage: &mut Stage, between: impl Fn(Plan) -> Plan) {
    rewrite(stage, |node| {
        let join = node.downcast_ref::<HashJoinExec>()?;
        let children = vec![between(Arc::clone(join.left())), Arc::clone(join.right())];
        Some(replace_children_if_necessary(Arc::clone(node), children).unwrap())
    });
}

#[tokio::test]
async fn joins_that_emit_collected_rows_are_not_split() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    let said = broken(&session, JOINED, |graph| {
        rewrite(stage_with::<HashJoinExec>(graph), |node| {
            let join = node.downcast_ref::<HashJoinExec>()?;
            Some(join.builder().with_type(JoinType::Left).recompute_properties().build_exec().unwrap())
        });
    });
    assert_says(&said.await, "a split Left join collects its left side");
    let said = broken(&session, "SELECT t.n, d.name FROM t JOIN d ON t.n < d.k", |graph| {
        rewrite(stage_with::<NestedLoopJoinExec>(graph), |node| {
            let join = node.downcast_ref::<NestedLoopJoinExec>()?;
            let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
            let projection = join.projection().as_deref().map(<[usize]>::to_vec);
            let full = NestedLoopJoinExec::try_new(left, right, join.filter().cloned(), &JoinType::Full, projection);
            Some(Arc::new(full.unwrap()))
        });
    });
    assert_says(&said.await, "a split nested loop Full join collects its left side");
}

#[tokio::test]
async fn broadcasts_are_read_whole() {
    let tables = Tables::usual().await;
    let session = tables.ours(CUT).await;
    // A side that is aggregated is made once and sent.
    let sql = "SELECT t.n, c.rows FROM t JOIN (SELECT k, count(*) AS rows FROM d GROUP BY k) c ON t.k = c.k";
    let said = broken(&session, sql, |graph| {
        let inputs = graph.stages.iter_mut().flat_map(|stage| &mut stage.shape.inputs);
        let broadcast = inputs.filter(|input| input.read == InputRead::All).last().unwrap();
        broadcast.read = InputRead::Slice;
    });
    assert_says(&said.await, "a broadcast is read in slices, or a sliced exchange whole");
}
