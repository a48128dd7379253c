//! Moves what DataFusion spawns to the pool of the thread that spawns it.

use std::any::Any;
use std::sync::OnceLock;

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::future::BoxFuture;

use super::scope;

type Erased = Box<dyn Any + Send>;

/// Whether DataFusion's spawns reach the pools of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracerState {
    /// They do.
    Installed,
    /// Another tracer was there first: spawned futures run on tokio, right but off the compute threads.
    Taken,
}

static STATE: OnceLock<TracerState> = OnceLock::new();

/// Makes every future that DataFusion spawns on a pool thread run on that pool. Once for the process; calling it again
/// tells how the first call went.
pub fn install_tracer() -> TracerState {
    install(CpuTracer { inner: None })
}

/// As [`install_tracer`], with a tracer of the application's (spans, say) around each future. DataFusion has room for one
/// only, so this is how both go together.
pub fn install_tracer_around(inner: &'static dyn JoinSetTracer) -> TracerState {
    install(CpuTracer { inner: Some(inner) })
}

fn install(tracer: CpuTracer) -> TracerState {
    *STATE.get_or_init(|| match set_join_set_tracer(Box::leak(Box::new(tracer))) {
        Ok(()) => TracerState::Installed,
        Err(error) => {
            tracing::warn!(%error, "DataFusion's spawned tasks stay on the I/O runtime, off the compute threads");
            TracerState::Taken
        }
    })
}

struct CpuTracer {
    inner: Option<&'static dyn JoinSetTracer>,
}

impl JoinSetTracer for CpuTracer {
    fn trace_future(&self, future: BoxFuture<'static, Erased>) -> BoxFuture<'static, Erased> {
        let future = match self.inner {
            Some(inner) => inner.trace_future(future),
            None => future,
        };
        // The thread that spawns decides: a pool thread polling for a scope, or any other one, which is none of ours.
        match (scope::current_pool(), scope::current_scope()) {
            (Some(pool), Some(scope)) => Box::pin(pool.spawn(scope, future)),
            _ => future,
        }
    }

    fn trace_block(&self, work: Box<dyn FnOnce() -> Erased + Send>) -> Box<dyn FnOnce() -> Erased + Send> {
        // Such work waits on channels and files: it would hold a compute thread.
        match self.inner {
            Some(inner) => inner.trace_block(work),
            None => work,
        }
    }
}
