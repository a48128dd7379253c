//! Executors come, fall silent, come back, leave and are lost.
//!
//! ```text
//!            join                  no heartbeat                    still none
//!   (new) ─────────▶ Live ───────────────────────▶ Silent ───────────────────────┐
//!                    ▲  │ ▲────────────────────────  │                            ▼
//!      same life     │  │        heartbeat            │ stream broke             Lost
//!      joins again   │  └──────────▶ Broken ◀─────────┘                            ▲
//!                    └─────────────────┘  └───────────────────────────────────────┘
//!                                            not back in time, or back in another life
//! ```

use std::collections::{BTreeSet, HashSet};

use volley_proto::AttemptId;

use super::cluster::{Cluster, Timer};
use super::effect::{Effect, LossReason};
use super::event::{ExecutorHello, ExecutorLife};
use super::executors::{Active, Presence};
use super::job::{Job, World};
use super::reports::Blame;
use super::task::{NOBODY, Phase};

impl Cluster {
    pub(super) fn executor_joined(&mut self, hello: ExecutorHello) {
        let newest = self.executors.newest(&hello.life.id);
        let index = match newest {
            Some(index) if self.executors.get(index).life == hello.life => {
                if hello.stream <= self.executors.get(index).stream {
                    return;
                }
                self.come_back(index, &hello);
                index
            }
            Some(index) => {
                if self.executors.was_lost(&hello.life) {
                    self.fence(hello.life);
                    return;
                }
                self.lose(index, LossReason::Restarted);
                self.executors.add(&hello, self.now)
            }
            None => self.executors.add(&hello, self.now),
        };
        self.effects.push(Effect::Welcome { executor: hello.life.clone(), stream: hello.stream });
        self.watch(index);
        self.note_presence();
        self.take_inventory(index, &hello);
        self.heard_again(index);
    }

    fn come_back(&mut self, index: u32, hello: &ExecutorHello) {
        let now = self.now;
        if self.executors.get(index).address != hello.address {
            // Lists of locations were made with the old one, or with none that a journal told.
            self.jobs.values_mut().for_each(Job::forget_locations);
        }
        self.executors.update(index, |executor| {
            executor.presence = Presence::Live;
            executor.stream = hello.stream;
            executor.last_heard = now;
            executor.address = hello.address.clone();
            executor.dismissed = false;
            if executor.slots == 0 {
                // Known from a journal alone.
                executor.slots = hello.slots.max(1);
                executor.memory_bytes = hello.memory_bytes;
                executor.build = hello.build.clone();
            }
        });
    }

    pub(super) fn heartbeat(&mut self, life: &ExecutorLife) {
        if self.heard(life).is_none() {
            self.fence(life.clone());
        }
    }

    /// Tells somebody who counts as lost or is unknown what to do.
    pub(super) fn fence(&mut self, executor: ExecutorLife) {
        let superseded = self.executors.was_lost(&executor) && self.executors.newest(&executor.id).is_some();
        self.effects.push(Effect::Fence { executor, superseded });
    }

    /// Notes a sign of life; `None` if this life is lost or unknown.
    pub(super) fn heard(&mut self, life: &ExecutorLife) -> Option<u32> {
        let index = self.executors.find(life)?;
        let now = self.now;
        let was_silent = self.executors.get(index).presence == Presence::Silent;
        self.executors.hear(index, now);
        if was_silent {
            self.heard_again(index);
        }
        Some(index)
    }

    /// What waited for an executor to be heard goes on.
    fn heard_again(&mut self, index: u32) {
        for id in self.working.clone() {
            self.with_job(id, |job, world| job.show_again(world, index));
        }
    }

    pub(super) fn stream_broken(&mut self, life: &ExecutorLife, stream: u64) {
        let Some(index) = self.executors.find(life) else { return };
        let executor = self.executors.get(index);
        if executor.stream != stream || matches!(executor.presence, Presence::Broken(..)) {
            return;
        }
        let was_live = executor.presence == Presence::Live;
        let broken = Presence::Broken(self.now, self.settings.lost_after_broken_ms);
        self.executors.update(index, |executor| executor.presence = broken);
        if was_live {
            self.effects.push(Effect::ExecutorSuspected { executor: life.clone() });
        }
        self.watch(index);
    }

    pub(super) fn executor_draining(&mut self, life: &ExecutorLife) {
        let Some(index) = self.executors.find(life) else { return };
        self.executors.update(index, |executor| executor.draining = true);
        self.note_presence();
    }

    pub(super) fn executor_left(&mut self, life: &ExecutorLife) {
        if let Some(index) = self.executors.find(life) {
            self.lose(index, LossReason::Left);
        }
    }

