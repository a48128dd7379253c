//! Whether anybody wants a result still.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Who reads a result, or until when it waits for somebody.
#[derive(Debug)]
pub(super) struct Attention {
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Number of the last reader.
    reader: u64,
    /// When it stops being wanted; `None` while it is read.
    until: Option<Instant>,
    /// Whether all of it was sent: nobody asks after it any more.
    sent: bool,
    closed: bool,
}

/// The right to read a result, until a later reader takes it.
#[derive(Debug)]
pub(crate) struct Claim {
    number: u64,
    state: watch::Receiver<State>,
}

impl Attention {
    pub(super) fn new(expiry: Duration) -> Self {
        Self { state: watch::Sender::new(State { reader: 0, until: Some(Instant::now() + expiry), sent: false, closed: false }) }
    }

    /// It is wanted for another `expiry` at least.
    pub(super) fn touch(&self, expiry: Duration) {
        self.state.send_if_modified(|state| {
            let wanted = !state.sent && state.until.is_some();
            if wanted {
                state.until = state.until.max(Some(Instant::now() + expiry));
            }
            wanted
        });
    }

    /// Somebody reads it from now on.
    pub(super) fn claim(&self) -> Claim {
        self.state.send_modify(|state| {
            state.reader += 1;
            state.until = None;
        });
        let state = self.state.subscribe();
        let number = state.borrow().reader;
        Claim { number, state }
    }

    /// A reader went away: it is wanted for another `grace`, unless a later reader has it.
    pub(super) fn dropped(&self, claim: &Claim, grace: Duration) {
        self.state.send_if_modified(|state| {
            let current = state.reader == claim.number && state.until.is_none();
            if current {
                state.until = Some(Instant::now() + grace);
            }
            current
        });
    }

    /// All of it was sent: it is wanted for another `linger`, however long it would have been.
    pub(super) fn all_sent(&self, linger: Duration) {
        self.state.send_modify(|state| {
            state.until = Some(Instant::now() + linger);
            state.sent = true;
        });
    }

    /// Whether no later reader has taken the result.
    pub(super) fn holds(&self, claim: &Claim) -> bool {
        self.state.borrow().reader == claim.number
    }

    /// Nobody may want it any more.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Resolves when nobody wanted it for long enough, or it was closed.
    pub(super) async fn unwanted(&self) {
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            if state.closed {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = until(state.until) => return,
            }
        }
    }
}

impl Claim {
    /// Resolves when another reader has taken the result, or it was closed.
    pub(super) async fn lost(&self) {
        let mut state = self.state.clone();
        // An error means that the result is gone, which ends the claim as well.
        let _ = state.wait_for(|state| state.reader != self.number || state.closed).await;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(60);
    const GRACE: Duration = Duration::from_secs(5);

    /// How long it is wanted from now on; `None` while it is read.
    fn wanted_for(attention: &Attention) -> Option<Duration> {
        attention.state.borrow().until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    #[tokio::test]
    async fn what_nobody_reads_expires() {
        let attention = Attention::new(Duration::ZERO);
        attention.unwanted().await;
        attention.touch(EXPIRY);
        assert!(wanted_for(&attention).unwrap() > GRACE);
    }

    #[tokio::test]
    async fn a_reader_that_went_away_may_come_back_within_the_grace() {
        let attention = Attention::new(EXPIRY);
        let first = attention.claim();
        assert_eq!(wanted_for(&attention), None);
        attention.dropped(&first, GRACE);
        assert!(wanted_for(&attention).unwrap() <= GRACE);
        let second = attention.claim();
        attention.dropped(&first, Duration::ZERO);
        assert_eq!(wanted_for(&attention), None, "the second reader still reads");
        attention.dropped(&second, Duration::ZERO);
        attention.unwanted().await;
    }

    #[tokio::test]
    async fn what_was_sent_is_not_wanted_for_longer_because_its_last_rows_are_read() {
        let attention = Attention::new(EXPIRY);
        attention.all_sent(GRACE);
        attention.touch(EXPIRY);
        assert!(wanted_for(&attention).unwrap() <= GRACE);
    }

    #[tokio::test]
    async fn a_later_reader_takes_the_result() {
        let attention = Attention::new(EXPIRY);
        let first = attention.claim();
        let second = attention.claim();
        first.lost().await;
        assert!(attention.holds(&second) && !attention.holds(&first));
        attention.close();
        second.lost().await;
        attention.unwanted().await;
    }
}
