//! How a scheduler goes on with the jobs of an earlier one: clients ask for them with the tickets that they have, executors come back with
//! what they hold, and what is complete is not run again.
//!
//! Only queries whose client has a ticket are resumed. The client of a write learnt that its scheduler is gone; nothing of that write is
//! published, unless it was decided, and then it is completed ([`crate::commits`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use volley_proto::{Failure, JobId, Term};
use volley_sql::build_id;

use crate::jobs::{Job, JobBook, NewJob, PlannedJob};
use crate::journal::{SealedTask, StoredPlan, Unfinished, unfinished};
use crate::results::{Results, Source};
use crate::state::{Cluster, Event, ExecutorLife, JobOutcome, NUMBERS, Replanning, Timestamp};
use crate::store::{StateStore, StoreError, blocking};

/// What an earlier scheduler left.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    jobs: Vec<ResumedJob>,
}

#[derive(Debug)]
struct ResumedJob {
    job: Arc<Job>,
    /// Of its first record in the journal.
    place: u64,
    /// How to run it, or why it can't be run.
    plan: Result<Arc<PlannedJob>, Failure>,
    /// Numbers of attempts below this one may have been given.
    numbers: u32,
    sealed: Vec<SealedTask>,
}

impl Resumed {
    /// Reads the journal, and puts its jobs into the book.
    pub(crate) async fn load(store: &Arc<dyn StateStore>, book: &JobBook) -> Result<Self, StoreError> {
        let found = blocking(store, unfinished).await?;
        let jobs: Vec<_> = found.into_iter().map(|found| ResumedJob::new(found, store.term())).collect();
        for ResumedJob { job, plan, .. } in &jobs {
            match plan {
                Ok(planned) => tracing::info!(job = %job.id, stages = planned.stages.len(), "a job of before the restart is resumed"),
                Err(failure) => tracing::error!(job = %job.id, %failure, "a job of before the restart can't be resumed"),
            }
            book.add(Arc::clone(job));
        }
        Ok(Self { jobs })
    }

    /// The places in the journal from which on jobs need it.
    pub(crate) fn places(&self) -> BTreeMap<JobId, u64> {
        self.jobs.iter().map(|resumed| (resumed.job.id, resumed.place)).collect()
    }

    /// Tells the machine what is known of the jobs, and results that clients may ask for them. The machine's effects are those of a life
    /// that is over; what is to be done now follows from [`Event::Restored`], which is to be its next event.
    pub(crate) fn restore(self, machine: &mut Cluster, results: &Arc<Results>) {
        let mut tell = |event| drop(machine.step(Timestamp(0), event));
        let mut sealed = vec![];
        for resumed in self.jobs {
            results.add(resumed.job.id, Source::Job(Arc::clone(&resumed.job)));
            match resumed.plan {
                Ok(planned) => {
                    begun(&resumed.job, &planned, resumed.numbers).into_iter().for_each(&mut tell);
                    sealed.extend(resumed.sealed);
                }
                // The client that asks is told why.
                Err(failure) => resumed.job.ended_with(JobOutcome::Failed(failure)),
            }
        }
        in_order(sealed).for_each(tell);
    }

    /// The jobs that can't be resumed, of which the journal need say no more.
    pub(crate) fn given_up(&self) -> Vec<(JobId, Failure)> {
        self.jobs.iter().filter_map(|resumed| Some((resumed.job.id, resumed.plan.as_ref().err()?.clone()))).collect()
    }
}

impl ResumedJob {
    fn new(found: Unfinished, now: Term) -> Self {
        let Unfinished { id, place, submitted_ms, mut owner, statement, trace, eager, term, plan, sealed } = found;
        let restarts = u32::try_from(now.0.saturating_sub(term.0)).unwrap_or(u32::MAX);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        // The limit is on the time since the submission; 0 would be no limit.
        owner.timeout_ms = owner.timeout_ms.map(|limit| limit.saturating_sub(now_ms.saturating_sub(submitted_ms)).max(1));
        let job = Arc::new(Job::new(id, NewJob { statement, owner, trace, eager, lasting: true }, submitted_ms));
        let plan = planned(plan);
        if let Ok(planned) = &plan {
            job.set_planned(Arc::clone(planned));
            job.running();
        }
        Self { job, place, plan, numbers: restarts.saturating_mul(NUMBERS), sealed }
    }
}

