//! Reports on jobs and executors: the machine's counts, beside what tasks measured and what the plan says.

use std::cmp::Reverse;
use std::collections::HashSet;

use tonic::Status;
use volley_proto::wire::client::v1 as wire;
use volley_proto::{Edge, InputRead, JobId};

use super::service::FlightSql;
use crate::driver::Closed;
use crate::jobs::{Job, Phase, PlannedStage, StageMeasure};
use crate::service::status;
use crate::state::{ExecutorState, ExecutorSummary, JobOutcome, JobSummary, StageSummary};

impl FlightSql {
    /// The newest jobs, without their stages; 0 for all.
    pub(super) async fn job_list(&self, limit: u32) -> Result<wire::JobList, Status> {
        let most = if limit == 0 { usize::MAX } else { limit as usize };
        let mut jobs: Vec<_> = self.jobs.all().iter().map(|job| outline(job)).collect();
        let here: HashSet<_> = jobs.iter().map(|report| report.job).collect();
        let earlier = self.archive.all_earlier().filter(|report| !here.contains(&report.job));
        jobs.extend(earlier.map(|report| wire::JobReport { stages: Vec::new(), ..report.clone() }));
        jobs.sort_unstable_by_key(|report| Reverse(report.job));
        jobs.truncate(most);
        Ok(wire::JobList { jobs })
    }

    /// One job with its stages.
    pub(super) async fn job_report(&self, id: JobId) -> Result<wire::JobReport, Status> {
        let Some(job) = self.jobs.get(id) else {
            return self.archive.earlier(id).cloned().ok_or_else(|| unknown(id));
        };
        let summary = self.inbox.ask(move |cluster| cluster.job(id)).await.map_err(down)?;
        Ok(wire::JobReport { stages: stages(&job, summary.as_ref()), ..outline(&job) })
    }

    /// How a job stands.
    pub(super) fn job_state(&self, id: JobId) -> Result<wire::JobState, Status> {
        let here = self.jobs.get(id).map(|job| state(&job.phase()));
        here.or_else(|| self.archive.earlier(id).map(wire::JobReport::state)).ok_or_else(|| unknown(id))
    }

    /// The executors that are not lost.
    pub(super) async fn executor_list(&self) -> Result<wire::ExecutorList, Status> {
        let all = self.inbox.ask(|cluster| cluster.executors()).await.map_err(down)?;
        Ok(wire::ExecutorList { executors: all.into_iter().map(|executor| self.executor_report(executor)).collect() })
    }

    fn executor_report(&self, executor: ExecutorSummary) -> wire::ExecutorReport {
        let state = match executor.state {
            ExecutorState::Live => wire::ExecutorState::Live,
            ExecutorState::Suspect => wire::ExecutorState::Suspect,
            ExecutorState::Draining => wire::ExecutorState::Draining,
            ExecutorState::Denied => wire::ExecutorState::Denied,
            ExecutorState::Probation => wire::ExecutorState::Probation,
        };
        let usage = self.executors.usage(&executor.life);
        wire::ExecutorReport {
            executor: executor.life.id.to_string(),
            incarnation: executor.life.incarnation.0,
            address: executor.address.to_string(),
            build_id: executor.build.to_string(),
            state: state.into(),
            slots: executor.slots,
            busy_slots: executor.slots_in_use,
            memory_bytes: executor.memory_bytes,
            memory_used_bytes: usage.memory_used_bytes,
            store_bytes: usage.store_bytes,
            spilled_bytes: usage.spilled_bytes,
            cpu_ns: usage.cpu_ns,
            peak_resident_bytes: usage.peak_resident_bytes,
        }
    }
}

/// The report on a job that is over.
pub(crate) fn final_report(job: &Job) -> wire::JobReport {
    wire::JobReport { stages: stages(job, job.counted().as_ref()), ..outline(job) }
}

fn unknown(id: JobId) -> Status {
    Status::not_found(format!("job {id} is not known: it never was, or ended too long ago"))
}

fn down(closed: Closed) -> Status {
    status::new(tonic::Code::Unavailable, closed.to_string())
}

