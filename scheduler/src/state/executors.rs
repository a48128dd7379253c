//! Executors: who is there, in which life, and which attempts hold slots.
//!
//! Every life of an executor gets an index of its own, which tasks keep instead of a name. An index is never given to
//! another life, so what a lost executor left behind can't be mistaken for what its successor has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use volley_proto::{AttemptId, ExecutorId};

use super::denial::{Standing, Trust};
use super::event::{ExecutorHello, ExecutorLife, Timestamp};
use super::settings::Settings;

/// How the machine sees an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is heard.
    Live,
    /// It is not heard, but its stream stands as far as known.
    Silent,
    /// Its stream broke at a moment, and so many milliseconds are left to it.
    Broken(Timestamp, u64),
    /// It is gone.
    Lost,
}

/// An attempt that holds slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    /// The attempt.
    pub(super) attempt: AttemptId,
    /// Slots that it holds; 0 where it has ended and only its report is awaited.
    pub(super) slots: u32,
    /// Whether it was told to stop: its end means only that slots are free.
    pub(super) stopping: bool,
    /// Whether it was found running, and nobody knows how many slots it holds: until it has stopped, nothing new goes
    /// to its executor.
    pub(super) stranger: bool,
}

/// One life of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Executor {
    pub(super) life: ExecutorLife,
    pub(super) stream: u64,
    pub(super) slots: u32,
    pub(super) memory_bytes: u64,
    pub(super) address: Arc<str>,
    pub(super) build: Arc<str>,
    pub(super) presence: Presence,
    pub(super) draining: bool,
    /// Whether it was told that it may leave.
    pub(super) dismissed: bool,
    pub(super) last_heard: Timestamp,
    /// The timer that looks at it next.
    pub(super) timer: Option<Timestamp>,
    /// What runs in it; no more entries than slots, but for those that hold none.
    pub(super) active: Vec<Active>,
    /// Slots in use.
    pub(super) used: u32,
    /// Attempts in it of which nobody knows how many slots they hold.
    pub(super) strangers: u32,
    /// Outputs in it that can be read.
    pub(super) held: u32,
    /// How far it is trusted.
    pub(super) trust: Trust,
    /// The life before this one.
    previous: Option<u32>,
    /// Its entry in the index of free slots.
    indexed: Option<u32>,
}

impl Executor {
    /// Whether new tasks may go there.
    pub(super) fn is_placeable(&self) -> bool {
        let admits = self.trust.admits(self.active.is_empty());
        self.presence == Presence::Live && !self.draining && self.strangers == 0 && admits
    }

    /// Whether it counts as suspect.
    pub(super) fn is_suspect(&self) -> bool {
        matches!(self.presence, Presence::Silent | Presence::Broken(..))
    }

    /// Slots that nobody uses.
    pub(super) fn free(&self) -> u32 {
        self.slots.saturating_sub(self.used)
    }

    /// The moment at which its silence means more than now; `None` where it is lost.
    pub(super) fn deadline(&self, settings: &Settings) -> Option<Timestamp> {
        match self.presence {
            Presence::Live => Some(self.last_heard.after_millis(settings.suspect_after_silent_ms)),
            Presence::Silent => Some(self.last_heard.after_millis(settings.lost_after_silent_ms)),
            Presence::Broken(since, grace_ms) => Some(since.after_millis(grace_ms)),
            Presence::Lost => None,
        }
    }
}

/// All executors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Executors {
    list: Vec<Executor>,
    /// The newest life of each.
    newest: HashMap<ExecutorId, u32>,
    /// Executors that take tasks, the one with most free slots first.
    free: BTreeSet<(Reverse<u32>, u32)>,
    /// How many of these have so many slots in all.
    sizes: BTreeMap<u32, u32>,
    /// Suspect executors.
    suspects: BTreeSet<u32>,
    /// Executors that want to leave.
    draining: BTreeSet<u32>,
    /// Executors that get nothing new because too much failed there.
    denied: BTreeSet<u32>,
    /// Executors that are neither lost nor leaving.
    present: usize,
}

impl Executors {
    /// The executor with this index.
    pub(super) fn get(&self, index: u32) -> &Executor {
        &self.list[index as usize]
    }

