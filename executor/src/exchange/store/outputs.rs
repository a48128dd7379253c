//! The store itself: all outputs of one life of one executor, by attempt.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::{fs, io};

use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::Notify;
use volley_proto::{AttemptId, ExecutorId, Failure, Incarnation, JobId, PartitionStats, StageId};

use super::ledger::{Ledger, StoreUsage};
use super::output::Output;
use super::{registry, write_behind};
use crate::exchange::hooks::ExchangeHooks;

/// How many forgotten jobs are remembered, so that a late reader or writer gets an answer at once.
const FORGOTTEN_JOBS: usize = 4096;

/// How a store is set up.
#[derive(Debug, Clone)]
pub(in crate::exchange) struct StoreConfig {
    /// This executor.
    pub(in crate::exchange) executor: ExecutorId,
    /// This life of it.
    pub(in crate::exchange) incarnation: Incarnation,
    /// Where spill files go: a directory of this executor's own.
    pub(in crate::exchange) work_dir: PathBuf,
    /// Bytes of chunks that may stay in memory.
    pub(in crate::exchange) budget_bytes: usize,
    /// Bytes in memory only above which chunks are written behind.
    pub(in crate::exchange) low_water_bytes: usize,
}

/// The outputs of one life of one executor.
#[derive(Debug)]
pub(in crate::exchange) struct PartitionStore {
    config: Arc<StoreConfig>,
    hooks: ExchangeHooks,
    ledger: Arc<Ledger>,
    wake_writer: Arc<Notify>,
    outputs: Mutex<Outputs>,
}

#[derive(Debug, Default)]
struct Outputs {
    slots: HashMap<AttemptId, Slot>,
    released: HashSet<(JobId, StageId)>,
    forgotten: HashSet<JobId>,
    forgotten_order: VecDeque<JobId>,
}

#[derive(Debug)]
enum Slot {
    /// Readers came first.
    Awaited(Vec<Waker>),
    Held(Arc<Output>),
    /// The attempt failed or was cancelled.
    Discarded(Failure),
}

/// What a reader finds under an attempt.
#[derive(Debug)]
pub(super) enum Found {
    Output(Arc<Output>),
    /// Nothing yet; the waker is called when there is.
    Wait,
    Gone(String),
}

impl PartitionStore {
    /// An empty store, which other stores' readers in this process find by executor and incarnation.
    ///
    /// What an earlier life left in the work directory is removed.
    pub(in crate::exchange) fn open(config: StoreConfig, hooks: ExchangeHooks) -> Result<Arc<Self>, Failure> {
        clear(&config).map_err(|e| Failure::retry(format!("can't prepare work directory '{}': {e}", config.work_dir.display())))?;
        let store = Arc::new(Self {
            ledger: Arc::new(Ledger::new(Arc::clone(&hooks.memory), config.budget_bytes)),
            config: Arc::new(config),
            wake_writer: Arc::new(Notify::new()),
            outputs: Mutex::default(),
            hooks,
        });
        registry::register(&store);
        write_behind::start(&store);
        Ok(store)
    }

    /// Opens the output of `attempt`. The rows of its last partition have the schema `summary`, where there is one.
    pub(in crate::exchange) fn create(
        &self,
        attempt: AttemptId,
        partitions: u32,
        schema: &SchemaRef,
        summary: Option<&SchemaRef>,
    ) -> Result<Arc<Output>, Failure> {
        let config = Arc::clone(&self.config);
        let output = Output::try_new(attempt, partitions, schema, summary, config, Arc::clone(&self.ledger), Arc::clone(&self.wake_writer))
            .map_err(|e| Failure::query(format!("the output of {attempt} can't be exchanged: {e}")))?;
        let output = Arc::new(output);
        let mut outputs = self.outputs.lock();
        // A stage whose outputs were freed may run again, when what was made of them was lost later.
        if outputs.forgotten.contains(&attempt.task.job) {
            return Err(Failure::cancelled(format!("the job of {attempt} has ended")));
        }
        let wakers = match outputs.slots.insert(attempt, Slot::Held(Arc::clone(&output))) {
            None => Vec::new(),
            Some(Slot::Awaited(wakers)) => wakers,
            Some(known @ (Slot::Held(_) | Slot::Discarded(_))) => {
                outputs.slots.insert(attempt, known);
                return Err(Failure::internal(format!("the output of {attempt} was opened twice")));
            }
        };
        drop(outputs);
        wakers.into_iter().for_each(Waker::wake);
        Ok(output)
    }

