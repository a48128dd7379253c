//! From a logical plan to a [`StageGraph`]. DataFusion parses, plans and optimises; the passes here decide what moves where.
//!
//! In order, each in a file of its own:
//!
//! 0. [`window_filters`], [`single_rows`]: what the engine can't send, or would not notice, said in another way. [`join_order`]: the order of inner joins.
//! 1. [`fit`]: leave the plan whole, as one task on one executor, when there is nothing to gain from a cut.
//! 2. [`size`]: how many partitions, from bytes; the engine plans with that number.
//! 3. [`windows`]: a window over all rows of a large table is computed in ranges.
//! 4. [`local`]: tables that exist in this process alone become rows of the plan.
//! 5. [`scans`]: partitions of a Parquet scan read about equally much.
//! 6. [`prepare`]: shape for distribution: no round robin, no order-preserving repartition, limits below gathers.
//! 7. [`joins`]: only join forms that are right when many tasks probe one build side.
//! 8. [`ranges`]: a large sort is one of ranges instead of a merge.
//! 9. [`exchanges`]: which nodes are where data must move.
//! 10. [`cut`]: the stages, their tasks and what each task's leaves read. [`build_keys`]: which build sides tell their keys to scans of other stages.
//! 11. [`filters`]: no dynamic filter whose producer is in another stage.
//! 12. [`runtime_filters`]: rows that a join further up has no use for are dropped where they are read.
//! 13. [`adapt`], while the job runs: how a stage runs best, from the exact sizes of what it reads.
//!
//! Every pass before the cut leaves a plan that is still a valid single-process plan.

pub mod adapt;
mod build_keys;
mod cut;
pub(crate) mod exchanges;
pub(crate) mod filters;
mod fit;
mod join_order;
pub(crate) mod joins;
mod local;
mod prepare;
mod ranges;
mod runtime_filters;
mod scans;
mod single_rows;
mod size;
mod slices;
mod window_filters;
mod windows;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use crate::deadline;
use crate::graph::{ClusterShape, StageGraph};
use crate::options::VolleyOptions;
use crate::write::{StagedWriteExec, WriteSpec};

/// Plans a query (or the input of a write) for a cluster.
///
/// Errors are the engine's planning errors, and `Internal` where a pass broke one of the rules that
/// [`StageGraph::validate`] checks.
pub async fn plan_job(state: &SessionState, plan: &LogicalPlan, cluster: ClusterShape) -> Result<StageGraph> {
    plan_with_root(state, plan, cluster, true, Ok).await
}

/// Plans a write: as [`plan_job`], with a sink in each task of the root stage, whose rows are what it staged.
pub async fn plan_write(state: &SessionState, input: &LogicalPlan, spec: WriteSpec, cluster: ClusterShape) -> Result<StageGraph> {
    let root = |plan| Ok(Arc::new(StagedWriteExec::try_new(plan, spec.clone(), 0)?) as Arc<dyn ExecutionPlan>);
    plan_with_root(state, input, cluster, !spec.single_file(), root).await
}

