//! How the machine goes on after a restart of the scheduler: what a journal tells, and what executors bring back.

use volley_proto::{AttemptId, PartitionStats};

use super::cluster::Cluster;
use super::effect::{Effect, LossReason};
use super::event::{ExecutorHello, ExecutorLife};
use super::executors::Presence;
use super::job::{Job, Progress, World};
use super::task::Phase;

impl Cluster {
    /// A journal says that an attempt was sealed.
    pub(super) fn output_restored(&mut self, attempt: AttemptId, hello: &ExecutorHello, outputs: &[PartitionStats]) {
        let known = self.executors.find(&hello.life);
        if known.is_none() && self.executors.was_lost(&hello.life) {
            // The journal tells of a later life of it.
            self.with_job(attempt.task.job, |job, _| job.skip_number(attempt));
            return;
        }
        if let Some(earlier) = self.executors.newest(&hello.life.id).filter(|_| known.is_none()) {
            self.lose(earlier, LossReason::Restarted);
        }
        let index = known.unwrap_or_else(|| {
            let index = self.executors.add(hello, self.now);
            let broken = Presence::Broken(self.now, self.settings.lost_after_restart_ms);
            self.executors.update(index, |executor| {
                executor.presence = broken;
                executor.slots = 0;
            });
            self.watch(index);
            self.note_presence();
            index
        });
        self.with_job(attempt.task.job, |job, world| job.restore_output(world, attempt, index, outputs));
    }

    /// The events so far came from a journal.
    pub(super) fn restored(&mut self) {
        let broken = Presence::Broken(self.now, self.settings.lost_after_restart_ms);
        let indexes: Vec<u32> = self.executors.iter().map(|(index, _)| index).collect();
        for index in indexes {
            self.executors.update(index, |executor| {
                if executor.presence != Presence::Lost {
                    executor.presence = broken;
                }
            });
            self.watch(index);
        }
        let planning = self.jobs.values().filter(|job| job.progress == Progress::Planning);
        let plans: Vec<Effect> = planning.map(|job| Effect::Plan { job: job.id }).collect();
        self.effects.extend(plans);
        for id in self.working.clone() {
            self.with_job(id, |job, _| {
                job.restored = true;
                job.ask_again();
            });
        }
    }
}

/// What is known of an executor that a journal names.
pub(super) fn known_by_journal(life: ExecutorLife, address: std::sync::Arc<str>) -> ExecutorHello {
    ExecutorHello { life, stream: 0, slots: 1, memory_bytes: 0, address, build: "".into(), running: Vec::new(), held: Vec::new() }
}

impl Job {
    /// Whether outputs of a stage that an earlier scheduler had made may be used. What they were made of may have been replaced since, and
    /// the journal need not know of either; where all that is before the stage writes the same rows again, that makes no difference.
    pub(super) fn may_resume(&self, stage: u32) -> bool {
        self.stages[stage as usize].shape.inputs.iter().all(|input| {
            let producer = input.producer.0;
            self.stages[producer as usize].shape.deterministic && self.may_resume(producer)
        })
    }

    /// Whether an attempt is the whole result: all that it is made of belongs together, and nobody needs anything else any more.
    fn is_result(&self, stage: u32) -> bool {
        stage == self.root() && self.stages[stage as usize].shape.tasks == 1
    }

    /// Numbers of attempts below this one may have been given before, for whatever the journal does not tell.
    pub(super) fn numbers_from(&mut self, number: u32) {
        for task in self.stages.iter_mut().flat_map(|stage| &mut stage.tasks) {
            task.skipped += number.saturating_sub(task.next);
            task.next = task.next.max(number);
        }
    }

    fn restore_output(&mut self, world: &mut World<'_>, attempt: AttemptId, executor: u32, outputs: &[PartitionStats]) {
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        if !self.has_task(attempt.task) || self.stages[stage as usize].tasks[index as usize].phase != Phase::Waiting {
            return;
        }
        self.skip_number(attempt);
        let stands = attempt.number >= self.stages[stage as usize].tasks[index as usize].valid_from;
        if !stands || !(self.may_resume(stage) || self.is_result(stage)) {
            return;
        }
        let it = &mut self.stages[stage as usize];
        it.attempts += 1;
        let task = &mut it.tasks[index as usize];
        task.attempt = attempt.number;
        task.executor = executor;
        task.launched = world.now;
        self.touched.insert(executor);
        self.seal(world, stage, index, outputs);
        if stage == self.root() {
            // It can be shown once its executor is back.
            self.unshown.push(attempt);
        }
    }

    /// Numbers of attempts that were launched by an earlier scheduler are not given again.
    pub(super) fn skip_number(&mut self, attempt: AttemptId) {
        if !self.has_task(attempt.task) {
            return;
        }
        let task = &mut self.stages[attempt.task.stage.0 as usize].tasks[attempt.task.index as usize];
        if attempt.number >= task.next {
            task.skipped += attempt.number + 1 - task.next;
            task.next = attempt.number + 1;
        }
    }
}
