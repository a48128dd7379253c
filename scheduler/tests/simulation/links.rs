//! Streams between executors and the scheduler: messages keep their order, come late, get lost with the stream, or twice.

use super::executors::Command;
use super::sim::{Action, SECOND, Sim};
use crate::machine::{Event, ExecutorLife};

/// One stream.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) process: usize,
    pub(super) life: ExecutorLife,
    /// Half-open: what is sent is lost.
    pub(super) mute_up: bool,
    pub(super) mute_down: bool,
    ended: bool,
    /// Whether the scheduler knows of it.
    pub(super) accepted: bool,
    /// When the last message arrives: messages don't overtake each other.
    last_up: u64,
    last_down: u64,
}

impl Sim {
    /// Opens a stream from a process.
    pub(super) fn open_link(&mut self, at: usize) -> u64 {
        let stream = self.links.len() as u64 + 1;
        let life = self.processes[at].life.clone();
        let link = Link { process: at, life, mute_up: false, mute_down: false, ended: false, accepted: false, last_up: 0, last_down: 0 };
        self.links.insert(stream, link);
        stream
    }

    /// The stream over which the scheduler reaches an executor.
    pub(super) fn newest_stream(&self, life: &ExecutorLife) -> Option<u64> {
        self.links.iter().rev().find(|(_, link)| link.life == *life && link.accepted).map(|(stream, _)| *stream)
    }

    /// Ends a stream; either side notices in its own time.
    pub(super) fn break_link(&mut self, stream: u64) {
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended) else { return };
        link.ended = true;
        let (up, down) = (link.last_up.max(self.now), link.last_down.max(self.now));
        let (up_delay, down_delay) = (self.rng.within(0, 200_000), self.rng.within(0, 200_000));
        self.schedule(up + up_delay, Action::EndsAtScheduler(stream));
        self.schedule(down + down_delay, Action::EndsAtExecutor(stream));
    }

    /// Sends a message to the scheduler; it may be lost with the stream, or arrive twice.
    pub(super) fn send_up(&mut self, at: usize, event: Event) {
        let Some(stream) = self.processes[at].stream else { return };
        let delay = self.rng.within(100, 30_000);
        let twice = self.rng.permille(30);
        let lost = !self.calm && self.rng.permille(4);
        let now = self.now;
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended && !link.mute_up) else { return };
        if lost {
            link.mute_up = true;
            return self.later(0, 12 * SECOND, Action::Fault);
        }
        link.last_up = link.last_up.max(now + delay);
        let arrival = link.last_up;
        if twice && matches!(event, Event::TaskReported(_)) {
            let again = arrival + self.rng.within(0, 5 * SECOND);
            self.schedule(again, Action::Up(stream, event.clone()));
        }
        self.schedule(arrival, Action::Up(stream, event));
    }

    pub(super) fn send_down(&mut self, life: &ExecutorLife, command: Command) {
        let Some(stream) = self.newest_stream(life) else { return };
        let delay = self.rng.within(100, 30_000);
        let twice =
            self.rng.permille(20) && matches!(command, Command::Launch(_) | Command::Cancel(_) | Command::Release(..) | Command::Forget(_));
        let now = self.now;
        let Some(link) = self.links.get_mut(&stream).filter(|link| !link.ended && !link.mute_down) else { return };
        link.last_down = link.last_down.max(now + delay);
        let arrival = link.last_down;
        if twice {
            self.schedule(arrival, Action::Down(stream, command.clone()));
        }
        self.schedule(arrival, Action::Down(stream, command));
    }
}