fn state(phase: &Phase) -> wire::JobState {
    match phase {
        Phase::Queued(_) => wire::JobState::Queued,
        Phase::Planning => wire::JobState::Planning,
        Phase::Running => wire::JobState::Running,
        Phase::Ended(JobOutcome::Succeeded) => wire::JobState::Finished,
        Phase::Ended(JobOutcome::Failed(_)) => wire::JobState::Failed,
        Phase::Ended(JobOutcome::Cancelled { .. }) => wire::JobState::Cancelled,
    }
}

/// A job without its stages.
fn outline(job: &Job) -> wire::JobReport {
    let (phase, timings, owner) = (job.phase(), job.timings(), &job.new.owner);
    wire::JobReport {
        job: job.id.0,
        state: state(&phase).into(),
        error: job.failure().map(|failure| failure.message).unwrap_or_default(),
        statement: job.new.statement.clone(),
        session: owner.session.to_string(),
        principal: owner.principal.clone(),
        queue: owner.queue.clone(),
        submitted_ms: job.submitted_ms,
        queued_ns: timings.queued_ns,
        planning_ns: timings.planning_ns,
        elapsed_ns: timings.elapsed_ns,
        result_rows: job.rows(),
        stages: Vec::new(),
    }
}

fn stages(job: &Job, summary: Option<&JobSummary>) -> Vec<wire::StageReport> {
    let Some(planned) = job.plan() else { return Vec::new() };
    let measures = job.measures();
    let counted = |stage: &PlannedStage| summary.and_then(|summary| summary.stages.iter().find(|counted| counted.stage == stage.shape.id));
    planned.stages.iter().zip(&measures).map(|(stage, measure)| stage_report(stage, measure, counted(stage))).collect()
}

fn stage_report(stage: &PlannedStage, measure: &StageMeasure, counted: Option<&StageSummary>) -> wire::StageReport {
    let shape = &stage.shape;
    let inputs = shape.inputs.iter().map(|input| wire::StageInputReport {
        producer: input.producer.0,
        streaming: input.edge == Edge::Streaming,
        broadcast: input.read == InputRead::All,
    });
    wire::StageReport {
        stage: shape.id.0,
        inputs: inputs.collect(),
        output: stage.output.clone(),
        partitions: stage.partitions,
        tasks: shape.tasks,
        tasks_running: counted.map_or(0, |counted| counted.running),
        tasks_done: counted.map_or(0, |counted| counted.sealed),
        attempts: counted.map_or(0, |counted| counted.attempts as u32),
        attempts_failed: counted.map_or(0, |counted| counted.failures as u32),
        reruns: counted.map_or(0, |counted| counted.reruns as u32),
        raced: counted.map_or(0, |counted| counted.rivals as u32),
        rows: counted.map_or(0, |counted| counted.rows),
        bytes: counted.map_or(0, |counted| counted.bytes),
        cpu_ns: measure.cpu_ns,
        wait_ns: measure.wait_ns(),
        spilled_bytes: measure.exchange_spilled_bytes + measure.operators_spilled_bytes(),
        exchange_local_bytes: measure.exchange_local_bytes,
        exchange_flight_bytes: measure.exchange_flight_bytes,
        longest_poll_ns: measure.longest_poll_ns,
        adapted: stage.adapted.clone().unwrap_or_default(),
        elapsed_ns: measure.span_ns(),
        operators: operators(stage, measure),
    }
}

fn operators(stage: &PlannedStage, measure: &StageMeasure) -> Vec<wire::OperatorReport> {
    let lines = stage.operators.iter().enumerate().map(|(index, line)| {
        let values = measure.operators.get(index);
        let metrics = values.into_iter().flatten().map(|(name, value)| wire::MetricReport { name: name.clone(), value: *value });
        wire::OperatorReport {
            index: index as u32,
            depth: line.depth,
            name: line.name.clone(),
            detail: line.detail.clone(),
            metrics: metrics.collect(),
        }
    });
    lines.collect()
}
