//! What has to run again when something was lost, and what need not.
//!
//! An output is *wanted* while a consumer that is itself wanted has tasks that are not sealed; the root is wanted until
//! the client has it. Lost outputs run again only if wanted, which makes their own inputs wanted in turn: exactly what
//! was lost and is needed is computed again, however deep.
//!
//! A stage that is not deterministic writes other rows the second time. If one of its outputs runs again, everything
//! that has read the stage, directly or through others, starts over, so that nobody mixes rows of two attempts; rows
//! already shown to the client can't start over, and the job fails.

use volley_proto::{Edge, Failure, StageId};

use super::effect::Effect;
use super::job::{Job, World};
use super::settings::OutputRetention;
use super::task::Phase;

impl Job {
    /// Decides which stages are wanted, and makes tasks of wanted stages wait whose outputs are gone.
    pub(super) fn recover(&mut self, world: &mut World<'_>) {
        // A reset makes more stages wanted, so the pass starts again; each reset leaves fewer tasks to be reset.
        while self.revive_wanted(world) && self.verdict.is_none() {}
    }

    /// One pass from the root to the leaves; true if readers were reset.
    fn revive_wanted(&mut self, world: &mut World<'_>) -> bool {
        for stage in (0..self.stages.len() as u32).rev() {
            let wanted = stage == self.root() || self.is_wanted(stage);
            self.stages[stage as usize].wanted = wanted;
            if !wanted {
                continue;
            }
            let given_up = std::mem::take(&mut self.stages[stage as usize].given_up);
            let again = given_up | (self.stages[stage as usize].gone > 0 && self.revive(world, stage));
            if again && !self.stages[stage as usize].shape.deterministic && self.reset_readers(world, stage) {
                return true;
            }
        }
        false
    }

    fn is_wanted(&self, stage: u32) -> bool {
        self.stages[stage as usize].consumers.iter().any(|(consumer, _)| {
            let consumer = &self.stages[*consumer as usize];
            consumer.wanted && !consumer.is_committed()
        })
    }

    /// Makes tasks wait whose output is gone and not delivered.
    fn revive(&mut self, world: &World<'_>, stage: u32) -> bool {
        let before = self.stages[stage as usize].waiting;
        for index in 0..self.stages[stage as usize].tasks.len() as u32 {
            let task = &self.stages[stage as usize].tasks[index as usize];
            if task.phase == Phase::Gone && !task.delivered {
                self.count_restart(world, stage, index);
                self.stages[stage as usize].set_phase(index, Phase::Waiting);
            }
        }
        self.stages[stage as usize].waiting > before
    }

    /// Everything that has read this stage, directly or through others, starts over. True if that was anything.
    pub(super) fn reset_readers(&mut self, world: &mut World<'_>, stage: u32) -> bool {
        let mut reads = vec![false; self.stages.len()];
        reads[stage as usize] = true;
        let mut changed = false;
        for reader in stage as usize + 1..self.stages.len() {
            reads[reader] = self.stages[reader].shape.inputs.iter().any(|input| reads[input.producer.0 as usize]);
            if reads[reader] {
                changed |= self.reset_stage(world, reader as u32, StageId(stage));
            }
        }
        changed
    }

    fn reset_stage(&mut self, world: &mut World<'_>, stage: u32, cause: StageId) -> bool {
        let is_root = stage == self.root();
        let mut changed = false;
        for index in 0..self.stages[stage as usize].tasks.len() as u32 {
            let task = &mut self.stages[stage as usize].tasks[index as usize];
            task.valid_from = task.next;
            task.folded = false;
            if task.delivered {
                let task = self.task_id(stage, index);
                self.fail(rows_shown(&format!("{}/{cause}", self.id), &task.to_string()));
                return true;
            }
            let phase = task.phase;
            if phase == Phase::Waiting {
                continue;
            }
            changed = true;
            match phase {
                Phase::Running => self.stop_attempt(world, stage, index),
                Phase::Sealed => world.executors.hold(self.stages[stage as usize].tasks[index as usize].executor, -1),
                Phase::Waiting | Phase::Gone => {}
            }
            if is_root && phase != Phase::Gone {
                world.effects.push(Effect::RootTaskRetracted { attempt: self.attempt_id(stage, index) });
            }
            self.count_restart(world, stage, index);
            self.stages[stage as usize].set_phase(index, Phase::Waiting);
        }
        let it = &mut self.stages[stage as usize];
        it.sizes.clear();
        it.exact = true;
        self.dirty = true;
        changed
    }

    /// An attempt that ran has no result: its rival takes its place, or the task waits again, and those who read it while it ran start over.
    pub(super) fn requeue(&mut self, world: &mut World<'_>, stage: u32, index: u32) {
        if stage == self.root() {
            world.effects.push(Effect::RootTaskRetracted { attempt: self.attempt_id(stage, index) });
        }
        if self.promote_rival(stage, index) {
            return;
        }
        let delivered = self.stages[stage as usize].tasks[index as usize].delivered;
        self.stages[stage as usize].set_phase(index, if delivered { Phase::Gone } else { Phase::Waiting });
        self.dirty = true;
        self.restart_streaming_readers(world, stage);
    }