    /// All lives, also those lost.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Executor)> {
        (0..).zip(&self.list)
    }

    /// The index of a life that is not lost.
    pub(super) fn find(&self, life: &ExecutorLife) -> Option<u32> {
        self.newest.get(&life.id).copied().filter(|&index| {
            let executor = self.get(index);
            executor.life.incarnation == life.incarnation && executor.presence != Presence::Lost
        })
    }

    /// The newest life of an executor, if that is not lost.
    pub(super) fn newest(&self, id: &ExecutorId) -> Option<u32> {
        self.newest.get(id).copied().filter(|&index| self.get(index).presence != Presence::Lost)
    }

    /// Whether this life was here and is lost.
    pub(super) fn was_lost(&self, life: &ExecutorLife) -> bool {
        let mut next = self.newest.get(&life.id).copied();
        while let Some(index) = next {
            let executor = self.get(index);
            if executor.life.incarnation == life.incarnation && executor.presence == Presence::Lost {
                return true;
            }
            next = executor.previous;
        }
        false
    }

    /// Takes in a life that is not there.
    pub(super) fn add(&mut self, hello: &ExecutorHello, now: Timestamp) -> u32 {
        let index = self.list.len() as u32;
        let previous = self.newest.insert(hello.life.id.clone(), index);
        self.list.push(Executor {
            life: hello.life.clone(),
            stream: hello.stream,
            slots: hello.slots.max(1),
            memory_bytes: hello.memory_bytes,
            address: hello.address.clone(),
            build: hello.build.clone(),
            presence: Presence::Live,
            draining: false,
            dismissed: false,
            last_heard: now,
            timer: None,
            active: Vec::new(),
            used: 0,
            strangers: 0,
            held: 0,
            trust: Trust::default(),
            previous,
            indexed: None,
        });
        self.present += 1;
        self.reindex(index);
        index
    }

    /// Changes an executor; indexes follow.
    pub(super) fn update<R>(&mut self, index: u32, change: impl FnOnce(&mut Executor) -> R) -> R {
        let executor = &mut self.list[index as usize];
        let present = executor.presence != Presence::Lost && !executor.draining;
        let result = change(executor);
        let still_present = executor.presence != Presence::Lost && !executor.draining;
        self.present = self.present + usize::from(still_present) - usize::from(present);
        if executor.is_suspect() {
            self.suspects.insert(index);
        } else {
            self.suspects.remove(&index);
        }
        if executor.presence != Presence::Lost && matches!(executor.trust.standing, Standing::Denied(_)) {
            self.denied.insert(index);
        } else {
            self.denied.remove(&index);
        }
        if executor.draining && executor.presence != Presence::Lost {
            self.draining.insert(index);
        } else {
            self.draining.remove(&index);
        }
        self.reindex(index);
        result
    }

    /// Notes a sign of life.
    pub(super) fn hear(&mut self, index: u32, now: Timestamp) {
        self.list[index as usize].last_heard = now;
        if self.list[index as usize].presence == Presence::Silent {
            self.update(index, |executor| executor.presence = Presence::Live);
        }
    }

    /// Takes everybody for heard at this moment, and gives so many microseconds more to those whose streams broke.
    pub(super) fn forgive(&mut self, now: Timestamp, micros: u64) {
        for executor in &mut self.list {
            executor.last_heard = now;
            if let Presence::Broken(since, _) = &mut executor.presence {
                since.0 += micros;
            }
        }
    }

    /// Gives slots to an attempt.
    pub(super) fn occupy(&mut self, index: u32, active: Active) {
        let executor = &mut self.list[index as usize];
        executor.used += active.slots;
        executor.strangers += u32::from(active.stranger);
        executor.active.push(active);
        self.reindex(index);
    }

    /// Takes an attempt's slots back.
    pub(super) fn vacate(&mut self, index: u32, attempt: AttemptId) -> Option<Active> {
        let executor = &mut self.list[index as usize];
        let place = executor.active.iter().position(|active| active.attempt == attempt)?;
        let active = executor.active.swap_remove(place);
        executor.used -= active.slots;
        executor.strangers -= u32::from(active.stranger);
        self.reindex(index);
        Some(active)
    }

    /// Notes that an output in it can be read, or can't any more.
    pub(super) fn hold(&mut self, index: u32, change: i32) {
        let executor = &mut self.list[index as usize];
        executor.held = executor.held.saturating_add_signed(change);
    }

    /// Executors that take tasks: index and free slots, most free slots first.
    pub(super) fn by_free_slots(&self) -> impl Iterator<Item = (u32, u32)> {
        self.free.iter().map(|(free, index)| (*index, free.0))
    }

    /// Most free slots that any executor has.
    pub(super) fn most_free(&self) -> u32 {
        self.free.first().map_or(0, |(free, _)| free.0)
    }

    /// Slots of the smallest executor that takes tasks.
    pub(super) fn smallest(&self) -> u32 {
        self.sizes.first_key_value().map_or(0, |(slots, _)| *slots)
    }

    /// How many executors take tasks.
    pub(super) fn placeable(&self) -> usize {
        self.free.len()
    }

    /// How many are neither lost nor leaving.
    pub(super) fn present(&self) -> usize {
        self.present
    }

    /// Those not heard.
    pub(super) fn suspects(&self) -> &BTreeSet<u32> {
        &self.suspects
    }

    /// Those that want to leave.
    pub(super) fn draining(&self) -> &BTreeSet<u32> {
        &self.draining
    }

    /// Those on which too much failed.
    pub(super) fn denied(&self) -> &BTreeSet<u32> {
        &self.denied
    }

    fn reindex(&mut self, index: u32) {
        let executor = &mut self.list[index as usize];
        let wanted = executor.is_placeable().then(|| executor.free());
        if executor.indexed == wanted {
            return;
        }
        let before = std::mem::replace(&mut executor.indexed, wanted);
        let slots = executor.slots;
        if let Some(free) = before {
            self.free.remove(&(Reverse(free), index));
        }
        if let Some(free) = wanted {
            self.free.insert((Reverse(free), index));
        }
        match (before, wanted) {
            (None, Some(_)) => *self.sizes.entry(slots).or_default() += 1,
            (Some(_), None) => {
                if let Some(count) = self.sizes.get_mut(&slots) {
                    *count -= 1;
                    if *count == 0 {
                        self.sizes.remove(&slots);
                    }
                }
            }
            _ => {}
        }
    }
}
