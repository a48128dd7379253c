//! One job: its stages, and what becomes of them when a task moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use volley_proto::{AttemptId, Edge, Failure, InputLocations, JobId, JobOwner, StageId, StageShape, TaskId};

use super::effect::{Effect, JobOutcome, Launch};
use super::event::{Replanning, Timestamp};
use super::executors::{Active, Executors};
use super::rivals::Rival;
use super::settings::Settings;
use super::stage::{Question, Stage};
use super::task::Phase;

/// What a job may see and touch outside itself.
pub(super) struct World<'a> {
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
    pub(super) executors: &'a mut Executors,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits to be planned.
    Queued,
    /// The planner has it.
    Planning,
    /// It has stages.
    Running,
    /// The client has all rows; what is left of it waits for `ResultClosed`.
    Delivered,
}

/// One job that is not finished and forgotten.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) owner: JobOwner,
    pub(super) submitted: Timestamp,
    pub(super) progress: Progress,
    pub(super) stages: Vec<Stage>,
    pub(super) replanning: Replanning,
    pub(super) plan_version: u32,
    /// Slots that its attempts hold, also those that are stopping.
    pub(super) slots_in_use: u32,
    /// When it was last served, as a count of launches.
    pub(super) served: u64,
    /// Executors that may have something of it.
    pub(super) touched: BTreeSet<u32>,
    /// Outputs that could not be read, by the executor that should have held them.
    pub(super) unreadable: BTreeMap<u32, u32>,
    /// Second attempts beside those that count, by stage and task.
    pub(super) rivals: BTreeMap<(u32, u32), Rival>,
    /// Root attempts that could not be shown because their executor is suspect.
    pub(super) unshown: Vec<AttemptId>,
    /// Why an attempt at a root task failed last: what the reader is told if it had been shown some of its rows.
    pub(super) root_failure: Option<(AttemptId, Failure)>,
    /// Stages with tasks that can be launched, nearest to the root first.
    pub(super) runnable: BTreeSet<(u32, u32)>,
    /// Root tasks whose rows the client has seen.
    pub(super) delivered: u32,
    /// Whether something happened that may change what its stages may do.
    pub(super) dirty: bool,
    /// How it ends, once that is known.
    pub(super) verdict: Option<JobOutcome>,
    /// Whether a scheduler before this one began it.
    pub(super) restored: bool,
}

impl Job {
    /// A job just submitted.
    pub(super) fn new(id: JobId, owner: JobOwner, submitted: Timestamp) -> Self {
        Self {
            id,
            owner,
            submitted,
            progress: Progress::Queued,
            stages: Vec::new(),
            replanning: Replanning::Off,
            plan_version: 0,
            slots_in_use: 0,
            served: 0,
            touched: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            rivals: BTreeMap::new(),
            unshown: Vec::new(),
            root_failure: None,
            runnable: BTreeSet::new(),
            delivered: 0,
            dirty: false,
            verdict: None,
            restored: false,
        }
    }

    /// Takes the planner's stages.
    pub(super) fn start(&mut self, shapes: Vec<StageShape>, replanning: Replanning) {
        self.stages = shapes.into_iter().map(|shape| Stage::new(shape, 0)).collect();
        self.replanning = replanning;
        self.progress = Progress::Running;
        self.link();
        self.dirty = true;
    }

    /// Computes consumers and depths from the shapes.
    pub(super) fn link(&mut self) {
        for stage in &mut self.stages {
            stage.consumers.clear();
            stage.depth = 0;
        }
        for consumer in (0..self.stages.len()).rev() {
            let depth = self.stages[consumer].depth + 1;
            for input in self.stages[consumer].shape.inputs.clone() {
                let producer = &mut self.stages[input.producer.0 as usize];
                producer.depth = producer.depth.max(depth);
                producer.consumers.push((consumer as u32, input.edge));
            }
        }
    }

    /// The index of the root stage.
    pub(super) fn root(&self) -> u32 {
        self.stages.len().saturating_sub(1) as u32
    }

    /// The name of a task.
    pub(super) fn task_id(&self, stage: u32, index: u32) -> TaskId {
        TaskId::new(self.id, StageId(stage), index)
    }

    /// The name of a task's attempt that counts.
    pub(super) fn attempt_id(&self, stage: u32, index: u32) -> AttemptId {
        self.task_id(stage, index).attempt(self.stages[stage as usize].tasks[index as usize].attempt)
    }

    /// Whether the stage and the task exist.
    pub(super) fn has_task(&self, task: TaskId) -> bool {
        task.job == self.id && self.stages.get(task.stage.0 as usize).is_some_and(|stage| (task.index as usize) < stage.tasks.len())
    }

    /// Decides how the job ends; the first decision stands.
    pub(super) fn conclude(&mut self, outcome: JobOutcome) {
        self.verdict.get_or_insert(outcome);
        self.dirty = true;
    }

