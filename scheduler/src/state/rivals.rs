//! Stragglers: beside an attempt that is slow for its stage a second one runs, and the first to be sealed counts.
//!
//! ```text
//!   the task's attempt ──▶ sealed first: its rival is stopped
//!                      └─▶ failed, or its executor is lost: the rival takes its place
//!   the rival          ──▶ sealed first: takes its place, and the other one is stopped
//!                      └─▶ failed, or its executor is lost: forgotten
//! ```
//!
//! A rival gets slots that nobody else wants, on another executor. Its stage has nothing left to launch, and neither it nor its readers
//! stream: whoever reads a task reads the attempt that was sealed. What is slow is told by what is known of the stage's sealed tasks: an attempt
//! that writes rows about as fast as theirs did has more to do than they had, and a second one would have as much.

use volley_proto::{AttemptId, Edge, Failure, Remedy, Speculation, TaskOutcome};

use super::cluster::{Cluster, Timer};
use super::effect::{Effect, Launch};
use super::event::Timestamp;
use super::executors::Active;
use super::job::{Job, Progress, World};
use super::placement::{self, Offer, Wish};
use super::settings::Settings;
use super::stage::Stage;
use super::task::{Phase, Task};

/// How often stragglers are looked for, in milliseconds.
const LOOK_EVERY_MS: u64 = 500;

/// Second attempts that a task gets.
const MOST_RIVALS: u16 = 2;

/// An attempt beside the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rival {
    /// Its number.
    pub(super) number: u32,
    /// Its executor.
    pub(super) executor: u32,
    /// When it was launched.
    launched: Timestamp,
}

/// How long sealed tasks of a stage took, and how many rows they wrote: the last ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pace {
    /// Microseconds and rows.
    last: Vec<(u64, u64)>,
    next: usize,
}

impl Pace {
    /// Tasks that are kept.
    const KEPT: usize = 64;

    /// A task was sealed after `micros` with `rows`.
    pub(super) fn note(&mut self, micros: u64, rows: u64) {
        match self.last.get_mut(self.next) {
            Some(place) => *place = (micros, rows),
            None => self.last.push((micros, rows)),
        }
        self.next = (self.next + 1) % Self::KEPT;
    }

    /// The time that tasks take in the middle, in microseconds, and the rows of one second; `None` where none is known.
    fn middle(&self) -> Option<(u64, u64)> {
        let middle = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        let micros = middle(self.last.iter().map(|(micros, _)| *micros).collect())?;
        let rates = self.last.iter().map(|(micros, rows)| rows.saturating_mul(1_000_000) / (*micros).max(1));
        Some((micros, middle(rates.collect())?))
    }
}

impl Cluster {
    /// Looks for stragglers again in a while, as long as there is work.
    pub(super) fn watch_stragglers(&mut self) {
        let is_wanted = self.settings.straggler_factor > 0 && self.working.iter().any(|id| self.jobs.get(id).is_some_and(Job::may_race));
        if is_wanted && self.stragglers_due.is_none() {
            let due = self.now.after_millis(LOOK_EVERY_MS);
            self.timers.insert((due, Timer::Stragglers));
            self.stragglers_due = Some(due);
        }
    }

    /// Gives slots that nobody wants to second attempts, one for each job.
    pub(super) fn race_stragglers(&mut self) {
        self.stragglers_due = None;
        // Whoever wants slots gets them before.
        if self.contenders.is_empty() {
            for id in self.working.clone() {
                if self.executors.most_free() == 0 {
                    break;
                }
                self.with_job(id, |job, world| job.race_straggler(world));
            }
        }
        self.watch_stragglers();
    }
}

impl Job {
    /// Whether a second attempt may run beside one of its tasks'.
    fn may_race(&self) -> bool {
        self.progress == Progress::Running && self.owner.speculation != Speculation::Never
    }

    /// Launches a second attempt beside the one that is late the most.
    fn race_straggler(&mut self, world: &mut World<'_>) {
        if !self.may_race() {
            return;
        }
        for stage in 0..self.stages.len() as u32 {
            if !self.may_race_in(stage) || !self.inputs_reachable(stage, world.executors) {
                continue;
            }
            let Some(index) = self.straggler(world, stage) else { continue };
            let it = &self.stages[stage as usize];
            let first = it.tasks[index as usize].executor;
            let wish = Wish { slots: it.shape.slots_per_task, alone: false, avoid: first };
            if let Offer::Take { executor, slots } = placement::choose_executor(world.executors, wish, &[])
                && executor != first
            {
                self.race(world, stage, index, executor, slots);
                return;
            }
        }
    }

    fn may_race_in(&self, stage: u32) -> bool {
        let it = &self.stages[stage as usize];
        let is_free = stage != self.root() || self.owner.speculation == Speculation::Always;
        let in_order = it.wanted && it.waiting == 0 && it.running > 0 && !it.streams_in() && !it.streams_out();
        let readable = |input: &volley_proto::StageInput| self.stages[input.producer.0 as usize].is_readable(Edge::Sealed);
        is_free && in_order && it.sealed * 2 >= it.tasks.len() as u32 && it.shape.inputs.iter().all(readable)
    }

    /// The task of a stage whose attempt runs longest of those that are slow.
    fn straggler(&self, world: &World<'_>, stage: u32) -> Option<u32> {
        let it = &self.stages[stage as usize];
        let pace = it.pace.middle()?;
        let is_slow = |index: u32, task: &Task| {
            let free = task.phase == Phase::Running && !task.alone && task.rivals < MOST_RIVALS;
            free && !self.rivals.contains_key(&(stage, index)) && is_slow(task, pace, world.now, world.settings)
        };
        let slow = (0..).zip(&it.tasks).filter(|(index, task)| is_slow(*index, task));
        slow.min_by_key(|(index, task)| (task.launched, *index)).map(|(index, _)| index)
    }

