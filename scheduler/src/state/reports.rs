//! What follows from an executor's word on an attempt, by outcome and remedy.

use volley_proto::{AttemptId, Failure, PartitionStats, Remedy, TaskOutcome};

use super::effect::Effect;
use super::job::{Job, World};
use super::task::{Absorbed, Phase};

/// Bugs and panics that a task may have before its job fails.
const MAX_BUGS: u16 = 2;

impl Job {
    /// Takes a report about an attempt that holds slots and was not told to stop.
    pub(super) fn absorb(&mut self, world: &mut World<'_>, attempt: AttemptId, executor: u32, outcome: &TaskOutcome) {
        if !self.has_task(attempt.task) {
            return;
        }
        if self.is_rival(attempt) {
            return self.absorb_rival(world, attempt, outcome);
        }
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        match (task.absorb(attempt.number, executor, outcome), outcome) {
            (Absorbed::Progress, TaskOutcome::Running { rows }) => task.rows = task.rows.max(*rows),
            (Absorbed::Sealed, TaskOutcome::Sealed { outputs, .. }) => self.seal(world, stage, index, outputs),
            (Absorbed::Ended, TaskOutcome::Failed(failure)) => self.attempt_failed(world, stage, index, failure),
            (Absorbed::Ended, TaskOutcome::Cancelled) => {
                self.count_restart(world, stage, index);
                self.requeue(world, stage, index);
            }
            _ => {}
        }
    }

    /// An attempt's output is complete.
    pub(super) fn seal(&mut self, world: &mut World<'_>, stage: u32, index: u32, outputs: &[PartitionStats]) {
        let is_root = stage == self.root();
        self.stop_rival(world, stage, index);
        let it = &mut self.stages[stage as usize];
        it.fold(index, outputs);
        it.set_phase(index, Phase::Sealed);
        let task = &mut it.tasks[index as usize];
        task.was_sealed = true;
        task.rows = outputs.iter().map(|output| output.rows).sum();
        it.note_pace(index, world.now);
        let task = &it.tasks[index as usize];
        let executor = task.executor;
        let delivered = task.delivered;
        if it.is_committed() || is_root {
            self.dirty = true;
        }
        world.executors.hold(executor, 1);
        if is_root && !delivered {
            self.show(world, index);
        }
    }

    fn attempt_failed(&mut self, world: &mut World<'_>, stage: u32, index: u32, failure: &Failure) {
        self.stages[stage as usize].failures += 1;
        if stage == self.root() {
            self.root_failure = Some((self.attempt_id(stage, index), self.named(stage, index, failure)));
        }
        match &failure.remedy {
            Remedy::Query => self.fail(failure.clone()),
            Remedy::Retry => self.charge(world, stage, index, failure),
            Remedy::Internal => {
                let task = &mut self.stages[stage as usize].tasks[index as usize];
                task.bugs = task.bugs.saturating_add(1);
                if task.bugs >= MAX_BUGS {
                    self.fail(self.named(stage, index, failure));
                } else {
                    self.charge(world, stage, index, failure);
                }
            }
            Remedy::Resources => self.out_of_resources(world, stage, index, failure),
            Remedy::Rerun { producer, .. } => {
                if self.reads(stage, *producer) {
                    self.count_restart(world, stage, index);
                    self.requeue(world, stage, index);
                    self.output_unreadable(world, *producer, failure);
                    return;
                }
                // It names something that it does not read: a bug of the executor, and charged as such.
                let remedy = Failure { remedy: Remedy::Internal, message: failure.message.clone() };
                self.attempt_failed(world, stage, index, &remedy);
                return;
            }
            Remedy::Cancelled => self.count_restart(world, stage, index),
        }
        self.requeue(world, stage, index);
    }

    /// Counts a failure of a task, and avoids the executor where it happened.
    fn charge(&mut self, world: &World<'_>, stage: u32, index: u32, failure: &Failure) {
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        task.failures = task.failures.saturating_add(1);
        task.avoid = task.executor;
        if u32::from(task.failures) >= world.settings.max_attempts {
            let message = format!(
                "{} failed {} times, the last time on {}: {}",
                self.task_id(stage, index),
                world.settings.max_attempts,
                self.place(world, stage, index),
                failure.message
            );
            self.fail(Failure { remedy: failure.remedy.clone(), message });
        }
    }

