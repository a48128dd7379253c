//! The executor: runs tasks on a rayon pool, keeps their outputs in a partition store and serves them over Flight.
//!
//! ```text
//! scheduler ══ control (one stream) ══> TaskRunner ──> CpuPool (rayon; one thread a slot) ── polls ──> plan streams
//!                                          │                                                            │
//!                                          └── reports                 PartitionStore <── ExchangeSink ─┤
//! other executors ══ Flight ══> exchange ─────────────────────────────────────┘ ExchangeSource ─────────┘
//! ```
//!
//! [`Executor::start`] gives an [`ExecutorHandle`]; several executors may live in one process, each with its own pool,
//! memory, store and listener. Threads: computing happens on the pool alone, I/O on a tokio runtime alone.

pub mod compute;
pub mod config;
mod control;
mod error;
pub mod exchange;
pub mod memory;
pub mod net;
mod process;
mod server;
pub mod task;
mod work_dir;

pub use config::{Args, Config, ConfigError};
pub use error::StartError;
pub use server::{Components, Executor, ExecutorHandle};
