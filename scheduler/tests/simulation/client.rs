//! Simulated planner and client: everything outside the machine that is not an executor.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use volley_proto::{AttemptId, Failure, JobId, JobOwner, PartitionStats, SessionId, Speculation, StageId, StageShape};

use super::graphs::{random_change, random_graph, random_spread};
use super::rows::{Rows, Sources, expected_rows, merge_sources, sorted};
use super::sim::{Action, Sim};
use crate::machine::{Event, ExecutorLife, JobOutcome, Launch, Replanning};

/// A plan: shapes, and which stages end early.
type Plan = (Vec<StageShape>, Vec<bool>);

/// What the planner answers when it is asked about a stage.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    proposal: Option<Plan>,
    changed: Vec<StageId>,
    plan_version: u32,
}

/// How far the client is with the rows of a root attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Showing {
    Waits,
    Partly,
}

/// One job as the world outside sees it.
#[derive(Debug, Clone)]
pub(super) struct SimJob {
    pub(super) owner: JobOwner,
    /// Whether the client reads root attempts while they run.
    eager: bool,
    first_plan: Plan,
    replanning: Replanning,
    /// Each list of stages that was taken, with the version that it brought.
    plans: Vec<(u32, Plan)>,
    /// The planner's last proposal.
    proposal: Option<Plan>,
    showing: BTreeMap<AttemptId, (Showing, ExecutorLife)>,
    /// Root tasks whose rows the client has.
    shown: BTreeSet<u32>,
    rows: Rows,
    sources: Sources,
    flaws: Vec<String>,
    /// Whether rows were taken back in vain, or the client or the planner ended it.
    pub(super) torn: bool,
    pub(super) outcome: Option<JobOutcome>,
    pub(super) closed: bool,
}

impl SimJob {
    fn plan(&self) -> &Plan {
        self.plans.last().map_or(&self.first_plan, |(_, plan)| plan)
    }

    /// The stages at the time of that version.
    pub(super) fn plan_of(&self, stage: u32, version: u32) -> Option<(&[StageShape], &[bool])> {
        let (_, plan) = self.plans.iter().rev().find(|(_, plan)| (stage as usize) < plan.0.len())?;
        debug_assert!(version <= self.plans.len() as u32);
        Some((&plan.0, &plan.1))
    }

    /// Whether some stage gives other rows the second time.
    pub(super) fn is_indeterminate(&self) -> bool {
        self.plan().0.iter().any(|shape| !shape.deterministic)
    }
}

impl Sim {
    pub(super) fn submit(&mut self, job: JobId) {
        let first_plan = random_graph(&mut self.rng);
        let mut owner = JobOwner::anonymous(SessionId::new("sim"));
        owner.weight = self.rng.within(1, 4) as u32;
        let eager = self.rng.permille(300);
        owner.speculation =
            self.rng.pick(&[Speculation::Never, Speculation::BelowRoot, if eager { Speculation::BelowRoot } else { Speculation::Always }]);
        let replanning = if self.rng.permille(300) { Replanning::OnSealed } else { Replanning::Off };
        let sim_job = SimJob {
            owner: owner.clone(),
            eager,
            first_plan,
            replanning,
            plans: Vec::new(),
            proposal: None,
            showing: BTreeMap::new(),
            shown: BTreeSet::new(),
            rows: Rows::new(),
            sources: Sources::new(),
            flaws: Vec::new(),
            torn: false,
            outcome: None,
            closed: false,
        };
        self.jobs.insert(job, sim_job);
        if self.rng.permille(60) {
            let reason = "changed my mind".to_owned();
            let event = if self.rng.permille(500) { Event::JobCancelled { job, reason } } else { Event::ResultClosed { job } };
            self.later(0, 20_000_000, Action::Tell(event));
        }
        self.tell(Event::JobSubmitted { job, owner });
    }

    pub(super) fn plan_job(&mut self, job: JobId) {
        let it = &self.jobs[&job];
        let (stages, replanning) = (it.first_plan.0.clone(), it.replanning);
        let event = if self.rng.permille(15) {
            Event::PlanFailed { job, failure: Failure::query("no such table") }
        } else {
            Event::JobPlanned { job, stages, replanning }
        };
        self.later(100, 50_000, Action::Tell(event));
    }

    pub(super) fn plan_taken(&mut self, job: JobId) {
        if let Some(it) = self.jobs.get_mut(&job) {
            let plan = it.first_plan.clone();
            it.plans.push((0, plan));
        }
    }

