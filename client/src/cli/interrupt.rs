//! The signals that end a statement or the program: Ctrl-C, and SIGTERM where there is one.

use std::io;

use tokio::signal;

/// Ends with the first Ctrl-C or SIGTERM after it was called.
pub(crate) async fn interrupted() {
    if let Err(error) = wait().await {
        tracing::warn!(%error, "signals can't be waited for");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn wait() -> io::Result<()> {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn wait() -> io::Result<()> {
    signal::ctrl_c().await
}
