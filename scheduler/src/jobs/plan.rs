//! A job's plan as the shell sends it out: each stage encoded once, each task's bindings beside it.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use volley_proto::journal::OperatorLine;
use volley_proto::{JobId, StageId, StagePlan, StageShape, StoreAccess};
use volley_sql::codec::{LeafContent, PlanCodec, stores_of};
use volley_sql::extension::Extensions;
use volley_sql::graph::{Stage, StageGraph};
use volley_sql::planner::adapt::{Limits, adaptable};

/// A job's stages, encoded.
#[derive(Debug)]
pub(crate) struct PlannedJob {
    /// The schema of the result's stream.
    pub(crate) schema: SchemaRef,
    /// By stage id; the last is the root.
    pub(crate) stages: Vec<PlannedStage>,
    /// What the stages were made from, for EXPLAIN ANALYZE; gone when the job is.
    pub(crate) graph: Option<Arc<StageGraph>>,
    /// Session options that differ from the defaults.
    pub(super) settings: Vec<(String, String)>,
    /// What encodes operators and functions that are not the engine's own.
    pub(super) extensions: Extensions,
    /// Whether it reads so little that it is over before anybody would write it down.
    pub(crate) is_small: bool,
    /// From where on stages are run in another way than planned; `None` where none can be.
    pub(crate) adapting: Option<Limits>,
}

/// Bytes of files that are read in a moment.
const SMALL_BYTES: u64 = 16 << 20;

/// One stage, encoded.
#[derive(Debug, Clone)]
pub(crate) struct PlannedStage {
    /// What the machine sees.
    pub(crate) shape: StageShape,
    /// Its own partitions, those of all tasks together.
    pub(crate) partitions: u32,
    /// How its rows are spread, for people.
    pub(crate) output: String,
    /// Its operators in pre-order, for people.
    pub(crate) operators: Vec<OperatorLine>,
    /// What was changed about its tasks while the job ran, and why, for people.
    pub(crate) adapted: Option<String>,
    pub(super) plan: Bytes,
    pub(super) bindings: Vec<Bytes>,
    pub(super) depth: u32,
    pub(super) stores: Vec<StoreAccess>,
}

impl PlannedJob {
    /// Encodes a stage graph.
    ///
    /// `adapting`: from where on stages are run in another way than planned.
    pub(crate) fn encode(
        graph: StageGraph,
        settings: Vec<(String, String)>,
        extensions: &Extensions,
        adapting: Option<Limits>,
    ) -> Result<Self> {
        let depths = depths(&graph);
        let stages =
            graph.stages.iter().zip(depths).map(|(stage, depth)| PlannedStage::encode(stage, depth, extensions)).collect::<Result<_>>()?;
        let is_small = scanned_bytes(&graph).is_some_and(|bytes| bytes <= SMALL_BYTES);
        let adapting = adapting.filter(|_| !adaptable(&graph).is_empty());
        let extensions = extensions.clone();
        Ok(Self { schema: Arc::clone(&graph.schema), stages, graph: Some(Arc::new(graph)), settings, extensions, is_small, adapting })
    }

    /// What reports need when nothing runs any more: no encoded plan, no list of files.
    pub(crate) fn outline(&self) -> Self {
        let stages = self.stages.iter().map(PlannedStage::outline).collect();
        let (schema, extensions) = (Arc::clone(&self.schema), Extensions::default());
        Self { schema, stages, graph: None, settings: Vec::new(), extensions, is_small: self.is_small, adapting: None }
    }

    /// The plan in which these stages take the places of those that have their ids.
    pub(super) fn with_stages(&self, changed: Vec<Stage>) -> Result<Self> {
        let mut stages = self.stages.clone();
        for stage in &changed {
            let Some(place) = stages.get_mut(stage.shape.id.0 as usize) else { continue };
            let planned = self.graph.as_ref().and_then(|graph| graph.stages.get(stage.shape.id.0 as usize));
            if planned.is_none_or(|planned| !Arc::ptr_eq(&planned.plan, &stage.plan)) {
                *place = PlannedStage::encode(stage, place.depth, &self.extensions)?;
            }
            place.shape = stage.shape.clone();
            place.partitions = stage.tasks.iter().map(|task| task.partitions).sum();
            place.bindings = stage.tasks.iter().map(|task| task.to_bytes()).collect();
            place.adapted = stage.adapted.clone();
        }
        let graph = self.graph.as_ref().map(|graph| Arc::new(graph.with_stages(changed)));
        let (schema, settings, extensions) = (Arc::clone(&self.schema), self.settings.clone(), self.extensions.clone());
        Ok(Self { schema, stages, graph, settings, extensions, is_small: self.is_small, adapting: self.adapting })
    }

