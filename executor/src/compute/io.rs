//! The tokio runtime for I/O.

use std::io;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads for blocking file calls: two for each compute thread, within these bounds. The allocator has a heap for each thread, so that
/// what is read on many threads in turn lies in memory that is touched for the first time, over and over: with 64 threads a warm scan
/// took a sixth more CPU time.
const BLOCKING_THREADS: RangeInclusive<usize> = 4..=64;

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
        let blocking = (2 * slots.get()).clamp(*BLOCKING_THREADS.start(), *BLOCKING_THREADS.end());
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(blocking)
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
