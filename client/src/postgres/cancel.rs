//! Requests to cancel: they come over a connection of their own and name the one that they mean by a number and a secret.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use parking_lot::Mutex;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio::sync::oneshot;

/// The connections that can be named.
#[derive(Debug, Default)]
pub(super) struct Connections {
    known: Mutex<HashMap<(i32, i32), Arc<Interrupt>>>,
    last: AtomicI32,
    /// Whether the scheduler was seen to ask for a password.
    pub(super) are_asked: AtomicBool,
}

/// What stops the statement that a connection runs.
#[derive(Debug, Default)]
pub(super) struct Interrupt(Mutex<Option<oneshot::Sender<()>>>);

/// A connection's name, for as long as it lives.
#[derive(Debug)]
pub(super) struct Named {
    connections: Arc<Connections>,
    pub(super) pid: i32,
    pub(super) secret: i32,
    pub(super) interrupt: Arc<Interrupt>,
}

impl Connections {
    /// A name for a new connection.
    pub(super) fn name(self: &Arc<Self>) -> Named {
        let pid = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let (secret, _) = uuid::Uuid::new_v4().as_u64_pair();
        let (secret, interrupt) = ((secret >> 32) as i32, Arc::new(Interrupt::default()));
        self.known.lock().insert((pid, secret), Arc::clone(&interrupt));
        Named { connections: Arc::clone(self), pid, secret, interrupt }
    }

    /// Stops what the connection that is meant runs, if there is one and it runs something.
    pub(super) fn cancel(&self, request: &CancelRequest) {
        let SecretKey::I32(secret) = request.secret_key else { return };
        let interrupt = self.known.lock().get(&(request.pid, secret)).cloned();
        if let Some(interrupt) = interrupt {
            interrupt.fire();
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.connections.known.lock().remove(&(self.pid, self.secret));
    }
}

impl Interrupt {
    /// A statement begins; it is to stop when this is told something.
    pub(super) fn begin(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        *self.0.lock() = Some(sender);
        receiver
    }

    fn fire(&self) {
        if let Some(sender) = self.0.lock().take() {
            // One that has ended does not mind.
            let _ = sender.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_secret_cancels() {
        let connections = Arc::new(Connections::default());
        let named = connections.name();
        let mut told = named.interrupt.begin();
        connections.cancel(&CancelRequest::new(named.pid, SecretKey::I32(named.secret.wrapping_add(1))));
        assert!(told.try_recv().is_err());
        connections.cancel(&CancelRequest::new(named.pid, SecretKey::I32(named.secret)));
        assert!(told.try_recv().is_ok());
        let (pid, secret) = (named.pid, named.secret);
        drop(named);
        assert!(connections.known.lock().is_empty());
        connections.cancel(&CancelRequest::new(pid, SecretKey::I32(secret)));
    }
}
