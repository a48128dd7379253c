//! What goes wrong: processes die, stand still, drain, lose outputs; links break, fall silent or don't reach a peer; attempts
//! fail in every way.

use volley_proto::{AttemptId, Incarnation};

use super::executors::{Fate, Process};
use super::rng::mix;
use super::sim::{Action, SECOND, Sim};
use crate::machine::{Event, ExecutorLife, Launch};

impl Sim {
    /// A new process takes the place of a dead one, unless another one has.
    pub(super) fn restart(&mut self, at: usize) {
        let old = self.processes[at].clone();
        if self.processes.iter().any(|process| process.life.id == old.life.id && process.life.incarnation > old.life.incarnation) {
            return;
        }
        let life = ExecutorLife::new(old.life.id.clone(), Incarnation(old.life.incarnation.0 + 1));
        let process = Process::new(life, old.slots, old.memory_bytes);
        self.processes.push(process);
        let at = self.processes.len() - 1;
        self.dial(at);
        self.schedule(self.now + SECOND, Action::Heartbeat(at));
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        let living: Vec<usize> = (0..self.processes.len()).filter(|at| self.processes[*at].alive).collect();
        if living.is_empty() {
            return;
        }
        let at = self.rng.pick(&living);
        let back = self.rng.permille(800).then(|| self.now + self.rng.within(50_000, 20 * SECOND));
        // What came during a pause comes at its end, before all that comes later: a pause gets no shorter.
        let pause = self.processes[at].paused_until.max(self.now + self.rng.within(100_000, 15 * SECOND));
        match self.rng.within(0, 100) {
            0..30 if !self.calm => self.kill(at, back),
            30..65 => {
                if let Some(stream) = self.processes[at].stream {
                    self.break_link(stream);
                }
            }
            65..80 if !self.calm => self.mute(at),
            80..90 if !self.calm => self.processes[at].paused_until = pause,
            90..95 => {
                let held: Vec<AttemptId> = self.processes[at].held.keys().copied().collect();
                if !held.is_empty() {
                    let attempt = self.rng.pick(&held);
                    self.processes[at].damaged.insert(attempt);
                }
            }
            95..97 if !self.calm => {
                let other = self.rng.pick(&living);
                self.walls.insert((at, other), self.now + self.rng.within(100_000, 5 * SECOND));
            }
            _ if !self.calm => self.drain(at, back),
            _ => {}
        }
    }

    /// A link loses what is sent over it, and ends some time later.
    fn mute(&mut self, at: usize) {
        let (up, down) = (self.rng.permille(600), self.rng.permille(600));
        let Some(stream) = self.processes[at].stream else { return };
        if let Some(link) = self.links.get_mut(&stream) {
            link.mute_up |= up;
            link.mute_down |= down;
        }
        self.later(0, 15 * SECOND, Action::EndsAtExecutor(stream));
        self.later(0, 15 * SECOND, Action::EndsAtScheduler(stream));
    }

    fn drain(&mut self, at: usize, back: Option<u64>) {
        let executor = self.processes[at].life.clone();
        self.processes[at].draining = true;
        self.send_up(at, Event::ExecutorDraining { executor });
        if let Some(back) = back {
            self.schedule(back, Action::Restart(at));
        }
    }

    /// Faults are over: some executors are left for good, and hear and are heard.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        let mut survivors = 0;
        for at in 0..self.processes.len() {
            let newest = self.processes.iter().rposition(|process| process.life.id == self.processes[at].life.id) == Some(at);
            if self.processes[at].alive && (survivors >= self.plan.survivors || self.processes[at].draining || !newest) {
                self.kill(at, None);
            } else if self.processes[at].alive {
                survivors += 1;
                self.later(0, SECOND, Action::Dial(at));
            }
        }
        if survivors == 0 {
            let last = self.processes.len() - 1;
            self.kill(last, None);
            self.restart(last);
        }
    }

    /// What an attempt runs into. Most do well, and so does nearly everything once all is calm.
    pub(super) fn draw_fate(&mut self, launch: &Launch) -> Fate {
        let culprit =
            mix(&[launch.attempt.task.job.0, u64::from(launch.attempt.task.stage.0), u64::from(launch.attempt.task.index), 7]) % 1000;
        if culprit < self.plan.kills {
            return Fate::KillsExecutor;
        }
        let is_bad = self.plan.bad.is_some_and(|bad| launch.executor.id.as_str() == bad);
        if is_bad && launch.attempt.number == 0 && !self.calm {
            return Fate::Fails;
        }
        if !self.rng.permille(self.plan.failures) || launch.attempt.number > 3 {
            return Fate::Seals;
        }
        let is_new = launch.attempt.number == 0;
        match self.rng.within(0, 100) {
            0..50 => Fate::Fails,
            50..65 if is_new => Fate::LacksMemory,
            65..80 if is_new => Fate::Panics,
            80..83 if self.rng.permille(300) => Fate::Refuses,
            _ => Fate::GivesUp,
        }
    }
}