    /// Ends the output of `attempt`; it never changes again.
    pub(in crate::exchange) fn seal(&self, attempt: AttemptId) -> Result<Vec<PartitionStats>, Failure> {
        self.held_output(attempt)?.seal()
    }

    /// Throws an output away; its readers get `reason`.
    pub(in crate::exchange) fn discard(&self, attempt: AttemptId, reason: Failure) {
        let mut outputs = self.outputs.lock();
        if outputs.gone(attempt).is_some() {
            return;
        }
        let before = outputs.slots.insert(attempt, Slot::Discarded(reason.clone()));
        drop(outputs);
        end_slot(before, &reason);
    }

    /// Frees the outputs of a stage: its consumers have committed.
    pub(in crate::exchange) fn release(&self, job: JobId, stage: StageId) {
        let mut outputs = self.outputs.lock();
        outputs.released.insert((job, stage));
        let slots: Vec<_> = outputs.slots.extract_if(|attempt, _| attempt.task.job == job && attempt.task.stage == stage).collect();
        drop(outputs);
        self.free(slots);
    }

    /// Frees everything of a job.
    pub(in crate::exchange) fn forget(&self, job: JobId) {
        let mut outputs = self.outputs.lock();
        outputs.released.retain(|(of, _)| *of != job);
        if outputs.forgotten.insert(job) {
            outputs.forgotten_order.push_back(job);
        }
        if outputs.forgotten_order.len() > FORGOTTEN_JOBS
            && let Some(oldest) = outputs.forgotten_order.pop_front()
        {
            outputs.forgotten.remove(&oldest);
        }
        let slots: Vec<_> = outputs.slots.extract_if(|attempt, _| attempt.task.job == job).collect();
        drop(outputs);
        self.free(slots);
    }

    /// Takes outputs of a job again: a scheduler goes on with it that was away for so long that it was forgotten.
    pub(in crate::exchange) fn resume(&self, job: JobId) {
        let mut outputs = self.outputs.lock();
        if outputs.forgotten.remove(&job) {
            outputs.forgotten_order.retain(|other| *other != job);
        }
    }

