//! The tokio runtime for I/O.

use std::io;
use std::num::NonZeroUsize;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads for blocking file calls at most: they read and wait, they do not compute.
const MAX_BLOCKING_THREADS: usize = 64;

/// A multi-thread tokio runtime that does I/O alone: Flight, object stores, the control stream.
///
/// It must outlive the [`CpuPool`](super::CpuPool) that was given its handle. Multi-thread also where one worker would do:
/// DataFusion buffers ahead only in that flavour.
#[derive(Debug)]
pub struct IoRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl IoRuntime {
    /// A runtime fit for an executor of `slots` compute threads.
    pub fn new(slots: NonZeroUsize) -> io::Result<Self> {
        let workers = (slots.get() / 8).clamp(2, 8);
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("volley-io")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// What others spawn on.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        // A plain drop would wait for blocking calls, and panics inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
