//! Keeps a stream to a scheduler open for as long as the executor lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use volley_proto::control::{Notice, Registration, Welcome};
use volley_proto::{ExecutorId, Incarnation, Term};
use volley_sql::build_id;

use super::backoff::Backoff;
use super::commands::Commands;
use super::outbox::Outbox;
use super::stream::Ended;
use crate::error::StartError;
use crate::exchange::Exchange;
use crate::memory::MemoryBudget;
use crate::net;
use crate::task::TaskRunner;

/// How long a farewell may take before the executor goes without.
const FAREWELL_GRACE: Duration = Duration::from_secs(3);

/// How long an executor that leaves waits for a scheduler that is gone: one that is started again, or takes over, needs less. It is
/// less than what container engines grant by default.
const SCHEDULER_GRACE: Duration = Duration::from_secs(8);

/// What the conversation is about.
#[derive(Debug)]
pub(crate) struct ControlParts {
    pub(crate) executor: ExecutorId,
    pub(crate) incarnation: Incarnation,
    pub(crate) address: String,
    pub(crate) slots: u32,
    pub(crate) schedulers: Vec<String>,
    pub(crate) runner: TaskRunner,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) orphan_grace: Duration,
    pub(crate) drain_grace: Duration,
    /// Cancelled by whoever wants the executor to leave.
    pub(crate) leave: CancellationToken,
}

/// The executor's side of the control stream.
#[derive(Debug)]
pub(crate) struct Control {
    parts: ControlParts,
}

/// What dials and talks.
pub(super) struct Dialler {
    pub(super) commands: Commands,
    pub(super) budget: Arc<MemoryBudget>,
    pub(super) leave: CancellationToken,
    /// Cancelled when nothing is left to do but to say so.
    pub(super) farewell: CancellationToken,
    address: String,
    slots: u32,
    /// `None` while a stream is open, else how long what runs and is held is kept.
    lost: watch::Sender<Option<Duration>>,
    /// Whether the last stream got as far as a welcome.
    welcomed: bool,
}

impl Control {
    pub(crate) fn new(parts: ControlParts) -> Self {
        Self { parts }
    }

    /// Runs until the executor has left, or a scheduler refuses it for good.
    pub(crate) async fn run(self) -> Result<(), StartError> {
        let ControlParts { executor, incarnation, address, slots, schedulers, .. } = self.parts;
        let ControlParts { runner, exchange, budget, outbox, orphan_grace, drain_grace, leave, .. } = self.parts;
        let farewell = CancellationToken::new();
        let (lost, watched) = watch::channel(Some(orphan_grace));
        let free_orphans = free_orphans(watched.clone(), runner.clone(), Arc::clone(&outbox));
        let drain = Drain { leave: leave.clone(), grace: drain_grace, lost: watched, farewell: farewell.clone() };
        let drain = drain.run(runner.clone(), Arc::clone(&outbox));
        let commands = Commands { executor, incarnation, runner, exchange, outbox, term: Term(0) };
        let mut dialler = Dialler { commands, budget, leave, farewell, address, slots, lost, welcomed: false };
        tokio::select! {
            ended = dialler.dial(&schedulers) => ended,
            never = free_orphans => match never {},
            never = drain => match never {},
        }
    }
}