    /// Out of memory or disk: again, alone on an executor, with more memory if there is one; if that was already so, it is too large.
    fn out_of_resources(&mut self, world: &mut World<'_>, stage: u32, index: u32, failure: &Failure) {
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        let had = world.executors.get(task.executor).memory_bytes;
        let larger = world.executors.by_free_slots().any(|(executor, _)| world.executors.get(executor).memory_bytes > had);
        if task.alone && !larger {
            let place = self.place(world, stage, index);
            let name = self.task_id(stage, index);
            let message = format!("{name} ran out of resources alone on {place}, and no executor has more memory: {}", failure.message);
            self.fail(Failure { remedy: Remedy::Resources, message });
            return;
        }
        task.alone = true;
        // It runs beside others, and would be taken for one that does not.
        self.stop_rival(world, stage, index);
        self.charge(world, stage, index, failure);
    }

    /// Whether a stage reads the task of this attempt.
    fn reads(&self, stage: u32, producer: AttemptId) -> bool {
        let inputs = &self.stages[stage as usize].shape.inputs;
        self.has_task(producer.task) && inputs.iter().any(|input| input.producer == producer.task.stage)
    }

    /// A consumer could not read an output: the producer is charged and runs again, unless the news is old or the executor
    /// that holds the output is suspect, for then it will soon be back or lost.
    pub(super) fn output_unreadable(&mut self, world: &mut World<'_>, producer: AttemptId, failure: &Failure) {
        let (stage, index) = (producer.task.stage.0, producer.task.index);
        let task = &self.stages[stage as usize].tasks[index as usize];
        if task.attempt != producer.number || !matches!(task.phase, Phase::Sealed | Phase::Running) || task.delivered {
            return;
        }
        let executor = task.executor;
        if world.executors.get(executor).is_suspect() {
            return;
        }
        if task.phase == Phase::Running {
            // Its own report of what went wrong may be on the way: it is not charged twice, nor for faults before it.
            self.stages[stage as usize].tasks[index as usize].avoid = executor;
            self.stop_attempt(world, stage, index);
            self.count_restart(world, stage, index);
            self.requeue(world, stage, index);
            return;
        }
        self.charge(world, stage, index, failure);
        self.lose_output(world, stage, index);
        let count = self.unreadable.entry(executor).or_default();
        *count += 1;
        if *count >= world.settings.max_unreadable_outputs {
            *count = 0;
            self.lose_outputs_on(world, executor);
        }
    }

    /// The executor that ran an attempt is lost.
    pub(super) fn attempt_lost(&mut self, world: &mut World<'_>, attempt: AttemptId, blame: Blame) {
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        if !self.has_task(attempt.task) {
            return;
        }
        if self.is_rival(attempt) {
            // The attempt beside it goes on, and nothing is known against the task.
            self.rivals.remove(&(stage, index));
            return;
        }
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        if task.phase != Phase::Running || task.attempt != attempt.number {
            return;
        }
        match blame {
            Blame::Nobody => self.count_restart(world, stage, index),
            Blame::Task => {
                task.losses = task.losses.saturating_add(1);
                let losses = u32::from(task.losses);
                task.alone |= losses >= world.settings.isolate_after_lost;
                task.avoid = task.executor;
                if losses >= world.settings.max_executors_lost {
                    let (name, place) = (self.task_id(stage, index), self.place(world, stage, index));
                    self.fail(Failure::internal(format!(
                        "{losses} executors were lost while they ran {name}, the last one {place}: it is not tried again, lest it take down more"
                    )));
                }
            }
        }
        if self.stages[stage as usize].tasks[index as usize].alone {
            self.stop_rival(world, stage, index);
        }
        self.requeue(world, stage, index);
    }

