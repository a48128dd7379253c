//! Pass 10: the cut. Stages, their tasks, and what each task's leaves read.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use volley_proto::{Edge, InputRead, PartitionId, StageId, StageInput, StageShape};

use super::build_keys::{self, Teaching, Teller};
use super::exchanges::{self, Boundary};
use super::{filters, runtime_filters, slices};
use crate::build_keys::{BuildKeysExec, Told};
use crate::codec::TaskBindings;
use crate::exchange::{BuildKeys, Exchange, ExchangeReadExec, ExchangeWriteExec};
use crate::graph::{ClusterShape, Stage, StageGraph};
use crate::leaf::{LeafExec, LeafKind};
use crate::options::VolleyOptions;

/// The plan uncut: one stage, one task on all slots of one executor.
pub(super) fn whole(plan: Arc<dyn ExecutionPlan>, options: &VolleyOptions, cluster: ClusterShape) -> Result<StageGraph> {
    let schema = plan.schema();
    let mut leaves = 0;
    let plan = plan.transform_up(|node| {
        Ok(if node.children().is_empty() { Transformed::yes(number(node, &mut leaves)) } else { Transformed::no(node) })
    })?;
    let partitions = plan.data.output_partitioning().partition_count();
    let task = TaskBindings::new(0, partitions, slices::all_contents(&plan.data, leaves)?);
    let shape = StageShape {
        id: StageId(0),
        inputs: vec![],
        tasks: 1,
        slots_per_task: cluster.largest_slots.max(1) as u32,
        output_partitions: partitions as u32,
        deterministic: exchanges::is_deterministic(&plan.data, &Exchange::Gather)?,
    };
    let plan = runtime_filters::look_at_rows(plan.data, options)?;
    let plan = Arc::new(ExchangeWriteExec::new(plan, Exchange::Gather, 0));
    Ok(StageGraph { stages: vec![Stage { shape, plan, output: Exchange::Gather, tasks: vec![task], adapted: None }], schema })
}

/// Cuts the plan at its boundaries.
pub(super) fn cut(plan: Arc<dyn ExecutionPlan>, options: &VolleyOptions, cluster: ClusterShape) -> Result<StageGraph> {
    let schema = plan.schema();
    let mut cutter = Cutter { stages: vec![], teaching: vec![], options, cluster };
    cutter.stage(&plan, Exchange::Gather, None)?;
    Ok(StageGraph { stages: cutter.stages, schema })
}

fn number(leaf: Arc<dyn ExecutionPlan>, leaves: &mut usize) -> Arc<dyn ExecutionPlan> {
    let index = *leaves;
    *leaves += 1;
    Arc::new(LeafExec::new(index, leaf))
}

struct Cutter<'a> {
    stages: Vec<Stage>,
    /// Build sides that tell their keys to scans of what is being cut.
    teaching: Vec<Teaching>,
    options: &'a VolleyOptions,
    cluster: ClusterShape,
}

/// What the stage that is being cut has so far.
#[derive(Default)]
struct Open {
    inputs: Vec<StageInput>,
    leaves: usize,
    /// A leaf of it can't be split, so the stage has one task.
    undivided: bool,
    /// Every task of it makes a hash table of a whole build side.
    collects: bool,
}

