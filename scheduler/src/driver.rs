//! The loop that owns the machine: events come in through one inbox, effects go out through [`Performer`].
//!
//! Nothing polls: the loop sleeps until an event comes or the machine's next deadline. A tick is sent only when the inbox is
//! empty, so that a heartbeat that was already received is never overlooked.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::perform::Performer;
use crate::state::{Cluster, Event, Timestamp};

/// Messages taken from the inbox before effects of the next wake-up are looked at.
const BATCH: usize = 256;

type Question = Box<dyn FnOnce(&Cluster) + Send>;

enum Message {
    Event(Event),
    Question(Question),
}

/// The way to the machine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    messages: mpsc::UnboundedSender<Message>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("closed", &self.messages.is_closed()).finish()
    }
}

/// The other end of an [`Inbox`].
pub(crate) struct Mailbox {
    messages: mpsc::UnboundedReceiver<Message>,
}

/// The scheduler shuts down: the machine answers no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler shuts down")]
pub(crate) struct Closed;

/// An inbox and its other end.
pub(crate) fn inbox() -> (Inbox, Mailbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Inbox { messages: sender }, Mailbox { messages: receiver })
}

impl Inbox {
    /// Tells the machine what happened. After a shutdown there is nobody to tell.
    pub(crate) fn send(&self, event: Event) {
        // A closed inbox means that the driver has ended with the process's work: nothing depends on the event any more.
        let _ = self.messages.send(Message::Event(event));
    }

    /// Asks the machine something.
    pub(crate) async fn ask<T, F>(&self, question: F) -> Result<T, Closed>
    where
        T: Send + 'static,
        F: FnOnce(&Cluster) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |cluster: &Cluster| {
            // Who asked may have gone away meanwhile.
            let _ = reply.send(question(cluster));
        });
        self.messages.send(Message::Question(question)).map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }
}

/// Runs the loop until `stop`.
pub(crate) async fn drive(mut cluster: Cluster, mut mailbox: Mailbox, performer: Performer, stop: CancellationToken) {
    let clock = Clock { start: Instant::now() };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let deadline = cluster.next_deadline().map(|deadline| clock.instant(deadline));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = mailbox.messages.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    return;
                }
            }
            () = sleep_until(deadline) => batch.push(Message::Event(Event::Tick)),
        }
        for message in batch.drain(..) {
            match message {
                Message::Event(event) => take(&mut cluster, clock.now(), event, &performer),
                Message::Question(question) => question(&cluster),
            }
        }
    }
}

fn take(cluster: &mut Cluster, now: Timestamp, event: Event, performer: &Performer) {
    tracing::trace!(?now, ?event, "event");
    performer.observe(&event);
    let sealing = performer.journal.sealing(&event, &performer.jobs);
    let effects = cluster.step(now, event);
    if let Some(sealing) = sealing {
        performer.journal.sealed(sealing, cluster);
    }
    for effect in effects {
        tracing::trace!(?effect, "effect");
        performer.perform(cluster, effect);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The machine's time: microseconds since the loop began.
struct Clock {
    start: Instant,
}

impl Clock {
    fn now(&self) -> Timestamp {
        Timestamp(self.start.elapsed().as_micros() as u64)
    }

    fn instant(&self, time: Timestamp) -> Instant {
        // Rounded up: a tick that comes before its deadline would only make the loop turn once more.
        self.start + Duration::from_micros(time.0 + 1)
    }
}