    /// What the machine sees.
    pub(crate) fn shapes(&self) -> Vec<StageShape> {
        self.stages.iter().map(|stage| stage.shape.clone()).collect()
    }

    /// The stage whose output is the result.
    pub(crate) fn root(&self) -> Option<&PlannedStage> {
        self.stages.last()
    }

    /// The message that brings a stage's plan to an executor.
    pub(crate) fn stage_plan(&self, job: JobId, stage: StageId, version: u32, weight: u32) -> Option<StagePlan> {
        let planned = self.stages.get(stage.0 as usize)?;
        Some(StagePlan {
            job,
            stage,
            version,
            plan: planned.plan.clone(),
            settings: self.settings.clone(),
            output_partitions: planned.shape.output_partitions,
            depth: planned.depth,
            root: stage.0 as usize + 1 == self.stages.len(),
            weight,
            stores: planned.stores.clone(),
        })
    }

    /// What a task's leaves read.
    pub(crate) fn bindings(&self, stage: StageId, task: u32) -> Option<Bytes> {
        self.stages.get(stage.0 as usize)?.bindings.get(task as usize).cloned()
    }
}

impl PlannedStage {
    fn outline(&self) -> Self {
        let (shape, output, operators) = (self.shape.clone(), self.output.clone(), self.operators.clone());
        Self {
            shape,
            partitions: self.partitions,
            output,
            operators,
            adapted: self.adapted.clone(),
            plan: Bytes::new(),
            bindings: Vec::new(),
            depth: self.depth,
            stores: vec![],
        }
    }

    fn encode(stage: &Stage, depth: u32, extensions: &Extensions) -> Result<Self> {
        let mut operators = Vec::new();
        describe(&stage.plan, 0, &mut operators);
        Ok(Self {
            shape: stage.shape.clone(),
            partitions: stage.tasks.iter().map(|task| task.partitions).sum(),
            output: stage.output.to_string(),
            operators,
            adapted: None,
            plan: PlanCodec::encode_stage(stage, extensions)?,
            bindings: stage.tasks.iter().map(|task| task.to_bytes()).collect(),
            depth,
            stores: stores_of(&stage.plan),
        })
    }
}

/// Bytes of the files that all tasks read; `None` where something else is read that may be large.
fn scanned_bytes(graph: &StageGraph) -> Option<u64> {
    let tasks = graph.stages.iter().flat_map(|stage| &stage.tasks);
    let mut bytes = 0u64;
    for content in tasks.flat_map(|task| &task.leaves).filter_map(|leaf| leaf.content.as_ref()) {
        match content {
            LeafContent::Files(files) => {
                let splits = files.groups.iter().flat_map(|group| &group.files);
                bytes = splits.fold(bytes, |bytes, split| bytes.saturating_add(split.read_bytes()));
            }
            LeafContent::Generator(_) => return None,
            LeafContent::Exchange(_) | LeafContent::Whole(_) => {}
        }
    }
    Some(bytes)
}

fn describe(plan: &Arc<dyn ExecutionPlan>, depth: u32, lines: &mut Vec<OperatorLine>) {
    let detail = DisplayableExecutionPlan::new(plan.as_ref()).one_line().to_string().trim_end().to_owned();
    lines.push(OperatorLine { depth, name: plan.name().to_owned(), detail });
    for child in plan.children() {
        describe(child, depth + 1, lines);
    }
}

/// Each stage's distance from the root. Producers come before consumers, so one walk from the back sees consumers first.
fn depths(graph: &StageGraph) -> Vec<u32> {
    let mut depths = vec![0; graph.stages.len()];
    for (index, stage) in graph.stages.iter().enumerate().rev() {
        for input in &stage.shape.inputs {
            let producer = input.producer.0 as usize;
            if let Some(depth) = depths.get(producer) {
                depths[producer] = (*depth).max(depths[index] + 1);
            }
        }
    }
    depths
}