impl Cutter<'_> {
    /// Cuts `plan` into a stage that spreads its rows as `output`, and tells their keys to others, after the stages that it reads.
    fn stage(&mut self, plan: &Arc<dyn ExecutionPlan>, output: Exchange, teller: Option<&Teller>) -> Result<StageId> {
        let mut open = Open::default();
        let plan = self.body(plan, &mut open)?;
        let plan = filters::detach_foreign(self.listening(plan, &mut open)?)?;
        let plan = runtime_filters::look_at_rows(plan, self.options)?;
        let partitions = plan.output_partitioning().partition_count();
        let tasks = self.task_slices(partitions, &open);
        let bindings = |slice: &Range<usize>| {
            let contents = if tasks.len() == 1 && open.undivided {
                slices::all_contents(&plan, open.leaves)
            } else {
                slices::leaf_contents(&plan, slice.clone(), open.leaves)
            };
            Ok(TaskBindings::new(slice.start, slice.len(), contents?))
        };
        let id = StageId(self.stages.len() as u32);
        let shape = StageShape {
            id,
            tasks: tasks.len() as u32,
            slots_per_task: tasks.iter().map(Range::len).max().unwrap_or(1).clamp(1, self.cluster.largest_slots.max(1)) as u32,
            output_partitions: output.partitions(partitions) as u32 + u32::from(teller.is_some()),
            deterministic: exchanges::is_deterministic(&plan, &output)?,
            inputs: open.inputs.clone(),
        };
        let bindings = tasks.iter().map(bindings).collect::<Result<Vec<_>>>()?;
        let write = ExchangeWriteExec::new(plan, output.clone(), 0);
        let write = match teller {
            Some(Teller { keys, bloom_bytes, .. }) => {
                let partition = output.partitions(partitions) as u32;
                let tasks = tasks.len() as u64;
                write.telling(BuildKeys { keys: keys.clone(), bloom_bytes: *bloom_bytes, partition, tasks })?
            }
            None => write,
        };
        self.stages.push(Stage { shape, plan: Arc::new(write), output, tasks: bindings, adapted: None });
        Ok(id)
    }

    /// Slices of a stage's partitions, one for each task: at least `tasks_per_slot` tasks for each slot where there are
    /// partitions enough, so that retry, balance and speculation stay small and a task's state is a share of the stage's. One task for each slot
    /// where all of them make the same hash tables: partitions of a task share these.
    fn task_slices(&self, partitions: usize, open: &Open) -> Vec<Range<usize>> {
        if open.undivided || partitions <= 1 {
            return std::iter::once(0..partitions).collect();
        }
        let slots = self.cluster.slots.max(1);
        let tasks_per_slot = if open.collects { 1 } else { self.options.tasks_per_slot };
        let wanted = if partitions >= slots * tasks_per_slot { slots * tasks_per_slot } else { slots };
        let tasks = wanted.min(partitions);
        (0..tasks).map(|task| partitions * task / tasks..partitions * (task + 1) / tasks).collect()
    }

    /// The part of `node` that stays in the open stage; what is below a boundary becomes a stage of its own.
    fn body(&mut self, node: &Arc<dyn ExecutionPlan>, open: &mut Open) -> Result<Arc<dyn ExecutionPlan>> {
        if node.children().is_empty() {
            let leaf = number(Arc::clone(node), &mut open.leaves);
            open.undivided |= crate::leaf::leaf_kind(node) == LeafKind::Whole && node.output_partitioning().partition_count() > 1;
            return Ok(leaf);
        }
        if let Some(teller) = build_keys::teller(node, self.options, self.cluster)? {
            return self.telling_join(node, &teller, open);
        }
        let children = node.children();
        match exchanges::boundary(node)? {
            Some(Boundary::Replace { exchange: Exchange::Gather }) => {
                let partitions = all_partitions(children[0]);
                Ok(self.read(children[0], Exchange::Gather, vec![partitions], open)?)
            }
            Some(Boundary::Replace { exchange }) => {
                let partitions = each_partition(exchange.partitions(0));
                Ok(self.read(children[0], exchange, partitions, open)?)
            }
            Some(Boundary::Merge) => {
                let partitions = each_partition(children[0].output_partitioning().partition_count());
                // What the merge relies on: the producer may reach that order through constants that its rows no longer tell.
                let order = node.downcast_ref::<SortPreservingMergeExec>().map(|merge| merge.expr().clone());
                let reader = self.read_ordered(children[0], partitions, order, open)?;
                replace_children_if_necessary(Arc::clone(node), vec![reader])
            }
            Some(Boundary::BroadcastLeft) => {
                open.collects = true;
                let collected = gathered(children[0]);
                let reader = self.read(&collected, Exchange::Broadcast, vec![all_partitions(&collected)], open)?;
                let right = self.body(children[1], open)?;
                replace_children_if_necessary(Arc::clone(node), vec![reader, right])
            }
            None => {
                let is_union = node.is::<UnionExec>();
                let rewritten = children
                    .into_iter()
                    .map(|child| if is_union && !is_elastic(child) { self.isolate(child, open) } else { self.body(child, open) });
                replace_children_if_necessary(Arc::clone(node), rewritten.collect::<Result<Vec<_>>>()?)
            }
        }
    }

    /// A join whose build side is cut off, and told to scans in the stages below its probe side.
    fn telling_join(&mut self, node: &Arc<dyn ExecutionPlan>, teller: &Teller, open: &mut Open) -> Result<Arc<dyn ExecutionPlan>> {
        let [build, probe] = node.children()[..] else { return Err(DataFusionError::Internal("a join has two inputs".into())) };
        let (producer, exchange, partitions) = match exchanges::boundary(build)? {
            Some(Boundary::Replace { exchange: exchange @ Exchange::Hash { .. } }) => {
                let partitions = each_partition(exchange.partitions(0));
                (Arc::clone(build.children()[0]), exchange, partitions)
            }
            _ => {
                open.collects = true;
                let collected = gathered(build);
                let partitions = vec![all_partitions(&collected)];
                (collected, Exchange::Broadcast, partitions)
            }
        };
        let reader = self.read_with(&producer, exchange, partitions, vec![], Some(teller), open)?;
        let told = self.stages.last().and_then(|stage| {
            let schema = stage.plan.downcast_ref::<ExchangeWriteExec>()?.summary_schema()?;
            Some((stage.shape.id, PartitionId(stage.shape.output_partitions - 1), Arc::clone(schema)))
        });
        let (stage, partition, schema) = told.ok_or_else(|| DataFusionError::Internal("a build side tells nothing".into()))?;
        self.teaching.push(Teaching { filter: Arc::clone(&teller.filter), id: teller.id, stage, partition, schema });
        let probe = self.body(probe, open);
        self.teaching.pop();
        replace_children_if_necessary(Arc::clone(node), vec![reader, probe?])
    }

    /// Above a stage's plan: what fills the filters of its scans with the keys of build sides in other stages.
    fn listening(&self, plan: Arc<dyn ExecutionPlan>, open: &mut Open) -> Result<Arc<dyn ExecutionPlan>> {
        let mut told = vec![];
        for Teaching { filter, id, stage, partition, schema } in &self.teaching {
            if !build_keys::listens(&plan, *id)? {
                continue;
            }
            let input = open.inputs.len();
            open.inputs.push(StageInput { producer: *stage, edge: Edge::Sealed, read: InputRead::All });
            let reader = ExchangeReadExec::new(input, *stage, Arc::clone(schema), vec![vec![*partition]], vec![]);
            told.push(Told { filter: Arc::clone(filter), summaries: number(Arc::new(reader), &mut open.leaves) });
        }
        Ok(if told.is_empty() { plan } else { Arc::new(BuildKeysExec::new(plan, told)) })
    }

    /// Cuts an input of a union off: a task that runs none of its partitions could not run it with none.
    fn isolate(&mut self, input: &Arc<dyn ExecutionPlan>, open: &mut Open) -> Result<Arc<dyn ExecutionPlan>> {
        let reader = self.read_ordered(input, each_partition(input.output_partitioning().partition_count()), None, open)?;
        // Its partitions go to different tasks, which must not mix two attempts of it where they share rows by chance.
        if let Some(stage) = self.stages.last_mut() {
            stage.shape.deterministic &= !exchanges::shares_files(&stage.plan)?;
        }
        Ok(reader)
    }

    /// As [`Self::read`] of a gather whose partitions keep their order: what the producer declares, and `order`.
    fn read_ordered(
        &mut self,
        producer: &Arc<dyn ExecutionPlan>,
        partitions: Vec<Vec<PartitionId>>,
        order: Option<LexOrdering>,
        open: &mut Open,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let declared = producer.equivalence_properties().oeq_class().iter().cloned();
        self.read_with(producer, Exchange::Gather, partitions, order.into_iter().chain(declared).collect(), None, open)
    }

    /// Cuts `producer` off into a stage and returns the leaf that reads it.
    fn read(
        &mut self,
        producer: &Arc<dyn ExecutionPlan>,
        exchange: Exchange,
        partitions: Vec<Vec<PartitionId>>,
        open: &mut Open,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.read_with(producer, exchange, partitions, vec![], None, open)
    }

    fn read_with(
        &mut self,
        producer: &Arc<dyn ExecutionPlan>,
        exchange: Exchange,
        partitions: Vec<Vec<PartitionId>>,
        orderings: Vec<LexOrdering>,
        teller: Option<&Teller>,
        open: &mut Open,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let read = if matches!(exchange, Exchange::Broadcast) { InputRead::All } else { InputRead::Slice };
        let id = self.stage(producer, exchange, teller)?;
        let input = open.inputs.len();
        open.inputs.push(StageInput { producer: id, edge: Edge::Sealed, read });
        let reader = ExchangeReadExec::new(input, id, producer.schema(), partitions, orderings);
        Ok(number(Arc::new(reader), &mut open.leaves))
    }
}