    /// Sealed outputs, in order.
    pub(in crate::exchange) fn held(&self) -> Vec<AttemptId> {
        let outputs = self.outputs.lock();
        let sealed = outputs.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Held(output) if output.is_sealed()));
        let mut held: Vec<_> = sealed.map(|(attempt, _)| *attempt).collect();
        held.sort_unstable();
        held
    }

    /// Rows that `attempt` wrote so far.
    pub(in crate::exchange) fn rows_written(&self, attempt: AttemptId) -> u64 {
        self.held_output(attempt).map_or(0, |output| output.rows())
    }

    /// Bytes in the spill file of `attempt`.
    pub(in crate::exchange) fn spilled_bytes(&self, attempt: AttemptId) -> u64 {
        self.held_output(attempt).map_or(0, |output| output.spilled_bytes())
    }

    /// Drops chunks that are on disk already until `bytes` are given back to the memory, if there are that many.
    ///
    /// No file is touched, and no lock is held that anyone holds while asking for memory.
    pub(in crate::exchange) fn reclaim(&self, bytes: usize) -> usize {
        self.ledger.reclaim(bytes)
    }

    /// What is held, where.
    pub(in crate::exchange) fn usage(&self) -> StoreUsage {
        self.ledger.usage()
    }

    /// Whose outputs these are.
    pub(in crate::exchange) fn executor(&self) -> &ExecutorId {
        &self.config.executor
    }

    /// In which life.
    pub(in crate::exchange) fn incarnation(&self) -> Incarnation {
        self.config.incarnation
    }

    pub(in crate::exchange) fn hooks(&self) -> &ExchangeHooks {
        &self.hooks
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn low_water_bytes(&self) -> usize {
        self.config.low_water_bytes
    }

    pub(super) fn wake_writer(&self) -> &Arc<Notify> {
        &self.wake_writer
    }

    /// The output of `attempt`, or who is woken when there is one.
    pub(super) fn find(&self, attempt: AttemptId, waker: &Waker) -> Found {
        let mut outputs = self.outputs.lock();
        if let Some(gone) = outputs.gone(attempt) {
            return Found::Gone(gone);
        }
        match outputs.slots.entry(attempt).or_insert_with(|| Slot::Awaited(Vec::new())) {
            Slot::Held(output) => Found::Output(Arc::clone(output)),
            Slot::Discarded(reason) => Found::Gone(format!("{attempt} did not finish: {reason}")),
            Slot::Awaited(wakers) => {
                if !wakers.iter().any(|known| known.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
                Found::Wait
            }
        }
    }

    /// The output with the most bytes in memory alone.
    pub(super) fn dirtiest(&self) -> Option<Arc<Output>> {
        let outputs = self.outputs.lock();
        let held = outputs.slots.values().filter_map(|slot| if let Slot::Held(output) = slot { Some(output) } else { None });
        held.filter(|output| output.dirty_bytes() > 0).max_by_key(|output| output.dirty_bytes()).cloned()
    }

    pub(in crate::exchange) fn held_output(&self, attempt: AttemptId) -> Result<Arc<Output>, Failure> {
        match self.outputs.lock().slots.get(&attempt) {
            Some(Slot::Held(output)) => Ok(Arc::clone(output)),
            Some(Slot::Discarded(reason)) => Err(reason.clone()),
            Some(Slot::Awaited(_)) | None => Err(Failure::cancelled(format!("the output of {attempt} is not held"))),
        }
    }

    fn free(&self, slots: Vec<(AttemptId, Slot)>) {
        for (attempt, slot) in slots {
            end_slot(Some(slot), &Failure::cancelled(format!("the output of {attempt} was freed")));
        }
        self.ledger.tidy();
    }
}

impl Drop for PartitionStore {
    fn drop(&mut self) {
        self.wake_writer.notify_one();
        let reason = Failure::cancelled(format!("executor {} stopped", self.config.executor));
        for (_, slot) in self.outputs.get_mut().slots.drain() {
            end_slot(Some(slot), &reason);
        }
    }
}

impl Outputs {
    /// Why there will be no such output any more.
    fn gone(&self, attempt: AttemptId) -> Option<String> {
        if self.forgotten.contains(&attempt.task.job) {
            return Some(format!("the job of {attempt} has ended"));
        }
        let released = self.released.contains(&(attempt.task.job, attempt.task.stage)) && !self.slots.contains_key(&attempt);
        released.then(|| format!("the output of {attempt} was freed after its consumers had committed"))
    }
}

/// Ends what was under an attempt: who waits or reads learns why; the file goes.
fn end_slot(slot: Option<Slot>, reason: &Failure) {
    match slot {
        Some(Slot::Held(output)) if output.is_sealed() => output.remove_file(),
        Some(Slot::Held(output)) => output.fail(reason),
        Some(Slot::Awaited(wakers)) => wakers.into_iter().for_each(Waker::wake),
        Some(Slot::Discarded(_)) | None => {}
    }
}

/// Makes the work directory, without the job directories that an earlier life left in it.
fn clear(config: &StoreConfig) -> io::Result<()> {
    fs::create_dir_all(&config.work_dir)?;
    for entry in fs::read_dir(&config.work_dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.parse::<JobId>().is_ok()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A store that may be gone.
pub(super) type WeakStore = Weak<PartitionStore>;
