//! A cluster inside this process: one scheduler and some executors, on free ports of the loopback interface.
//!
//! It is the same scheduler and the same executors as on many machines. State lives in memory, what spills in a temporary
//! directory that is removed at the end.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use volley_executor::{Components as ExecutorComponents, Executor, ExecutorHandle};
use volley_proto::wire::client::v1::ExecutorState;
use volley_scheduler::config::directory_url;
use volley_scheduler::{Components as SchedulerComponents, Scheduler, SchedulerHandle, StateLocation};
use volley_sql::extension::Extensions;
use volley_sql::options::Results;

use crate::error::{ClientError, Result};
use crate::flight::FlightClient;

/// Share of the memory limit that an embedded cluster uses where no size is given, in per cent.
const MEMORY_PERCENT: u64 = 70;
/// How long executors may take to register.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What an embedded cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedOptions {
    /// Number of executors; 1 where not given.
    pub executors: Option<NonZeroUsize>,
    /// Compute threads of each executor; the cores, shared evenly, where not given.
    pub slots: Option<NonZeroUsize>,
    /// Bytes of memory of each executor; 70 % of the machine's, shared evenly, where not given.
    pub memory_bytes: Option<usize>,
    /// A program's own functions, tables and operators.
    pub extensions: Extensions,
    /// Directory that keeps tables, also after the cluster has ended; they end with it where none is given.
    pub state_dir: Option<PathBuf>,
}

/// A size for each executor, with nothing left to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    executors: usize,
    slots: NonZeroUsize,
    memory_bytes: usize,
}

/// A running embedded cluster. [`EmbeddedCluster::shutdown`] ends it in order; dropping it kills it.
#[derive(Debug)]
pub struct EmbeddedCluster {
    // In the order in which they must go: executors first, the directory that they work in last.
    executors: Vec<ExecutorHandle>,
    scheduler: SchedulerHandle,
    url: String,
    sizes: Sizes,
    work_dir: TempDir,
}

impl EmbeddedCluster {
    /// Starts a scheduler and executors; all have registered when this returns.
    pub async fn start(options: &EmbeddedOptions) -> Result<Self> {
        let sizes = sizes(options)?;
        let failed = |what: &str, error: &dyn fmt::Display| ClientError::Cluster(format!("can't start {what}: {error}"));
        let work_dir = TempDir::with_prefix("volley-").map_err(|error| failed("the cluster: no temporary directory", &error))?;
        // No executor can be lost apart from the client, so rows need not wait until their task is sealed.
        let (state, tables) = match &options.state_dir {
            Some(place) => (StateLocation::Directory(place.clone()), place.as_path()),
            None => (StateLocation::Memory, work_dir.path()),
        };
        let warehouse = Some(directory_url(&tables.join("warehouse")).map_err(|error| failed("the cluster", &error))?);
        let extensions = options.extensions.clone();
        let components = SchedulerComponents { extensions: extensions.clone(), ..Default::default() };
        let config = volley_scheduler::Config { results: Results::Eager, state, warehouse, ..volley_scheduler::Config::embedded() };
        let scheduler = Scheduler::start(config, components).await.map_err(|error| failed("the scheduler", &error))?;
        let url = format!("http://{}", scheduler.address());
        let mut cluster = Self { executors: Vec::new(), scheduler, url, sizes, work_dir };
        for _ in 0..sizes.executors {
            let config = volley_executor::Config::local(&cluster.url, sizes.slots, sizes.memory_bytes, cluster.work_dir.path());
            let executor = Executor::start(config, ExecutorComponents { extensions: extensions.clone() });
            cluster.executors.push(executor.await.map_err(|error| failed("an executor", &error))?);
        }
        cluster.registered().await?;
        Ok(cluster)
    }

    /// Where its scheduler answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its executors' number of slots, all together.
    pub fn slots(&self) -> usize {
        self.sizes.executors * self.sizes.slots.get()
    }

    /// Where its executors keep what does not fit in memory.
    pub fn work_dir(&self) -> &Path {
        self.work_dir.path()
    }

    /// Ends executors and scheduler and removes what they left.
    pub async fn shutdown(self) -> Result<()> {
        let Self { executors, scheduler, work_dir, .. } = self;
        let failed = |what: &str, error: &dyn fmt::Display| ClientError::Cluster(format!("can't stop {what}: {error}"));
        let executors = futures::future::join_all(executors.into_iter().map(ExecutorHandle::shutdown)).await;
        let scheduler = scheduler.shutdown().await;
        let removed = work_dir.close();
        executors.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| failed("an executor", &error))?;
        scheduler.map_err(|error| failed("the scheduler", &error))?;
        removed.map_err(|error| failed("the cluster: its temporary directory can't be removed", &error))
    }

    /// Waits until the scheduler knows every executor: a job must not start on a part of the cluster.
    async fn registered(&self) -> Result<()> {
        let client = FlightClient::connect(&self.url).await?;
        let mut pause = Duration::from_micros(200);
        let all = async {
            let live = async || {
                let executors = client.executors().await?;
                Ok::<_, ClientError>(executors.iter().filter(|executor| executor.state() == ExecutorState::Live).count())
            };
            while live().await? < self.sizes.executors {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Ok(())
        };
        let late = |_| ClientError::Cluster(format!("can't start the cluster: executors did not register within {START_TIMEOUT:?}"));
        tokio::time::timeout(START_TIMEOUT, all).await.map_err(late)?
    }
}

impl fmt::Display for EmbeddedCluster {
    /// What it is made of, in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { executors, slots, memory_bytes } = self.sizes;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let memory = memory_bytes as f64 / f64::from(1 << 30);
        let each = if executors == 1 { "" } else { " each" };
        write!(f, "{executors} executor{}, {slots} slot{} and {memory:.1} GiB{each}", plural(executors), plural(slots.get()))
    }
}

fn sizes(options: &EmbeddedOptions) -> Result<Sizes> {
    let executors = options.executors.unwrap_or(NonZeroUsize::MIN).get();
    let slots = match options.slots {
        Some(slots) => slots,
        None => {
            let cores = thread::available_parallelism()
                .map_err(|error| ClientError::Cluster(format!("the number of cores can't be read ({error}): give a number of slots")))?;
            NonZeroUsize::new(cores.get() / executors).unwrap_or(NonZeroUsize::MIN)
        }
    };
    let memory_bytes = match options.memory_bytes {
        Some(bytes) => bytes,
        None => {
            let limit = volley_executor::memory::memory_limit()
                .ok_or_else(|| ClientError::Cluster("the memory of this machine can't be read: give a size".into()))?;
            usize::try_from(limit / 100 * MEMORY_PERCENT).unwrap_or(usize::MAX) / executors
        }
    };
    Ok(Sizes { executors, slots, memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_memory_are_shared_evenly() {
        let cores = thread::available_parallelism().unwrap().get();
        let one = sizes(&EmbeddedOptions::default()).unwrap();
        assert_eq!((one.executors, one.slots.get()), (1, cores));
        let many = sizes(&EmbeddedOptions { executors: NonZeroUsize::new(2 * cores), ..Default::default() }).unwrap();
        assert_eq!((many.executors, many.slots.get()), (2 * cores, 1));
        assert!(many.memory_bytes * many.executors <= one.memory_bytes);
        let given =
            EmbeddedOptions { executors: NonZeroUsize::new(3), slots: NonZeroUsize::new(5), memory_bytes: Some(7), ..Default::default() };
        assert_eq!(sizes(&given).unwrap(), Sizes { executors: 3, slots: NonZeroUsize::new(5).unwrap(), memory_bytes: 7 });
    }
}