    /// The job can't be done.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.conclude(JobOutcome::Failed(failure));
    }

    /// Whether all rows of the result are there, delivered or waiting.
    pub(super) fn is_sealed(&self) -> bool {
        self.stages.last().is_some_and(Stage::is_committed)
    }

    /// Whether the stage's tasks may be launched: somebody wants them and all inputs can be read.
    pub(super) fn may_launch(&self, stage: u32) -> bool {
        let it = &self.stages[stage as usize];
        it.wanted && it.waiting > 0 && it.shape.inputs.iter().all(|input| self.stages[input.producer.0 as usize].is_readable(input.edge))
    }

    /// Whether no input of the stage is on an executor that is not heard.
    pub(super) fn inputs_reachable(&mut self, stage: u32, executors: &Executors) -> bool {
        if executors.suspects().is_empty() {
            return true;
        }
        for input in 0..self.stages[stage as usize].shape.inputs.len() {
            let producer = self.stages[stage as usize].shape.inputs[input].producer.0 as usize;
            let holders = self.stages[producer].locations(executors).holders.clone();
            if executors.suspects().iter().any(|suspect| holders.binary_search(suspect).is_ok()) {
                return false;
            }
        }
        true
    }

    /// Launches a waiting task.
    pub(super) fn launch(&mut self, world: &mut World<'_>, stage: u32, index: u32, executor: u32, slots: u32) {
        let inputs = self.input_locations(stage, world.executors);
        let it = &mut self.stages[stage as usize];
        it.attempts += 1;
        it.reruns += u64::from(it.tasks[index as usize].was_sealed);
        let task = &mut it.tasks[index as usize];
        task.attempt = task.next;
        task.next += 1;
        task.executor = executor;
        task.launched = world.now;
        task.beside = 0;
        task.discarded = false;
        task.rows = 0;
        it.set_phase(index, Phase::Running);
        let plan_version = it.version;
        if it.waiting == 0 && it.streams_out() {
            self.dirty = true;
        }
        self.slots_in_use += slots;
        self.touched.insert(executor);
        let attempt = self.attempt_id(stage, index);
        world.executors.occupy(executor, Active { attempt, slots, stopping: false, stranger: false });
        let place = world.executors.get(executor);
        let (life, address) = (place.life.clone(), Arc::clone(&place.address));
        world.effects.push(Effect::Launch(Launch { attempt, executor: life, address, slots, plan_version, inputs }));
    }

    /// Where a stage's inputs are.
    pub(super) fn input_locations(&mut self, stage: u32, executors: &Executors) -> Vec<InputLocations> {
        (0..self.stages[stage as usize].shape.inputs.len())
            .map(|input| {
                let producer = self.stages[stage as usize].shape.inputs[input].producer;
                let attempts = self.stages[producer.0 as usize].locations(executors).attempts.clone();
                InputLocations { producer, attempts }
            })
            .collect()
    }

    /// Tells a task's running attempt, and its rival, to stop, without deciding what becomes of the task.
    pub(super) fn stop_attempt(&mut self, world: &mut World<'_>, stage: u32, index: u32) {
        self.stop_rival(world, stage, index);
        let attempt = self.attempt_id(stage, index);
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        task.discarded = true;
        let executor = task.executor;
        self.tell_to_stop(world, executor, attempt);
    }

    /// Tells an executor to stop an attempt and to discard what it has written.
    pub(super) fn tell_to_stop(&self, world: &mut World<'_>, executor: u32, attempt: AttemptId) {
        let waits_for_report = world.executors.update(executor, |executor| {
            let active = executor.active.iter_mut().find(|active| active.attempt == attempt)?;
            active.stopping = true;
            Some(active.slots == 0 && !active.stranger)
        });
        if waits_for_report == Some(true) {
            world.executors.vacate(executor, attempt);
        }
        if waits_for_report.is_some() {
            let life = world.executors.get(executor).life.clone();
            world.effects.push(Effect::CancelTask { attempt, executor: life });
        }
    }

    /// Brings everything that follows from the stages' counts up to date.
    pub(super) fn settle(&mut self, world: &mut World<'_>) {
        self.recover(world);
        if self.verdict.is_some() {
            self.dirty = false;
            return;
        }
        self.stop_unwanted(world);
        self.ask_planner(world);
        self.release_consumed(world);
        let runnable = (0..self.stages.len() as u32).filter(|&stage| self.may_launch(stage));
        self.runnable = runnable.map(|stage| (self.stages[stage as usize].depth, stage)).collect();
        if self.stages.last().is_some_and(|root| root.is_committed() && root.tasks.len() == self.delivered as usize) {
            self.conclude(JobOutcome::Succeeded);
        }
        self.dirty = false;
    }

    /// Asks the planner about stages that have just been sealed.
    fn ask_planner(&mut self, world: &mut World<'_>) {
        if self.replanning == Replanning::Off {
            return;
        }
        for stage in 0..self.stages.len() {
            let it = &self.stages[stage];
            let open = it.consumers.iter().any(|(consumer, _)| !self.stages[*consumer as usize].is_started());
            if it.question == Question::Unasked && !it.tasks.is_empty() && it.is_readable(Edge::Sealed) && open {
                let it = &mut self.stages[stage];
                it.question = Question::Asked;
                let (sizes, exact) = (it.sizes.as_slice().into(), it.exact);
                let (job, stage, plan_version) = (self.id, StageId(stage as u32), self.plan_version);
                world.effects.push(Effect::Replan { job, stage, sizes, exact, plan_version });
            }
        }
    }
}