/// Whether `plan` run with none of its partitions has none: no operator in it makes one partition of whatever it reads.
fn is_elastic(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if matches!(exchanges::boundary(plan), Ok(Some(Boundary::Replace { .. }))) {
        return true;
    }
    let merges = plan.is::<SortPreservingMergeExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(|sort| !sort.preserve_partitioning());
    let collected = exchanges::collected_left(plan).map(|(left, _)| left);
    let sliced = |child: &&&Arc<dyn ExecutionPlan>| collected.is_none_or(|left| !Arc::ptr_eq(left, child));
    !merges && plan.children().iter().filter(sliced).all(|child| is_elastic(child))
}

/// Below a gather that a collected side asked for; a broadcast gathers by itself.
fn gathered(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match exchanges::boundary(plan) {
        Ok(Some(Boundary::Replace { exchange: Exchange::Gather })) => Arc::clone(plan.children()[0]),
        _ => Arc::clone(plan),
    }
}

fn all_partitions(plan: &Arc<dyn ExecutionPlan>) -> Vec<PartitionId> {
    (0..plan.output_partitioning().partition_count() as u32).map(PartitionId).collect()
}

fn each_partition(partitions: usize) -> Vec<Vec<PartitionId>> {
    (0..partitions as u32).map(|partition| vec![PartitionId(partition)]).collect()
}