impl Dialler {
    async fn dial(&mut self, schedulers: &[String]) -> Result<(), StartError> {
        let mut backoff = Backoff::default();
        for scheduler in schedulers.iter().cycle() {
            let channel = net::channel(scheduler.trim_start_matches("http://"))
                .map_err(|error| StartError::Setup { what: "the channel to the scheduler", message: format!("{scheduler}: {error}") })?;
            let give_up = give_up(self.farewell.clone(), self.lost.subscribe());
            let ended = tokio::select! {
                biased;
                ended = self.talk(channel) => ended,
                () = give_up => return Ok(()),
            };
            match ended {
                Ended::Left => return Ok(()),
                Ended::Refused { reason, retry: false } => return Err(StartError::Refused { scheduler: scheduler.clone(), reason }),
                Ended::Refused { reason, retry: true } => tracing::warn!(%scheduler, reason, "the scheduler refuses this executor for now"),
                Ended::Broken(reason) => tracing::warn!(%scheduler, reason, "no stream to the scheduler"),
            }
            if std::mem::take(&mut self.welcomed) {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.next(rand::random())) => {}
                () = self.farewell.cancelled() => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn registration(&self) -> Registration {
        Registration {
            executor: self.commands.executor.clone(),
            build_id: build_id(),
            slots: self.slots,
            memory_bytes: self.budget.total() as u64,
            address: self.address.clone(),
            running: self.commands.runner.running(),
            held: self.commands.exchange.held(),
        }
    }

    /// Marks the stream as open until the guard is dropped.
    pub(super) fn connected(&mut self, welcome: &Welcome) -> Connected {
        self.welcomed = true;
        self.lost.send_replace(None);
        Connected { lost: self.lost.clone(), grace: Duration::from_millis(welcome.orphan_timeout_ms) }
    }
}

/// While it lives, a stream is open.
pub(super) struct Connected {
    lost: watch::Sender<Option<Duration>>,
    grace: Duration,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.lost.send_replace(Some(self.grace));
    }
}

/// Ends once there is nothing left to do and nobody to say it to: at once without a stream, and with one when the farewell
/// gets stuck.
async fn give_up(farewell: CancellationToken, lost: watch::Receiver<Option<Duration>>) {
    farewell.cancelled().await;
    if lost.borrow().is_none() {
        sleep(FAREWELL_GRACE).await;
    }
}

/// Stops and frees everything whenever no scheduler was heard of for too long.
async fn free_orphans(mut lost: watch::Receiver<Option<Duration>>, runner: TaskRunner, outbox: Arc<Outbox>) -> Infallible {
    loop {
        let grace = *lost.borrow_and_update();
        let changed = lost.changed();
        let waited = match grace {
            None => changed.await,
            Some(grace) => match timeout(grace, changed).await {
                Ok(changed) => changed,
                Err(_) => {
                    if runner.forget_all() > 0 {
                        tracing::warn!(?grace, "no scheduler for too long: running tasks are stopped, outputs are freed");
                    }
                    outbox.forget_all();
                    lost.changed().await
                }
            },
        };
        if waited.is_err() {
            // The sender lives as long as this future is polled; without it nothing is left to watch.
            std::future::pending::<()>().await;
        }
    }
}

/// How an executor leaves without loss.
struct Drain {
    leave: CancellationToken,
    grace: Duration,
    lost: watch::Receiver<Option<Duration>>,
    farewell: CancellationToken,
}

impl Drain {
    /// Waits for the wish to leave, takes no new tasks, finishes those that run and serves what is held until nobody needs
    /// it or time is up; without a scheduler nobody can say so, then it goes soon.
    async fn run(mut self, runner: TaskRunner, outbox: Arc<Outbox>) -> Infallible {
        self.leave.cancelled().await;
        runner.drain();
        outbox.say(Notice::Draining);
        let in_vain = tokio::select! {
            settled = timeout(self.grace, runner.settled()) => settled.is_err(),
            () = gone_for(&mut self.lost, SCHEDULER_GRACE) => true,
        };
        if in_vain {
            runner.cancel_all();
            runner.idle().await;
        }
        self.farewell.cancel();
        std::future::pending().await
    }
}

/// Waits until there was no stream for so long.
async fn gone_for(lost: &mut watch::Receiver<Option<Duration>>, grace: Duration) {
    loop {
        let is_lost = lost.borrow_and_update().is_some();
        let changed = match is_lost {
            true => match timeout(grace, lost.changed()).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
            false => lost.changed().await,
        };
        if changed.is_err() {
            // The sender is gone with the one who dials: so is the scheduler.
            return;
        }
    }
}
