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

use super::cluster::{Cluster, TRIES_PER_STAGE, Timer};
use super::effect::{Effect, Launch};
use super::event::Timestamp;
use super::executors::Active;
use super::job::{Job, Progress, World};
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
    /// Rows that it has written, as far as known.
    rows: u64,
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

    /// Gives slots that nobody wants to second attempts, one for each job, and takes them back where a job has none at all.
    pub(super) fn race_stragglers(&mut self) {
        self.stragglers_due = None;
        if self.executors.most_free() == 0 && self.contenders.iter().any(|(_, share)| share.slots == 0) {
            for id in self.working.clone() {
                self.with_job(id, Job::stop_rivals);
            }
        } else if self.contenders.is_empty() {
            // Whoever wants slots gets them before.
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
            let slow = self.stragglers(world, stage).into_iter();
            if let Some((index, executor, slots)) = slow.take(TRIES_PER_STAGE).find_map(|index| self.place_beside(world, stage, index)) {
                self.race(world, stage, index, executor, slots);
                return;
            }
        }
    }

    /// An executor with free slots for a second attempt: neither that of the first nor the one where the task failed.
    fn place_beside(&self, world: &World<'_>, stage: u32, index: u32) -> Option<(u32, u32, u32)> {
        let it = &self.stages[stage as usize];
        let task = &it.tasks[index as usize];
        world.executors.by_free_slots().find_map(|(executor, free)| {
            let slots = it.shape.slots_per_task.min(world.executors.get(executor).slots).max(1);
            let suits = executor != task.executor && executor != task.avoid && free >= slots;
            suits.then_some((index, executor, slots))
        })
    }

    fn may_race_in(&self, stage: u32) -> bool {
        let it = &self.stages[stage as usize];
        let is_free = stage != self.root() || self.owner.speculation == Speculation::Always;
        let in_order = it.wanted && it.waiting == 0 && it.running > 0 && !it.streams_in() && !it.streams_out();
        let readable = |input: &volley_proto::StageInput| self.stages[input.producer.0 as usize].is_readable(Edge::Sealed);
        is_free && in_order && it.sealed * 2 >= it.tasks.len() as u32 && it.shape.inputs.iter().all(readable)
    }

    /// The tasks of a stage whose attempts are slow, the longest first.
    fn stragglers(&self, world: &World<'_>, stage: u32) -> Vec<u32> {
        let it = &self.stages[stage as usize];
        let Some(pace) = it.pace.middle() else {
            return vec![];
        };
        let is_slow = |index: u32, task: &Task| {
            let free = task.phase == Phase::Running && !task.alone && task.rivals < MOST_RIVALS;
            free && !self.rivals.contains_key(&(stage, index)) && is_slow(task, pace, world.now, world.settings)
        };
        let mut slow: Vec<_> = (0..).zip(&it.tasks).filter(|(index, task)| is_slow(*index, task)).collect();
        slow.sort_unstable_by_key(|(index, task)| (task.launched, *index));
        slow.into_iter().map(|(index, _)| index).collect()
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
        task.beside += 1;
        self.rivals.insert((stage, index), Rival { number, executor, launched: world.now, rows: 0 });
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
            TaskOutcome::Running { rows } => {
                if let Some(rival) = self.rivals.get_mut(&(stage, index)) {
                    rival.rows = rival.rows.max(*rows);
                }
            }
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
        task.beside = task.next - rival.number - 1;
        task.discarded = false;
        task.rows = rival.rows;
    }

    fn stop_rivals(&mut self, world: &mut World<'_>) {
        for (stage, index) in self.rivals.keys().copied().collect::<Vec<_>>() {
            self.stop_rival(world, stage, index);
        }
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

/// Whether an attempt takes longer than tasks of its stage do, and not for the rows that it has. Where rows come at the end alone, as those of an
/// aggregate do, time has to tell by itself, and more of it: it may have more to read.
fn is_slow(task: &Task, (micros, rate): (u64, u64), now: Timestamp, settings: &Settings) -> bool {
    let factor = u64::from(settings.straggler_factor);
    let elapsed = now.micros_since(task.launched);
    let least = if rate > 0 && task.rows > 0 { factor } else { factor + 1 };
    let is_late = elapsed >= settings.straggler_after_ms.saturating_mul(1000).max(micros.saturating_mul(least));
    let has_pace = rate > 0 && task.rows.saturating_mul(1_000_000 * factor) >= rate.saturating_mul(elapsed);
    is_late && !has_pace
}

#[cfg(test)]
mod tests {
    use super::super::pace::Pace;
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
        for (seconds, rows, slow) in
            [(8, 0, false), (9, 0, true), (5, 1, false), (6, 250, true), (6, 300, false), (60, 6_000, false), (60, 100, true)]
        {
            let (task, now) = running(seconds, rows);
            assert_eq!(is_slow(&task, middle, now, &settings), slow, "{seconds} s, {rows} rows");
        }
        // Where nobody writes rows before the end, time alone tells.
        assert!(is_slow(&running(9, 7).0, (3_000_000, 0), running(9, 7).1, &settings));
    }
}
