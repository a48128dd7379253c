//! Reports of jobs and executors, as the command line shows them and as JSON gives them.

use std::collections::BTreeMap;

use serde::Serialize;
use volley_proto::wire::client::v1::{ExecutorReport, ExecutorState, JobReport, JobState, OperatorReport, StageReport};
use volley_proto::{JobId, StageId};

/// What a job does or did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobSummary {
    /// The job: `j7`.
    pub job: String,
    /// `queued`, `planning`, `running`, `finished`, `failed` or `cancelled`.
    pub state: &'static str,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// The SQL text, or a name for a plan.
    pub statement: String,
    /// Who asked.
    pub principal: String,
    /// The queue that it waited in.
    pub queue: String,
    /// When it was submitted: milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    /// Seconds in the queue.
    pub queued_s: f64,
    /// Seconds of planning.
    pub planning_s: f64,
    /// Seconds from submission to the end, or until now.
    pub elapsed_s: f64,
    /// Rows of the result.
    pub result_rows: u64,
    /// Stages, producers first; empty in lists of jobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageSummary>,
}

/// What a stage does or did: sums over its tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageSummary {
    /// The stage: `s2`.
    pub stage: String,
    /// The stages that it reads.
    pub inputs: Vec<String>,
    /// How its rows are spread: `Hash(l_orderkey) 8`.
    pub output: String,
    /// Its partitions.
    pub partitions: u32,
    /// Its tasks.
    pub tasks: u32,
    /// Tasks that have sealed their output.
    pub tasks_done: u32,
    /// Attempts started.
    pub attempts: u32,
    /// Attempts that failed.
    pub attempts_failed: u32,
    /// Sealed tasks run again because their output was lost.
    pub reruns: u32,
    /// Second attempts that ran beside slow ones.
    pub raced: u32,
    /// Rows written.
    pub rows: u64,
    /// Bytes written, as Arrow counts them.
    pub bytes: u64,
    /// Seconds on compute threads.
    pub cpu_s: f64,
    /// Seconds waiting for input.
    pub wait_s: f64,
    /// Seconds of the longest step on a compute thread, in which a task can't be cancelled.
    pub longest_poll_s: f64,
    /// Bytes spilled to disk.
    pub spilled_bytes: u64,
    /// Bytes read from producers in the same process.
    pub exchange_local_bytes: u64,
    /// Bytes read from producers over Flight.
    pub exchange_flight_bytes: u64,
    /// Seconds from the first launch to the last seal, or until now.
    pub elapsed_s: f64,
    /// What was changed about its tasks while the job ran, and why; empty where nothing was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub adapted: String,
    /// Operators of its plan, in pre-order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorSummary>,
}

/// What an operator of a stage's plan measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorSummary {
    /// How deep it is below the stage's root.
    pub depth: u32,
    /// The operator's line in a plan, or its name.
    pub detail: String,
    /// Sums over the stage's tasks.
    pub metrics: BTreeMap<String, u64>,
}

/// An executor as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutorSummary {
    /// Its name.
    pub executor: String,
    /// `live`, `suspect`, `draining` or `lost`.
    pub state: &'static str,
    /// Where it serves its outputs.
    pub address: String,
    /// Its slots.
    pub slots: u32,
    /// Slots in use.
    pub busy_slots: u32,
    /// Memory that it may use.
    pub memory_bytes: u64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Bytes of exchange outputs that it holds.
    pub store_bytes: u64,
    /// Bytes of them on disk.
    pub spilled_bytes: u64,
    /// Seconds of CPU that its process has used.
    pub cpu_s: f64,
    /// Most resident memory that its process has had.
    pub peak_resident_bytes: u64,
    /// The build that it runs.
    pub build_id: String,
}

/// The word for a state of a job.
pub(crate) fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Planning => "planning",
        JobState::Running => "running",
        JobState::Finished => "finished",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Unspecified => "unknown",
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

impl From<JobReport> for JobSummary {
    fn from(report: JobReport) -> Self {
        Self {
            job: JobId(report.job).to_string(),
            state: job_state(report.state()),
            error: report.error,
            statement: report.statement,
            principal: report.principal,
            queue: report.queue,
            submitted_ms: report.submitted_ms,
            queued_s: seconds(report.queued_ns),
            planning_s: seconds(report.planning_ns),
            elapsed_s: seconds(report.elapsed_ns),
            result_rows: report.result_rows,
            stages: report.stages.into_iter().map(StageSummary::from).collect(),
        }
    }
}

impl JobSummary {
    /// Tasks of all stages.
    pub fn tasks(&self) -> u64 {
        self.stages.iter().map(|stage| u64::from(stage.tasks)).sum()
    }

    /// Bytes that passed between tasks in one process.
    pub fn exchange_local_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.exchange_local_bytes).sum()
    }

    /// Bytes that passed between tasks over Flight.
    pub fn exchange_flight_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.exchange_flight_bytes).sum()
    }

    /// Bytes spilled to disk.
    pub fn spilled_bytes(&self) -> u64 {
        self.stages.iter().map(|stage| stage.spilled_bytes).sum()
    }
}

impl From<StageReport> for StageSummary {
    fn from(report: StageReport) -> Self {
        Self {
            stage: StageId(report.stage).to_string(),
            inputs: report.inputs.iter().map(|input| StageId(input.producer).to_string()).collect(),
            output: report.output,
            partitions: report.partitions,
            tasks: report.tasks,
            tasks_done: report.tasks_done,
            attempts: report.attempts,
            attempts_failed: report.attempts_failed,
            reruns: report.reruns,
            raced: report.raced,
            rows: report.rows,
            bytes: report.bytes,
            cpu_s: seconds(report.cpu_ns),
            wait_s: seconds(report.wait_ns),
            spilled_bytes: report.spilled_bytes,
            exchange_local_bytes: report.exchange_local_bytes,
            exchange_flight_bytes: report.exchange_flight_bytes,
            longest_poll_s: seconds(report.longest_poll_ns),
            adapted: report.adapted,
            elapsed_s: seconds(report.elapsed_ns),
            operators: report.operators.into_iter().map(OperatorSummary::from).collect(),
        }
    }
}

impl From<OperatorReport> for OperatorSummary {
    fn from(report: OperatorReport) -> Self {
        Self {
            depth: report.depth,
            detail: if report.detail.is_empty() { report.name } else { report.detail },
            metrics: report.metrics.into_iter().map(|metric| (metric.name, metric.value)).collect(),
        }
    }
}

impl From<ExecutorReport> for ExecutorSummary {
    fn from(report: ExecutorReport) -> Self {
        let state = match report.state() {
            ExecutorState::Live => "live",
            ExecutorState::Suspect => "suspect",
            ExecutorState::Draining => "draining",
            ExecutorState::Denied => "denied",
            ExecutorState::Probation => "probation",
            ExecutorState::Lost => "lost",
            ExecutorState::Unspecified => "unknown",
        };
        Self {
            executor: report.executor,
            state,
            address: report.address,
            slots: report.slots,
            busy_slots: report.busy_slots,
            memory_bytes: report.memory_bytes,
            memory_used_bytes: report.memory_used_bytes,
            store_bytes: report.store_bytes,
            spilled_bytes: report.spilled_bytes,
            cpu_s: seconds(report.cpu_ns),
            peak_resident_bytes: report.peak_resident_bytes,
            build_id: report.build_id,
        }
    }
}
