//! An executor's settings: what was typed ([`Args`]) and, once validated, what is meant ([`Config`]).

mod args;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use volley_proto::ExecutorId;

pub use args::{Args, parse_memory};
pub use volley_sql::{ParseBytesError, parse_bytes};

/// Validated settings of one executor. Plain data: clocks, registries and runtimes come through
/// [`Components`](crate::Components).
#[derive(Debug, Clone)]
pub struct Config {
    /// The executor's name in plans, logs and reports; `None` for its advertised address.
    pub id: Option<ExecutorId>,
    /// The schedulers' addresses as `http://host:port`; the first that answers is used.
    pub schedulers: Vec<String>,
    /// Where its Flight server listens; port 0 for any free port.
    pub listen: SocketAddr,
    /// `host:port` at which other executors reach it; `None` for the address it listens on.
    pub advertise: Option<String>,
    /// Compute threads.
    pub slots: NonZeroUsize,
    /// Bytes for operators, exchange outputs and network buffers together.
    pub memory_bytes: usize,
    /// Where outputs and operators spill, in a folder of their own for each start.
    pub work_dir: PathBuf,
    /// How long tasks and outputs are kept while no scheduler can be reached.
    pub orphan_grace: Duration,
    /// How long running tasks may go on after SIGTERM.
    pub drain_grace: Duration,
}

impl Config {
    /// An executor for tests and the embedded cluster: on a free port of this host.
    pub fn local(scheduler: impl Into<String>, slots: NonZeroUsize, memory_bytes: usize, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            id: None,
            schedulers: vec![scheduler.into()],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            slots,
            memory_bytes,
            work_dir: work_dir.into(),
            orphan_grace: ORPHAN_GRACE,
            // Who ends an embedded cluster has no use for what it still does.
            drain_grace: Duration::ZERO,
        }
    }
}

/// See [`Config::orphan_grace`].
const ORPHAN_GRACE: Duration = Duration::from_secs(60);
/// See [`Config::drain_grace`].
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} '{value}': {problem}")]
pub struct ConfigError {
    /// The flag's name, without the dashes.
    pub flag: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}