async fn plan_with_root(
    state: &SessionState,
    plan: &LogicalPlan,
    cluster: ClusterShape,
    // Whether the partitions of the result are read, or written, one after another.
    in_order: bool,
    root: impl Fn(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
) -> Result<StageGraph> {
    let options = VolleyOptions::of(state.config_options());
    let optimized = optimized(state, &options, plan).await?;
    let graph = match whole(state, &options, &optimized, cluster).await? {
        Fitted::Whole(plan) => cut::whole(root(leaves(plan, state).await?)?, &options, cluster)?,
        Fitted::Divided(plan) => {
            let plan = prepare::prepare(leaves(plan, state).await?)?;
            let plan = joins::make_safe(plan)?;
            let plan = if in_order { ranges::instead_of_merge(plan, &options)? } else { plan };
            let graph = cut::cut(root(plan)?, &options, cluster)?;
            match graph.validate() {
                Ok(()) => graph,
                Err(broken) => {
                    // Rather in one task than not at all.
                    tracing::warn!(%broken, "a plan can't be cut and runs in one task");
                    let plan = physical(state, &options, &optimized, cluster, size::Parallelism::OneExecutor).await?;
                    cut::whole(root(leaves(plan, state).await?)?, &options, cluster)?
                }
            }
        }
    };
    graph.validate()?;
    deadline::check()?;
    Ok(graph)
}

/// The plan with the leaves that its tasks are to read.
async fn leaves(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    scans::even(local::read_here(plan, state).await?, state)
}

async fn optimized(state: &SessionState, options: &VolleyOptions, plan: &LogicalPlan) -> Result<LogicalPlan> {
    let optimized = state.optimize(&single_rows::refuse_second(&window_filters::into_arguments(plan)?)?)?;
    if !options.reorder_joins {
        return Ok(optimized);
    }
    deadline::check()?;
    match join_order::reordered(state, &optimized).await? {
        Some(reordered) => state.optimize(&reordered),
        None => Ok(optimized),
    }
}

/// The engine's plan, and whether it is left whole.
enum Fitted {
    Whole(Arc<dyn ExecutionPlan>),
    Divided(Arc<dyn ExecutionPlan>),
}

async fn whole(state: &SessionState, options: &VolleyOptions, plan: &LogicalPlan, cluster: ClusterShape) -> Result<Fitted> {
    if fit::by_cluster(options, plan, cluster)? {
        let whole = physical(state, options, plan, cluster, size::Parallelism::OneExecutor).await?;
        if fit::is_recursive(plan)? || fit::by_memory(options, &whole, cluster)? {
            return Ok(Fitted::Whole(whole));
        }
    }
    let physical_plan = physical(state, options, plan, cluster, size::Parallelism::Cluster).await?;
    if fit::by_work(options, &physical_plan)? {
        return Ok(Fitted::Whole(physical_plan));
    }
    match with_windows_divided(state, options, plan, cluster).await? {
        Some(divided) => Ok(Fitted::Divided(physical(state, options, &divided, cluster, size::Parallelism::Cluster).await?)),
        None => Ok(Fitted::Divided(physical_plan)),
    }
}

/// The plan with its large windows in ranges; `None` where it has none.
async fn with_windows_divided(
    state: &SessionState,
    options: &VolleyOptions,
    plan: &LogicalPlan,
    cluster: ClusterShape,
) -> Result<Option<LogicalPlan>> {
    let mut replacements = vec![];
    for window in windows::candidates(plan, options)? {
        let input = physical(state, options, window.base(), cluster, size::Parallelism::Cluster).await?;
        replacements.extend(window.divided(&input, options)?);
    }
    if replacements.is_empty() {
        return Ok(None);
    }
    Ok(Some(state.optimize(&windows::replace(plan, &replacements)?)?))
}

/// The engine's plan, with as many partitions as its bytes ask for.
async fn physical(
    state: &SessionState,
    options: &VolleyOptions,
    plan: &LogicalPlan,
    cluster: ClusterShape,
    parallelism: size::Parallelism,
) -> Result<Arc<dyn ExecutionPlan>> {
    let least = parallelism.slots(cluster);
    let first = physical_with(state, options, plan, least, parallelism).await?;
    let wanted = size::partitions(&first, options, parallelism, cluster)?;
    if wanted == least { Ok(first) } else { physical_with(state, options, plan, wanted, parallelism).await }
}

async fn physical_with(
    state: &SessionState,
    options: &VolleyOptions,
    plan: &LogicalPlan,
    partitions: usize,
    parallelism: size::Parallelism,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut config = state.config().clone().with_target_partitions(partitions);
    let engine = config.options_mut();
    if options.min_bytes_per_partition < engine.optimizer.repartition_file_min_size as u64 {
        engine.optimizer.repartition_file_min_size = options.min_bytes_per_partition as usize;
    }
    if parallelism == size::Parallelism::Cluster {
        engine.optimizer.enable_round_robin_repartition = false;
        // An interleave needs inputs that declare a hash partitioning, which the slice of a stage does not.
        engine.optimizer.prefer_existing_union = true;
        engine.optimizer.prefer_existing_sort = false;
        engine.optimizer.hash_join_single_partition_threshold = options.broadcast_bytes as usize;
        engine.optimizer.hash_join_single_partition_threshold_rows = (options.broadcast_bytes / size::BYTES_PER_ROW) as usize;
    }
    deadline::check()?;
    // Not by way of the builder, which registers every function anew.
    let mut state = state.clone();
    *state.config_mut() = config;
    state.query_planner().create_physical_plan(plan, &state).await
}
