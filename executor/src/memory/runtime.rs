//! DataFusion's runtime environment: one for each executor, with a pool of its own for each attempt.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnv;
use volley_sql::session::runtime_builder;

use super::attempt::AttemptPool;

/// Share of the executor's memory that cached file footers may hold.
const FOOTER_CACHE_SHARE: usize = 20;
const FOOTER_CACHE_MIN: usize = 64 << 20;
const FOOTER_CACHE_MAX: usize = 2 << 30;

/// What an executor's runtime environment is made from.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where operators spill.
    pub spill_dir: PathBuf,
    /// Bytes that operators may spill; refused with an error that names the limit when there is more.
    pub spill_limit: u64,
    /// Bytes of the executor's memory, from which caches get their share.
    pub memory: usize,
}

/// The environment that all tasks share: caches, object stores and the spill directory. Its memory pool is replaced for
/// each attempt by [`AttemptPool::environment`].
pub fn runtime_env(options: &RuntimeOptions) -> Result<Arc<RuntimeEnv>> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
        .with_max_temp_directory_size(options.spill_limit);
    let footers = (options.memory / FOOTER_CACHE_SHARE).clamp(FOOTER_CACHE_MIN, FOOTER_CACHE_MAX);
    runtime_builder().with_disk_manager_builder(disk).with_metadata_cache_limit(footers).build_arc()
}

impl AttemptPool {
    /// `shared` with this pool in place of its own: everything but memory is the executor's.
    pub fn environment(self: &Arc<Self>, shared: &RuntimeEnv) -> Arc<RuntimeEnv> {
        let mut environment = shared.clone();
        environment.memory_pool = Arc::clone(self) as _;
        Arc::new(environment)
    }
}
