//! The rules of a stage graph. A graph that breaks one would give wrong rows or never end, so it is refused before it runs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::OrderingRequirements;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties};
use volley_proto::{Failure, InputRead};

use super::{Stage, StageGraph};
use crate::build_keys::BuildKeysExec;
use crate::codec::{FileGroups, LeafContent};
use crate::exchange::{ExchangeReadExec, ExchangeWriteExec};
use crate::leaf::{LeafExec, LeafKind, file_scan};
use crate::planner::{exchanges, filters, joins};

/// A rule of one stage; the error says how it is broken.
type Rule = fn(&StageGraph, &Stage) -> Result<(), String>;

impl StageGraph {
    /// Checks every rule; the error names the stage and the rule.
    pub fn validate(&self) -> Result<()> {
        check_edges(self)?;
        for stage in &self.stages {
            let rules: [Rule; 8] = [
                root_writes_the_exchange,
                tasks_cover_the_partitions,
                readers_match_their_inputs,
                every_split_runs_once,
                file_groups_stay_whole,
                filters_have_their_producer,
                requirements_hold,
                split_joins_are_safe,
            ];
            for rule in rules {
                rule(self, stage).map_err(|why| broken(&format!("stage {}: {why}", stage.shape.id)))?;
            }
        }
        Ok(())
    }
}

fn broken(why: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Failure::internal(format!("the planner made a stage graph that breaks a rule: {why}"))))
}

fn check_edges(graph: &StageGraph) -> Result<()> {
    let mut consumers = vec![0i32; graph.stages.len()];
    for (place, stage) in graph.stages.iter().enumerate() {
        if stage.shape.id.0 as usize != place {
            return Err(broken(&format!("stage {} stands at place {place}", stage.shape.id)));
        }
        for input in &stage.shape.inputs {
            if input.producer >= stage.shape.id {
                return Err(broken(&format!("stage {} reads {}, which does not come before it", stage.shape.id, input.producer)));
            }
            consumers[input.producer.0 as usize] += 1;
        }
    }
    let Some((root, others)) = consumers.split_last() else { return Err(broken("it has no stage")) };
    // What is told of build keys is read by others than the join.
    let is_read = |(stage, &readers): (&Stage, &i32)| readers == 1 || (readers > 1 && tells(stage));
    match graph.stages.iter().zip(others).position(|stage| !is_read(stage)) {
        _ if *root != 0 => Err(broken("the root stage is read by another")),
        Some(stage) => Err(broken(&format!("stage s{stage} has {} consumers instead of one", others[stage]))),
        None => Ok(()),
    }
}

/// Whether a stage has a partition behind those of its exchange, in which it tells the keys of its rows.
fn tells(stage: &Stage) -> bool {
    stage.plan.downcast_ref::<ExchangeWriteExec>().is_some_and(|write| write.tells().is_some())
}

fn partitions(stage: &Stage) -> usize {
    stage.plan.output_partitioning().partition_count()
}

fn text(error: DataFusionError) -> String {
    error.to_string()
}

fn root_writes_the_exchange(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    let writes = stage.plan.is::<ExchangeWriteExec>();
    let wanted = stage.output.partitions(partitions(stage)) as u32 + u32::from(tells(stage));
    match (writes, stage.shape.output_partitions == wanted) {
        (false, _) => Err(format!("its root is {} instead of ExchangeWriteExec", stage.plan.name())),
        (true, false) => Err(format!("it declares {} output partitions and writes {wanted}", stage.shape.output_partitions)),
        (true, true) => Ok(()),
    }
}

fn tasks_cover_the_partitions(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    if stage.tasks.len() != stage.shape.tasks as usize {
        return Err(format!("it declares {} tasks and binds {}", stage.shape.tasks, stage.tasks.len()));
    }
    let mut next = 0;
    for task in &stage.tasks {
        if task.first_partition != next {
            return Err(format!("a task starts at partition {} instead of {next}", task.first_partition));
        }
        next += task.partitions;
    }
    if next as usize == partitions(stage) { Ok(()) } else { Err(format!("its tasks run {next} of {} partitions", partitions(stage))) }
}