    /// All rows of a root attempt have been shown.
    pub(super) fn delivered(&mut self, world: &mut World<'_>, attempt: AttemptId) {
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        if !self.has_task(attempt.task) || stage != self.root() {
            return;
        }
        let task = &mut self.stages[stage as usize].tasks[index as usize];
        if task.delivered || attempt.number >= task.next {
            return;
        }
        if attempt.number < task.valid_from {
            let name = attempt.task.to_string();
            self.fail(super::recovery::rows_shown(&format!("an input of {name}"), &name));
            return;
        }
        task.delivered = true;
        self.delivered += 1;
        self.dirty = true;
        let task = &self.stages[stage as usize].tasks[index as usize];
        if task.attempt == attempt.number && task.phase != Phase::Waiting {
            return;
        }
        // It was given up before the news came, and need not have been.
        match task.phase {
            Phase::Running => self.stop_attempt(world, stage, index),
            Phase::Sealed => world.executors.hold(task.executor, -1),
            Phase::Waiting | Phase::Gone => {}
        }
        if matches!(self.stages[stage as usize].tasks[index as usize].phase, Phase::Running | Phase::Sealed) {
            world.effects.push(Effect::RootTaskRetracted { attempt: self.attempt_id(stage, index) });
        }
        self.stages[stage as usize].set_phase(index, Phase::Gone);
    }

    /// A root attempt's output could not be read.
    pub(super) fn fetch_failed(&mut self, world: &mut World<'_>, attempt: AttemptId, partly_shown: bool) {
        if !self.has_task(attempt.task) || attempt.task.stage.0 != self.root() {
            return;
        }
        if partly_shown {
            let name = attempt.task;
            let returned = "some of its rows had been returned already, which can't be taken back";
            let failure = match self.root_failure.take() {
                // The next attempt may have failed as well meanwhile.
                Some((failed, why)) if failed.task == name && failed.number >= attempt.number => Failure {
                    message: format!(
                        "{}; {returned}: run the statement again, with volley.results = 'sealed' if it fails like this again",
                        why.message
                    ),
                    ..why
                },
                _ => Failure::retry(format!("rows of {name} were lost, and {returned}: run the statement again")),
            };
            self.fail(failure);
            return;
        }
        let task = &self.stages[attempt.task.stage.0 as usize].tasks[attempt.task.index as usize];
        if task.attempt == attempt.number && task.phase == Phase::Sealed && world.executors.get(task.executor).is_suspect() {
            self.unshown.push(attempt);
            return;
        }
        self.output_unreadable(world, attempt, &Failure::retry("its rows could not be read"));
    }

    /// Root attempts that could not be shown may be shown after all, since their executor is heard again.
    pub(super) fn show_again(&mut self, world: &mut World<'_>, executor: u32) {
        let root = self.root();
        let (here, elsewhere) = std::mem::take(&mut self.unshown).into_iter().partition(|attempt| {
            let task = &self.stages[root as usize].tasks[attempt.task.index as usize];
            task.executor == executor && task.attempt == attempt.number
        });
        self.unshown = elsewhere;
        let here: Vec<AttemptId> = here;
        for attempt in here {
            if self.stages[root as usize].tasks[attempt.task.index as usize].phase == Phase::Sealed {
                self.show(world, attempt.task.index);
            }
        }
    }

    /// Says that a root task's rows may be shown.
    fn show(&self, world: &mut World<'_>, index: u32) {
        let executor = world.executors.get(self.stages[self.root() as usize].tasks[index as usize].executor);
        let (life, address) = (executor.life.clone(), executor.address.clone());
        world.effects.push(Effect::RootTaskSealed { attempt: self.attempt_id(self.root(), index), executor: life, address });
    }

    /// A failure with the task's name before it.
    fn named(&self, stage: u32, index: u32, failure: &Failure) -> Failure {
        Failure { remedy: failure.remedy.clone(), message: format!("{} failed: {}", self.task_id(stage, index), failure.message) }
    }

    fn place(&self, world: &World<'_>, stage: u32, index: u32) -> String {
        world.executors.get(self.stages[stage as usize].tasks[index as usize].executor).life.id.to_string()
    }
}

/// Who is to blame for an attempt that vanished with its executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nobody: it left, or a message was lost.
    Nobody,
    /// Perhaps the task.
    Task,
}