    /// Sets the timer that looks at an executor next, unless an earlier one is set.
    pub(super) fn watch(&mut self, index: u32) {
        let Some(deadline) = self.executors.get(index).deadline(&self.settings) else { return };
        let timer = self.executors.get(index).timer;
        if timer.is_some_and(|timer| timer <= deadline) {
            return;
        }
        if let Some(timer) = timer {
            self.timers.remove(&(timer, Timer::Executor(index)));
        }
        self.timers.insert((deadline, Timer::Executor(index)));
        self.executors.update(index, |executor| executor.timer = Some(deadline));
    }

    /// The timer of an executor has run out.
    pub(super) fn look_after(&mut self, index: u32) {
        self.executors.update(index, |executor| executor.timer = None);
        let executor = self.executors.get(index);
        let Some(deadline) = executor.deadline(&self.settings) else { return };
        if deadline <= self.now {
            match executor.presence {
                Presence::Live => self.suspect(index),
                Presence::Silent => self.lose(index, LossReason::Silent),
                Presence::Broken(..) => self.lose(index, LossReason::StreamBroken),
                Presence::Lost => {}
            }
        }
        self.watch(index);
    }

    /// A live executor gets nothing new until it is heard.
    pub(super) fn suspect(&mut self, index: u32) {
        let executor = self.executors.get(index);
        if executor.presence == Presence::Live {
            let life = executor.life.clone();
            self.executors.update(index, |executor| executor.presence = Presence::Silent);
            self.effects.push(Effect::ExecutorSuspected { executor: life });
            self.watch(index);
        }
    }

    /// An executor is gone, and with it all that it ran and held.
    pub(super) fn lose(&mut self, index: u32, reason: LossReason) {
        let (life, actives) = self.executors.update(index, |executor| {
            executor.presence = Presence::Lost;
            executor.used = 0;
            executor.strangers = 0;
            (executor.life.clone(), std::mem::take(&mut executor.active))
        });
        if let Some(timer) = self.executors.update(index, |executor| executor.timer.take()) {
            self.timers.remove(&(timer, Timer::Executor(index)));
        }
        self.effects.push(Effect::ExecutorLost { executor: life, reason });
        let blame = if reason == LossReason::Left { Blame::Nobody } else { Blame::Task };
        for active in actives {
            self.slots_freed(&active);
            if !active.stopping {
                let blame = if active.slots == 0 { Blame::Nobody } else { blame };
                self.with_job(active.attempt.task.job, |job, world| job.attempt_lost(world, active.attempt, blame));
            }
        }
        for id in self.working.clone() {
            self.with_job(id, |job, world| {
                job.lose_outputs_on(world, index);
                job.unreadable.remove(&index);
                job.touched.remove(&index);
            });
        }
        for job in self.jobs.values_mut() {
            job.touched.remove(&index);
        }
        self.note_presence();
    }

    /// The slots of an attempt are free again.
    pub(super) fn slots_freed(&mut self, active: &Active) {
        if let Some(job) = self.jobs.get_mut(&active.attempt.task.job) {
            job.slots_in_use = job.slots_in_use.saturating_sub(active.slots);
            self.contenders.stand(job.id, job.share());
        }
    }

    /// Lets draining executors go that run nothing and hold nothing that anybody needs.
    pub(super) fn dismiss_drained(&mut self) {
        if self.executors.draining().is_empty() {
            return;
        }
        for index in self.executors.draining().clone() {
            let executor = self.executors.get(index);
            if executor.active.is_empty() && executor.held == 0 && !executor.dismissed {
                let life = executor.life.clone();
                self.executors.update(index, |executor| executor.dismissed = true);
                self.effects.push(Effect::MayLeave { executor: life });
            }
        }
    }

    /// Compares what an executor runs and holds with what is believed of it.
    fn take_inventory(&mut self, index: u32, hello: &ExecutorHello) {
        let running: HashSet<AttemptId> = hello.running.iter().copied().collect();
        let held: HashSet<AttemptId> = hello.held.iter().copied().collect();
        let listed: Vec<AttemptId> = self.executors.get(index).active.iter().map(|active| active.attempt).collect();
        for attempt in listed {
            self.check_active(index, attempt, &running, &held);
        }
        for id in self.working.clone() {
            self.with_job(id, |job, world| job.drop_outputs_not_held(world, index, &held));
        }
        let mut strangers = BTreeSet::new();
        for attempt in hello.running.iter().chain(&hello.held) {
            match self.jobs.get_mut(&attempt.task.job) {
                Some(job) => _ = job.touched.insert(index),
                None => _ = strangers.insert(attempt.task.job),
            }
        }
        for &attempt in hello.running.iter().chain(&hello.held) {
            self.with_job(attempt.task.job, |job, _| job.skip_number(attempt));
        }
        for &attempt in &hello.running {
            self.find_running(index, attempt);
        }
        for &attempt in &hello.held {
            self.with_job(attempt.task.job, |job, world| job.adopt(world, attempt, index, 0));
        }
        for job in strangers {
            self.effects.push(Effect::ForgetJob { job, executors: vec![hello.life.clone()] });
        }
    }