fn leaves(stage: &Stage) -> Result<Vec<Arc<dyn ExecutionPlan>>, String> {
    let mut leaves = vec![];
    let visited = stage.plan.apply(|node| {
        if node.children().is_empty() {
            leaves.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(text)?;
    Ok(leaves)
}

fn readers_match_their_inputs(graph: &StageGraph, stage: &Stage) -> Result<(), String> {
    let mut read = vec![false; stage.shape.inputs.len()];
    for leaf in leaves(stage)? {
        let Some(reader) = leaf.downcast_ref::<LeafExec>().and_then(|leaf| leaf.leaf().downcast_ref::<ExchangeReadExec>()) else {
            continue;
        };
        let input = stage.shape.inputs.get(reader.input()).ok_or_else(|| format!("a reader names input {}", reader.input()))?;
        if input.producer != reader.producer() || std::mem::replace(&mut read[reader.input()], true) {
            return Err(format!("input {} is read twice or from another producer", reader.input()));
        }
        let producer = &graph.stages[input.producer.0 as usize];
        let written = producer.shape.output_partitions - u32::from(tells(producer));
        let mut seen: Vec<u32> = reader.partitions().iter().flatten().map(|id| id.0).collect();
        seen.sort_unstable();
        if tells(producer) && seen == [written] {
            continue;
        }
        if !seen.iter().copied().eq(0..written) {
            return Err(format!("input {} has {written} partitions, which are not each read once", reader.input()));
        }
        if leaf.schema().fields().len() != producer.plan.schema().fields().len() {
            return Err(format!("input {} has other columns than its producer", reader.input()));
        }
    }
    if read.iter().all(|read| *read) { Ok(()) } else { Err("an input is never read".into()) }
}

/// Every split runs in exactly one task, except below a collected side, where each task that runs the join has all of them.
fn every_split_runs_once(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    let collected = collected_leaves(stage)?;
    for leaf in leaves(stage)? {
        let leaf = leaf.downcast_ref::<LeafExec>().ok_or_else(|| format!("leaf {} has no number", leaf.name()))?;
        let planned = planned_splits(leaf).map_err(text)?;
        let mut bound: BTreeMap<String, usize> = BTreeMap::new();
        for task in &stage.tasks {
            let content = task.leaves.get(leaf.index()).and_then(|leaf| leaf.content.as_ref());
            for split in splits(content.ok_or_else(|| format!("a task has no content for leaf {}", leaf.index()))?) {
                *bound.entry(split).or_default() += 1;
            }
        }
        let times: Vec<usize> = bound.values().copied().collect();
        let complete = bound.len() == planned.len() && planned.keys().all(|split| bound.contains_key(split));
        let once = bound.iter().all(|(split, times)| planned.get(split) == Some(times));
        let replicated = collected.contains(&leaf.index()) && times.windows(2).all(|pair| pair[0] == pair[1]);
        if !complete || !(once || replicated) {
            return Err(format!("splits of leaf {} run other than once: {} planned, {times:?} times bound", leaf.index(), planned.len()));
        }
    }
    Ok(())
}

/// A task's groups of a file leaf are neighbours among the planned ones, and unchanged: a group that was put together anew would
/// lose the order in which its files are read, and a gap would shift the partitions of whatever is joined with it.
fn file_groups_stay_whole(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    for leaf in leaves(stage)? {
        let Some(leaf) = leaf.downcast_ref::<LeafExec>() else { continue };
        let Some(scan) = file_scan(leaf.leaf()) else { continue };
        let planned = FileGroups::try_new(scan, &scan.file_groups).map_err(text)?.groups;
        let mut next = 0;
        for task in &stage.tasks {
            let content = task.leaves.get(leaf.index()).and_then(|leaf| leaf.content.as_ref());
            let Some(LeafContent::Files(FileGroups { groups })) = content else {
                return Err(format!("a task binds no files to leaf {}", leaf.index()));
            };
            // Mostly the run begins where that of the task before ends.
            let follows = planned.get(next..next + groups.len()).is_some_and(|run| run == groups);
            if !follows && !groups.is_empty() && !planned.windows(groups.len()).any(|run| run == groups) {
                return Err(format!("a task binds groups of files to leaf {} that were not planned side by side", leaf.index()));
            }
            next += groups.len();
        }
    }
    Ok(())
}

/// The leaves below the collected side of a join, and those that read build keys.
fn collected_leaves(stage: &Stage) -> Result<HashSet<usize>, String> {
    let mut collected = HashSet::new();
    let visited = stage.plan.apply(|node| {
        let left = exchanges::collected_left(node).map(|(left, _)| left);
        let told = node.children().into_iter().filter(|child| BuildKeysExec::reads_whole(node, child));
        for whole in left.into_iter().chain(told) {
            whole.apply(|below| {
                collected.extend(below.downcast_ref::<LeafExec>().map(LeafExec::index));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(text)?;
    Ok(collected)
}

fn planned_splits(leaf: &LeafExec) -> Result<BTreeMap<String, usize>> {
    let content = match leaf.kind() {
        LeafKind::Files => {
            let groups = file_scan(leaf.leaf()).map(|scan| FileGroups::try_new(scan, &scan.file_groups)).transpose()?;
            LeafContent::Files(groups.unwrap_or_default())
        }
        LeafKind::Exchange => {
            let slices = leaf.leaf().downcast_ref::<ExchangeReadExec>().map(|read| read.partitions().to_vec());
            LeafContent::Exchange(crate::codec::ExchangeSlices::new(slices.unwrap_or_default()))
        }
        LeafKind::Generator => {
            let parts = leaf.leaf().downcast_ref::<crate::catalog::GeneratorExec>();
            LeafContent::Generator(parts.map(|generator| crate::codec::GeneratorSlices::new(generator.partitions())).unwrap_or_default())
        }
        LeafKind::Whole => LeafContent::Whole(true),
    };
    let mut counted = BTreeMap::new();
    for split in splits(&content) {
        *counted.entry(split).or_default() += 1;
    }
    Ok(counted)
}

fn splits(content: &LeafContent) -> Vec<String> {
    match content {
        LeafContent::Files(groups) => {
            let files = groups.groups.iter().flat_map(|group| &group.files);
            files.map(|file| format!("{}:{:?}-{:?}", file.path, file.start, file.end)).collect()
        }
        LeafContent::Exchange(slices) => slices.slices.iter().flat_map(|slice| &slice.partitions).map(|id| format!("p{id}")).collect(),
        LeafContent::Generator(slices) => {
            let parts = slices.slices.iter().flat_map(|slice| slice.parts.iter().zip(&slice.of));
            parts.map(|(part, of)| format!("{part}/{of}")).collect()
        }
        LeafContent::Whole(present) => present.then(|| "whole".to_owned()).into_iter().collect(),
    }
}

fn filters_have_their_producer(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    let produced = filters::produced(&stage.plan).map_err(text)?;
    let mut foreign = None;
    let visited = stage.plan.apply(|node| {
        node.apply_expressions(&mut |expr| {
            if filters::has_foreign(expr, &produced)? {
                foreign = Some(format!("{} holds a dynamic filter that no operator of the stage fills", node.name()));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(text)?;
    foreign.map_or(Ok(()), Err)
}

/// What operators require of their inputs still holds after the cut: order, one partition, equal numbers of partitions.
fn requirements_hold(_: &StageGraph, stage: &Stage) -> Result<(), String> {
    let mut why = None;
    let visited = stage.plan.apply(|node| {
        if why.is_none() {
            why = unmet_requirement(node)?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(text)?;
    why.map_or(Ok(()), Err)
}

fn unmet_requirement(node: &Arc<dyn ExecutionPlan>) -> Result<Option<String>> {
    for (child, required) in node.children().into_iter().zip(node.required_input_ordering()) {
        let Some(required) = required.map(OrderingRequirements::into_single) else { continue };
        if !child.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
            return Ok(Some(format!(
                "{} needs its input sorted by [{}]",
                node.name(),
                required.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
    }
    for (child, distribution) in node.children().into_iter().zip(node.input_distribution_requirements().into_per_child()) {
        let partitions = child.output_partitioning().partition_count();
        if matches!(distribution, Distribution::SinglePartition) && partitions != 1 {
            return Ok(Some(format!("{} needs one input partition and has {partitions}", node.name())));
        }
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && *join.partition_mode() == PartitionMode::Partitioned
        && join.left().output_partitioning().partition_count() != join.right().output_partitioning().partition_count()
    {
        return Ok(Some("a partitioned join has inputs with different numbers of partitions".into()));
    }
    Ok(None)
}

/// A join whose collected side emits rows of its own runs in one task.
fn split_joins_are_safe(graph: &StageGraph, stage: &Stage) -> Result<(), String> {
    let mut why = None;
    let visited = stage.plan.apply(|node| {
        let split = |right: &Arc<dyn ExecutionPlan>| right.output_partitioning().partition_count() > 1 && stage.tasks.len() > 1;
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let collects = *join.partition_mode() != PartitionMode::Partitioned && split(join.right());
            if collects && (!joins::is_broadcast_safe(*join.join_type()) || join.null_aware) {
                why = Some(format!("a split {} join collects its left side", join.join_type()));
            }
        } else if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && split(join.right())
            && !joins::is_broadcast_safe(*join.join_type())
        {
            why = Some(format!("a split nested loop {} join collects its left side", join.join_type()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(text)?;
    let broadcast = stage.shape.inputs.iter().all(|input| {
        let producer = &graph.stages[input.producer.0 as usize];
        let broadcasts = matches!(producer.output, crate::exchange::Exchange::Broadcast);
        broadcasts == (input.read == InputRead::All) || (tells(producer) && input.read == InputRead::All)
    });
    if !broadcast {
        return Err("a broadcast is read in slices, or a sliced exchange whole".into());
    }
    why.map_or(Ok(()), Err)
}