    /// An output that could be read can't be any more.
    pub(super) fn lose_output(&mut self, world: &mut World<'_>, stage: u32, index: u32) {
        let task = &self.stages[stage as usize].tasks[index as usize];
        if task.phase != Phase::Sealed {
            return;
        }
        world.executors.hold(task.executor, -1);
        if stage == self.root() && !task.delivered {
            world.effects.push(Effect::RootTaskRetracted { attempt: self.attempt_id(stage, index) });
        }
        self.stages[stage as usize].set_phase(index, Phase::Gone);
        self.dirty = true;
        if self.stages[stage as usize].wanted {
            self.restart_streaming_readers(world, stage);
        }
    }

    /// All outputs of the job on an executor are lost.
    pub(super) fn lose_outputs_on(&mut self, world: &mut World<'_>, executor: u32) {
        for stage in 0..self.stages.len() as u32 {
            if self.stages[stage as usize].sealed == 0 {
                continue;
            }
            for index in 0..self.stages[stage as usize].tasks.len() as u32 {
                if self.stages[stage as usize].tasks[index as usize].executor == executor {
                    self.lose_output(world, stage, index);
                }
            }
        }
    }

    /// A streaming consumer's attempt is bound to the producer attempts that it started with. It gives up its slots at
    /// once, since the producer may wait for them.
    fn restart_streaming_readers(&mut self, world: &mut World<'_>, stage: u32) {
        if !self.stages[stage as usize].streams_out() {
            return;
        }
        if !self.stages[stage as usize].shape.deterministic {
            self.reset_readers(world, stage);
            return;
        }
        for place in 0..self.stages[stage as usize].consumers.len() {
            let (consumer, edge) = self.stages[stage as usize].consumers[place];
            if edge != Edge::Streaming || self.stages[consumer as usize].running == 0 {
                continue;
            }
            for index in 0..self.stages[consumer as usize].tasks.len() as u32 {
                if self.stages[consumer as usize].tasks[index as usize].phase == Phase::Running {
                    self.stop_attempt(world, consumer, index);
                    self.count_restart(world, consumer, index);
                    self.requeue(world, consumer, index);
                }
            }
        }
    }

    /// Stops what nobody waits for any more.
    pub(super) fn stop_unwanted(&mut self, world: &mut World<'_>) {
        for stage in 0..self.stages.len() as u32 {
            if self.stages[stage as usize].wanted || self.stages[stage as usize].running == 0 {
                continue;
            }
            self.stages[stage as usize].given_up = true;
            for index in 0..self.stages[stage as usize].tasks.len() as u32 {
                if self.stages[stage as usize].tasks[index as usize].phase == Phase::Running {
                    self.stop_attempt(world, stage, index);
                    self.count_restart(world, stage, index);
                    self.stages[stage as usize].set_phase(index, Phase::Waiting);
                }
            }
        }
    }

    /// Frees outputs that all consumers have read.
    pub(super) fn release_consumed(&mut self, world: &mut World<'_>) {
        if world.settings.retention == OutputRetention::UntilJobEnds {
            return;
        }
        for stage in 0..self.stages.len() {
            let it = &mut self.stages[stage];
            if it.wanted || it.sealed == 0 {
                continue;
            }
            let mut holders = Vec::new();
            for index in 0..it.tasks.len() as u32 {
                if it.tasks[index as usize].phase == Phase::Sealed {
                    let executor = it.tasks[index as usize].executor;
                    world.executors.hold(executor, -1);
                    holders.push(executor);
                    it.set_phase(index, Phase::Gone);
                }
            }
            holders.sort_unstable();
            holders.dedup();
            let executors = holders.into_iter().map(|holder| world.executors.get(holder).life.clone()).collect();
            world.effects.push(Effect::ReleaseOutputs { job: self.id, stage: StageId(stage as u32), executors });
        }
    }

    /// Counts an attempt that ended without the task's fault.
    pub(super) fn count_restart(&mut self, world: &World<'_>, stage: u32, index: u32) {
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        task.restarts = task.restarts.saturating_add(1);
        if u32::from(task.restarts) >= world.settings.max_restarts {
            let restarts = task.restarts;
            let name = self.task_id(stage, index);
            self.fail(Failure::retry(format!("{name} was started {restarts} times in vain because others on which it depends were lost")));
        }
    }
}

/// Rows can't be taken back.
pub(super) fn rows_shown(lost: &str, shown: &str) -> Failure {
    Failure::retry(format!(
        "{lost} was lost and would give other rows if run again, but rows of {shown} that depend on it have been returned already: run the statement again"
    ))
}