    /// An attempt that should be in the executor: it runs, it has been sealed, or it never arrived or ended unheard.
    fn check_active(&mut self, index: u32, attempt: AttemptId, running: &HashSet<AttemptId>, held: &HashSet<AttemptId>) {
        // What was found of another attempt may have stopped this one.
        let executor = self.executors.get(index);
        let Some(active) = executor.active.iter().find(|active| active.attempt == attempt).cloned() else { return };
        let life = executor.life.clone();
        if active.stopping && (running.contains(&attempt) || held.contains(&attempt)) {
            self.effects.push(Effect::CancelTask { attempt, executor: life });
        }
        if running.contains(&attempt) {
            return;
        }
        self.executors.vacate(index, attempt);
        self.slots_freed(&active);
        if held.contains(&attempt) && !active.stopping {
            self.executors.occupy(index, Active { slots: 0, ..active });
        } else if !active.stopping {
            self.with_job(attempt.task.job, |job, world| job.attempt_lost(world, attempt, Blame::Nobody));
        }
    }

    /// An attempt runs in the executor: if nobody knows of it, it is adopted or told to stop.
    fn find_running(&mut self, index: u32, attempt: AttemptId) {
        if self.executors.get(index).active.iter().any(|active| active.attempt == attempt) {
            return;
        }
        let free = self.executors.get(index).free();
        let adopted = self.with_job(attempt.task.job, |job, world| {
            let slots = job.slots_on(world, attempt, index);
            slots <= free && job.adopt(world, attempt, index, slots)
        });
        if adopted == Some(true) {
            return;
        }
        self.executors.occupy(index, Active { attempt, slots: 0, stopping: true, stranger: true });
        let executor = self.executors.get(index).life.clone();
        self.effects.push(Effect::CancelTask { attempt, executor });
    }

    /// The number of present executors may have changed.
    pub(super) fn note_presence(&mut self) {
        if self.executors.present() > 0 {
            self.deserted_since = None;
        } else if self.deserted_since.is_none() {
            self.deserted_since = Some(self.now);
            if !self.jobs.is_empty() {
                self.timers.insert((self.now.after_millis(self.settings.no_executor_wait_ms), Timer::NoExecutor));
            }
        }
    }
}

impl Job {
    /// Slots that a task would get on an executor.
    fn slots_on(&self, world: &World<'_>, attempt: AttemptId, executor: u32) -> u32 {
        let wanted = self.stages.get(attempt.task.stage.0 as usize).map_or(1, |stage| stage.shape.slots_per_task);
        wanted.min(world.executors.get(executor).slots).max(1)
    }

    /// Takes an attempt for the one that counts, if no other does and what it has read still stands. With 0 slots it has
    /// ended, and the report that it repeats is awaited.
    fn adopt(&mut self, world: &mut World<'_>, attempt: AttemptId, executor: u32, slots: u32) -> bool {
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        if !self.has_task(attempt.task) {
            return false;
        }
        let may_resume = self.restored && self.may_resume(stage);
        let it = &mut self.stages[stage as usize];
        let (task, known) = (&it.tasks[index as usize], it.tasks[index as usize].executor);
        let same_life = if known == NOBODY {
            // Later ones may run alone in all slots, which nobody tells.
            let slots_are_known = slots == 0 || attempt.number == 0;
            may_resume && slots_are_known && task.is_unknown(attempt.number)
        } else {
            task.may_adopt(attempt.number) && world.executors.get(known).life == world.executors.get(executor).life
        };
        let bound = slots > 0 && (it.streams_in() || it.streams_out());
        if !same_life || bound || it.tasks[index as usize].alone {
            return false;
        }
        let task = &mut it.tasks[index as usize];
        if known == NOBODY {
            task.attempt = attempt.number;
            task.launched = world.now;
            it.attempts += 1;
        }
        task.executor = executor;
        it.set_phase(index, Phase::Running);
        self.slots_in_use += slots;
        world.executors.occupy(executor, Active { attempt, slots, stopping: false, stranger: false });
        self.dirty = true;
        true
    }

    fn forget_locations(&mut self) {
        self.stages.iter_mut().for_each(super::stage::Stage::moved);
    }

    /// Outputs that should be in an executor and are not.
    fn drop_outputs_not_held(&mut self, world: &mut World<'_>, executor: u32, held: &HashSet<AttemptId>) {
        if world.executors.get(executor).held == 0 {
            return;
        }
        for stage in 0..self.stages.len() as u32 {
            for index in 0..self.stages[stage as usize].tasks.len() as u32 {
                let task = &self.stages[stage as usize].tasks[index as usize];
                if task.phase == Phase::Sealed && task.executor == executor && !held.contains(&self.attempt_id(stage, index)) {
                    self.lose_output(world, stage, index);
                }
            }
        }
    }
}