    /// The planner is asked about a stage: the sizes are checked, and an answer follows.
    pub(super) fn replan(&mut self, job: JobId, stage: StageId, sizes: &[PartitionStats], exact: bool, plan_version: u32) {
        if exact {
            self.check_sizes(job, stage, sizes);
        }
        let started = self.started(job);
        let it = &self.jobs[&job];
        let change = if self.plan.restarts == 0 { random_change } else { random_spread };
        let mut changed = vec![];
        let proposal = change(&mut self.rng, &it.plan().0, &started).map(|shapes| {
            let mut limits = it.plan().1.clone();
            limits.resize(shapes.len(), false);
            // A stage that was not launched may also read something else in as many tasks.
            let may_be_forgotten =
                |stage: &usize| *stage + 1 < shapes.len() && !shapes[*stage].inputs.is_empty() && shapes[*stage].tasks > 0;
            let may_change = |stage: &usize| !started[*stage] && (self.plan.restarts == 0 || may_be_forgotten(stage));
            let open: Vec<usize> = (0..started.len()).filter(may_change).collect();
            if !open.is_empty() && self.rng.permille(300) {
                changed.push(StageId(self.rng.pick(&open) as u32));
            }
            (shapes, limits)
        });
        self.later(100, 500_000, Action::Replanned(job, stage, Answer { proposal, changed, plan_version }));
    }

    pub(super) fn replanned(&mut self, job: JobId, stage: StageId, answer: Answer) {
        let Answer { proposal, changed, plan_version } = answer;
        let stages = proposal.as_ref().map(|(shapes, _)| shapes.clone());
        if let Some(it) = self.jobs.get_mut(&job) {
            it.proposal = proposal;
        }
        self.tell(Event::Replanned { job, stage, stages, changed, plan_version });
    }

    pub(super) fn plan_replaced(&mut self, job: JobId, version: u32) {
        let Some(it) = self.jobs.get_mut(&job) else { return };
        assert!(it.proposal.is_some(), "{job} took a plan that nobody made");
        let Some(plan) = it.proposal.take() else { return };
        let stages = plan.0.clone();
        it.plans.push((version, plan));
        self.note_plan(job, stages);
    }

    /// A launch brings the stages to its executor as they are now: a scheduler that is started again may not know of them.
    pub(super) fn send_plan(&mut self, launch: &Launch) {
        let attempt = launch.attempt;
        let plan = self.jobs.get(&attempt.task.job).and_then(|job| job.plan_of(attempt.task.stage.0, launch.plan_version));
        if let Some((shapes, limits)) = plan {
            let plan = Rc::new((shapes.to_vec(), limits.to_vec()));
            self.sent_plans.insert(attempt, plan);
        }
    }

    /// The scheduler was restarted, and its journal has this plan.
    pub(super) fn plan_restored(&mut self, job: JobId, stages: &[StageShape]) {
        let Some(it) = self.jobs.get_mut(&job) else { return };
        it.first_plan = (stages.to_vec(), it.plan().1.clone());
        it.plans = vec![(0, it.first_plan.clone())];
        it.proposal = None;
    }

    /// Which stages have been launched.
    fn started(&self, job: JobId) -> Vec<bool> {
        self.machine.job(job).map(|job| job.stages.iter().map(|stage| stage.attempts > 0).collect()).unwrap_or_default()
    }

    fn check_sizes(&self, job: JobId, stage: StageId, sizes: &[PartitionStats]) {
        let mut rows = vec![0; sizes.len()];
        for task in self.machine.tasks(job, stage) {
            let attempt = volley_proto::TaskId::new(job, stage, task.index).attempt(task.attempt);
            let held = |process: &&super::executors::Process| Some(&process.life) == task.executor.as_ref();
            let Some(output) = self.processes.iter().find(held).and_then(|process| process.held.get(&attempt)) else { return };
            for (sum, partition) in rows.iter_mut().zip(&output.partitions) {
                *sum += partition.len() as u64;
            }
        }
        let said: Vec<u64> = sizes.iter().map(|size| size.rows).collect();
        assert_eq!(said, rows, "sizes of {job}/{stage} are said to be exact");
    }

    /// Rows of a root task may be shown.
    pub(super) fn root_sealed(&mut self, attempt: AttemptId, holder: ExecutorLife) {
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        if !job.shown.contains(&attempt.task.index) && !job.closed && !job.showing.contains_key(&attempt) {
            job.showing.insert(attempt, (Showing::Waits, holder));
            self.later(1_000, 900_000, Action::Show(attempt));
        }
    }

    /// An attempt was launched: the client of an eager job reads it while it runs, if it is one of the root.
    pub(super) fn launched(&mut self, attempt: AttemptId, holder: &ExecutorLife) {
        let Some(job) = self.jobs.get(&attempt.task.job) else { return };
        if job.eager && attempt.task.stage.0 as usize + 1 == job.plan().0.len() {
            self.root_sealed(attempt, holder.clone());
        }
    }

    /// The client reads an attempt that the machine takes for running: it may get a row, if it runs, and waits for what comes next.
    fn show_running(&mut self, attempt: AttemptId, showing: Showing, executor: ExecutorLife) {
        let process = self.processes.iter().find(|process| process.life == executor && process.alive);
        let produces =
            process.is_some_and(|it| it.held.contains_key(&attempt) || it.running.get(&attempt).is_some_and(|run| !run.cancelled));
        let showing = if produces && self.rng.permille(400) { Showing::Partly } else { showing };
        if let Some(job) = self.jobs.get_mut(&attempt.task.job) {
            job.showing.insert(attempt, (showing, executor));
        }
        self.later(1_000, 900_000, Action::Show(attempt));
    }

