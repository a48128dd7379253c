//! Probes over HTTP: `/healthz` says that the process answers, `/readyz` that queries would find an executor.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::driver::Inbox;
use crate::state::{Cluster, ExecutorState};

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, inbox: Inbox, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(inbox)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(inbox: Inbox) -> Router {
    let ready = move || {
        let inbox = inbox.clone();
        async move { readiness(&inbox).await }
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
    let live: Vec<_> = cluster.executors().into_iter().filter(|executor| executor.state == ExecutorState::Live).collect();
    (live.len(), live.iter().map(|executor| executor.slots).sum())
}
