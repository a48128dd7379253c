//! What the journal of an earlier scheduler tells: the jobs that a client may still ask for.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prost::Message;
use volley_proto::journal::{JobEvent, JobRecord, StageWork};
use volley_proto::wire::journal::v1 as wire;
use volley_proto::{AttemptId, ExecutorId, Incarnation, JobId, JobOwner, PartitionStats, StageShape, Term, TraceContext};

use crate::store::{StateStore, StoreError};

/// A job that was planned and had not ended.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) id: JobId,
    /// Of its first record in the journal.
    pub(crate) place: u64,
    pub(crate) submitted_ms: u64,
    pub(crate) owner: JobOwner,
    pub(crate) statement: String,
    pub(crate) trace: TraceContext,
    pub(crate) eager: bool,
    /// Of the scheduler that it was submitted to.
    pub(crate) term: Term,
    pub(crate) plan: StoredPlan,
    /// What is complete of it.
    pub(crate) sealed: Vec<SealedTask>,
}

/// A plan, as the journal has it.
#[derive(Debug, Default)]
pub(crate) struct StoredPlan {
    pub(crate) build: String,
    pub(crate) shapes: Vec<StageShape>,
    pub(crate) schema: Bytes,
    pub(crate) work: Vec<StageWork>,
}

/// The output of a task.
#[derive(Debug)]
pub(crate) struct SealedTask {
    /// Of its first record in the journal: what was said earlier has a smaller one.
    pub(crate) place: u64,
    pub(crate) attempt: AttemptId,
    pub(crate) executor: ExecutorId,
    pub(crate) incarnation: Incarnation,
    /// `host:port` of its Flight server.
    pub(crate) address: String,
    pub(crate) outputs: Vec<PartitionStats>,
}

/// The jobs that the journal in `store` tells of and that have not ended, oldest first. Records may be there twice. One that this build
/// can't read is an error, which names its place: to go on without would lose a job that somebody waits for.
pub(crate) fn unfinished(store: &dyn StateStore) -> Result<Vec<Unfinished>, StoreError> {
    let mut jobs: BTreeMap<JobId, (Unfinished, bool)> = BTreeMap::new();
    let (mut seen, mut plans) = (HashSet::new(), HashSet::new());
    for (place, bytes) in store.load(0)? {
        let read = bytes.clone();
        let record = wire::JobRecord::decode(bytes).map_err(|error| error.to_string());
        let record = record.and_then(|record| JobRecord::try_from(record).map_err(|error| error.to_string()));
        let JobRecord { job: id, at_ms, event } = record.map_err(|why| StoreError::Record { place, why })?;
        match event {
            JobEvent::Submitted { owner, statement, settings: _, trace, eager, term } => {
                let job = Unfinished {
                    id,
                    place,
                    submitted_ms: at_ms,
                    owner,
                    statement,
                    trace,
                    eager,
                    term,
                    plan: StoredPlan::default(),
                    sealed: vec![],
                };
                jobs.entry(id).or_insert((job, false));
            }
            JobEvent::Planned { stages, build, schema, work } => {
                // One that was replaced, and is there again because it was moved, does not take its place back.
                if let Some((job, is_planned)) = jobs.get_mut(&id)
                    && plans.insert(read)
                {
                    job.plan = StoredPlan { build, shapes: stages, schema, work };
                    *is_planned = true;
                }
            }
            JobEvent::TaskSealed { attempt, executor, incarnation, address, outputs } => {
                if let Some((job, _)) = jobs.get_mut(&id)
                    && seen.insert(attempt)
                {
                    job.sealed.push(SealedTask { place, attempt, executor, incarnation, address, outputs });
                }
            }
            JobEvent::Ended(_) => drop(jobs.remove(&id)),
        }
    }
    // Nobody has a ticket of a job that was not planned.
    let planned = jobs.into_values().filter(|(_, is_planned)| *is_planned);
    Ok(planned.map(|(job, _)| Unfinished { sealed: last_of_each_task(job.sealed), ..job }).collect())
}

/// An attempt that took the place of another says so later.
fn last_of_each_task(mut sealed: Vec<SealedTask>) -> Vec<SealedTask> {
    let mut seen = HashSet::new();
    sealed.reverse();
    sealed.retain(|task| seen.insert(task.attempt.task));
    sealed.reverse();
    sealed
}
