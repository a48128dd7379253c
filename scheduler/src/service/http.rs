//! Probes over HTTP: `/healthz` says that the process answers, `/readyz` that queries would find an executor.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::driver::Inbox;
use crate::state::Cluster;

/// Serves until `stop`. There is no inbox while the scheduler stands by.
pub(crate) async fn serve(listener: TcpListener, inbox: watch::Receiver<Option<Inbox>>, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(inbox)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(inbox: watch::Receiver<Option<Inbox>>) -> Router {
    let ready = move || {
        let inbox = inbox.borrow().clone();
        async move {
            match inbox {
                Some(inbox) => readiness(&inbox).await,
                None => (StatusCode::SERVICE_UNAVAILABLE, "standing by: another scheduler leads\n".into()),
            }
        }
    };
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

async fn readiness(inbox: &Inbox) -> (StatusCode, String) {
    match inbox.ask(live_slots).await {
        Ok((0, _)) => (StatusCode::SERVICE_UNAVAILABLE, "no executor is connected\n".into()),
        Ok((executors, slots)) => (StatusCode::OK, format!("ready: {executors} executors, {slots} slots\n")),
        Err(closed) => (StatusCode::SERVICE_UNAVAILABLE, format!("{closed}\n")),
    }
}

fn live_slots(cluster: &Cluster) -> (usize, u32) {
    let live: Vec<_> = cluster.executors().into_iter().filter(|executor| executor.state.takes_tasks()).collect();
    (live.len(), live.iter().map(|executor| executor.slots).sum())
}