fn planned(plan: StoredPlan) -> Result<Arc<PlannedJob>, Failure> {
    let StoredPlan { build, shapes, schema, work } = plan;
    let ours = build_id();
    if build != ours {
        return Err(Failure::retry(format!(
            "the scheduler was restarted with build {ours}, which can't go on with what build {build} began: run the statement again"
        )));
    }
    if shapes.len() != work.len() || shapes.is_empty() {
        return Err(Failure::internal(format!("the journal has {} of {} stages", work.len(), shapes.len())));
    }
    let planned = PlannedJob::from_event(shapes, schema, work);
    planned.map(Arc::new).map_err(|error| Failure::internal(format!("the journal's plan can't be read: {error}")))
}

/// How a job began, as far as the machine needs it.
fn begun(job: &Job, planned: &PlannedJob, numbers: u32) -> [Event; 3] {
    [
        Event::JobSubmitted { job: job.id, owner: job.new.owner.clone() },
        Event::JobPlanned { job: job.id, stages: planned.shapes(), replanning: Replanning::Off },
        Event::NumbersGiven { job: job.id, below: numbers },
    ]
}

/// What is complete of all jobs, as it was told: of two lives of an executor the machine takes the one that it hears of last for the one
/// that may come back, whichever job it worked for.
fn in_order(mut sealed: Vec<SealedTask>) -> impl Iterator<Item = Event> {
    sealed.sort_by_key(|task| task.place);
    sealed.into_iter().map(|task| Event::OutputRestored {
        attempt: task.attempt,
        executor: ExecutorLife::new(task.executor, task.incarnation),
        address: task.address.into(),
        outputs: task.outputs,
    })
}

#[cfg(test)]
mod tests {
    use volley_proto::{AttemptId, ExecutorId, Incarnation, Remedy, StageId, TaskId};

    use super::*;
    use crate::state::{Effect, ExecutorHello, Settings};

    /// One job heard of the second life of an executor alone, and a later one of the first life alone.
    #[test]
    fn the_last_life_of_an_executor_comes_back_whatever_job_it_worked_for() {
        let attempt = |job| -> AttemptId { TaskId::new(JobId(job), StageId(0), 0).attempt(0) };
        let sealed = |place, job, life| SealedTask {
            place,
            attempt: attempt(job),
            executor: ExecutorId::new("e1"),
            incarnation: Incarnation(life),
            address: "e1:1".into(),
            outputs: vec![],
        };
        let mut machine = Cluster::new(Settings::default());
        for event in in_order(vec![sealed(9, 1, 2), sealed(5, 2, 1)]).chain([Event::Restored]) {
            drop(machine.step(Timestamp(0), event));
        }
        let hello = ExecutorHello {
            life: ExecutorLife::new(ExecutorId::new("e1"), Incarnation(2)),
            stream: 1,
            slots: 1,
            memory_bytes: 1 << 30,
            address: "e1:1".into(),
            build: build_id().into(),
            running: vec![],
            held: vec![],
        };
        let effects = machine.step(Timestamp(1), Event::ExecutorJoined(hello));
        let is_welcome = |effect: &Effect| matches!(effect, Effect::Welcome { executor, .. } if executor.incarnation == Incarnation(2));
        assert!(effects.iter().any(is_welcome), "{effects:?}");
    }

    #[test]
    fn a_plan_of_another_build_is_not_run() {
        let failure = planned(StoredPlan { build: "0.0.1 old".into(), ..StoredPlan::default() }).unwrap_err();
        assert_eq!(failure.remedy, Remedy::Retry);
        assert!(failure.message.contains("build 0.0.1 old") && failure.message.ends_with("run the statement again"), "{failure}");
    }
}