    /// Rows of a root task may not be shown any more.
    pub(super) fn root_retracted(&mut self, attempt: AttemptId) {
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        if let Some((Showing::Partly, executor)) = job.showing.remove(&attempt) {
            job.torn = true;
            self.later(100, 10_000, Action::Tell(Event::ResultFetchFailed { attempt, executor, partly_shown: true }));
        }
    }

    /// The client gets the first or the last row of a root task.
    pub(super) fn show(&mut self, attempt: AttemptId) {
        let Some(job) = self.jobs.get(&attempt.task.job) else { return };
        let Some((showing, executor)) = job.showing.get(&attempt).cloned() else { return };
        if self.is_current(attempt) {
            return self.show_running(attempt, showing, executor);
        }
        let holder = self.processes.iter().find(|process| process.life == executor && process.alive);
        let Some(job) = self.jobs.get_mut(&attempt.task.job) else { return };
        let output = holder.filter(|process| !process.damaged.contains(&attempt)).and_then(|process| process.held.get(&attempt)).cloned();
        let Some(output) = output else {
            job.showing.remove(&attempt);
            let partly_shown = showing == Showing::Partly;
            job.torn |= partly_shown;
            return self.later(100, 100_000, Action::Tell(Event::ResultFetchFailed { attempt, executor, partly_shown }));
        };
        if showing == Showing::Waits && self.rng.permille(400) {
            job.showing.insert(attempt, (Showing::Partly, executor));
            return self.later(1_000, 900_000, Action::Show(attempt));
        }
        job.showing.remove(&attempt);
        assert!(job.shown.insert(attempt.task.index), "rows of {} are shown twice", attempt.task);
        job.rows.extend(output.partitions.iter().flatten());
        job.flaws.extend(output.flaw.clone());
        job.flaws.extend(merge_sources(&mut job.sources, &output.sources));
        self.later(100, 200_000, Action::Tell(Event::ResultDelivered { attempt }));
    }

    /// The machine says how a job ended.
    pub(super) fn job_finished(&mut self, id: JobId, outcome: JobOutcome) {
        let now = self.now;
        assert!(self.jobs.contains_key(&id), "{id} was never submitted");
        let Some(job) = self.jobs.get_mut(&id) else { return };
        assert!(job.outcome.is_none(), "the end of {id} is announced twice");
        job.outcome = Some(outcome.clone());
        if outcome == JobOutcome::Succeeded && !job.closed {
            let plan = job.plan().clone();
            let root = plan.0.len() as u32 - 1;
            assert_eq!(job.flaws, Vec::<String>::new(), "{id} has the wrong rows at {now}");
            assert_eq!(sorted(job.rows.clone()), expected_rows(&plan.0, &plan.1, root), "{id} has the wrong rows at {now}");
            assert_eq!(job.shown.len(), plan.0[root as usize].tasks as usize, "{id} ended without all root tasks");
        }
        self.check_reason(id, &outcome);
        self.count_reruns(id);
        self.later(100, 3_000_000, Action::Tell(Event::ResultClosed { job: id }));
    }

    /// The scheduler was restarted: the client asks for the rows from the first one on.
    pub(super) fn read_anew(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.outcome.is_none()) else { return };
        job.showing.clear();
        job.shown.clear();
        job.rows = Rows::new();
        job.sources = Sources::new();
        job.flaws.clear();
        job.torn = false;
    }

    /// The scheduler that was restarted has nothing to do with a job that had ended, or whose client had gone.
    pub(super) fn abandon(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.closed = true;
            job.outcome.get_or_insert(JobOutcome::Cancelled { reason: "its client went away with the scheduler".into() });
        }
    }

    fn count_reruns(&mut self, id: JobId) {
        let reruns = self.machine.job(id).map_or(0, |job| job.reruns);
        *self.tally.entry("tasks run again").or_default() += reruns;
        if matches!(&self.jobs[&id].outcome, Some(JobOutcome::Failed(failure)) if failure.message.contains("run the statement again")) {
            self.count("jobs torn");
        }
    }

    /// A job may fail only for a reason that was given.
    fn check_reason(&self, id: JobId, outcome: &JobOutcome) {
        let JobOutcome::Failed(failure) = outcome else { return };
        let message = &failure.message;
        let job = &self.jobs[&id];
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let allowed = says(&["no such table", "division by zero"])
            || (job.torn && says(&["run the statement again"]))
            || (job.is_indeterminate() && says(&["depend on it have been returned"]))
            || (self.plan.kills > 0 && says(&["executors were lost while they ran"]));
        assert!(allowed, "{id} failed for no good reason: {message}");
    }
}