    fn race(&mut self, world: &mut World<'_>, stage: u32, index: u32, executor: u32, slots: u32) {
        let inputs = self.input_locations(stage, world.executors);
        let it = &mut self.stages[stage as usize];
        it.attempts += 1;
        it.rivals += 1;
        let plan_version = it.version;
        let task = &mut it.tasks[index as usize];
        let number = task.next;
        task.next += 1;
        task.rivals += 1;
        self.rivals.insert((stage, index), Rival { number, executor, launched: world.now });
        self.slots_in_use += slots;
        self.touched.insert(executor);
        let attempt = self.task_id(stage, index).attempt(number);
        world.executors.occupy(executor, Active { attempt, slots, stopping: false, stranger: false });
        let place = world.executors.get(executor);
        let (life, address) = (place.life.clone(), place.address.clone());
        world.effects.push(Effect::Launch(Launch { attempt, executor: life, address, slots, plan_version, inputs }));
    }

    /// Whether an attempt runs beside the one that counts.
    pub(super) fn is_rival(&self, attempt: AttemptId) -> bool {
        let rival = self.rivals.get(&(attempt.task.stage.0, attempt.task.index));
        rival.is_some_and(|rival| rival.number == attempt.number)
    }

    /// Takes an executor's word on a rival.
    pub(super) fn absorb_rival(&mut self, world: &mut World<'_>, attempt: AttemptId, outcome: &TaskOutcome) {
        let (stage, index) = (attempt.task.stage.0, attempt.task.index);
        match outcome {
            TaskOutcome::Running { .. } => {}
            TaskOutcome::Sealed { outputs, .. } => {
                if let Some(rival) = self.rivals.remove(&(stage, index)) {
                    self.stop_attempt(world, stage, index);
                    self.take_place(stage, index, rival);
                    self.seal(world, stage, index, outputs);
                }
            }
            TaskOutcome::Failed(failure) => {
                self.rivals.remove(&(stage, index));
                self.stages[stage as usize].failures += 1;
                if failure.remedy == Remedy::Query {
                    self.fail(Failure::clone(failure));
                }
            }
            TaskOutcome::Cancelled => _ = self.rivals.remove(&(stage, index)),
        }
    }

    /// The attempt of a task is over without a result: its rival, if it has one, takes its place.
    pub(super) fn promote_rival(&mut self, stage: u32, index: u32) -> bool {
        let Some(rival) = self.rivals.remove(&(stage, index)) else {
            return false;
        };
        self.take_place(stage, index, rival);
        true
    }

    fn take_place(&mut self, stage: u32, index: u32, rival: Rival) {
        let it = &mut self.stages[stage as usize];
        it.moved();
        let task = &mut it.tasks[index as usize];
        task.attempt = rival.number;
        task.executor = rival.executor;
        task.launched = rival.launched;
        task.discarded = false;
        task.rows = 0;
    }

    /// Stops the rival of a task, if it has one.
    pub(super) fn stop_rival(&mut self, world: &mut World<'_>, stage: u32, index: u32) {
        if let Some(rival) = self.rivals.remove(&(stage, index)) {
            let attempt = self.task_id(stage, index).attempt(rival.number);
            self.tell_to_stop(world, rival.executor, attempt);
        }
    }
}

impl Stage {
    /// Notes how long the attempt of a task took that was sealed.
    pub(super) fn note_pace(&mut self, index: u32, now: Timestamp) {
        let task = &self.tasks[index as usize];
        self.pace.note(now.micros_since(task.launched), task.rows);
    }
}

/// Whether an attempt takes longer than tasks of its stage do, and not for the rows that it has.
fn is_slow(task: &Task, (micros, rate): (u64, u64), now: Timestamp, settings: &Settings) -> bool {
    let factor = u64::from(settings.straggler_factor);
    let elapsed = now.micros_since(task.launched);
    let is_late = elapsed >= settings.straggler_after_ms.saturating_mul(1000).max(micros.saturating_mul(factor));
    let has_pace = rate > 0 && task.rows.saturating_mul(1_000_000 * factor) >= rate.saturating_mul(elapsed);
    is_late && !has_pace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(seconds: u64, rows: u64) -> (Task, Timestamp) {
        (Task { phase: Phase::Running, rows, ..Task::new() }, Timestamp(seconds * 1_000_000))
    }

    #[test]
    fn late_is_slow_unless_rows_come_as_fast_as_elsewhere() {
        let settings = Settings { straggler_after_ms: 2_000, straggler_factor: 2, ..Settings::default() };
        let mut pace = Pace::default();
        assert_eq!(pace.middle(), None);
        for seconds in [3, 1, 4] {
            pace.note(seconds * 1_000_000, seconds * 100);
        }
        let middle = pace.middle().unwrap();
        assert_eq!(middle, (3_000_000, 100));
        for (seconds, rows, slow) in [(5, 0, false), (6, 0, true), (6, 250, true), (6, 300, false), (60, 6_000, false), (60, 100, true)] {
            let (task, now) = running(seconds, rows);
            assert_eq!(is_slow(&task, middle, now, &settings), slow, "{seconds} s, {rows} rows");
        }
        // Where nobody writes rows before the end, time alone tells.
        assert!(is_slow(&running(6, 7).0, (3_000_000, 0), running(6, 7).1, &settings));
    }

    #[test]
    fn the_last_tasks_count() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|number| pace.note(if number < 900 { 1 } else { 5 }, 0));
        assert_eq!((pace.last.len(), pace.middle()), (Pace::KEPT, Some((5, 0))));
    }
}
