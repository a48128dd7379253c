//! Stage plans, tasks and their reports.
//!
//! A task's inputs name each executor once and then only its place, and metrics name each metric once: a message is some
//! small integers for each producer task or operator.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::{ConvertError, executor, kind, required, same_length};
use super::types::{attempt, settings_from_wire, settings_to_wire, sizes_from_wire, sizes_to_wire, trace_from_wire, trace_to_wire};
use crate::ids::{ExecutorId, Incarnation, JobId, StageId, Term};
use crate::task::{
    AttemptLocation, InlineFrame, InputLocations, OperatorMetrics, StagePlan, StoreAccess, TaskMetrics, TaskOutcome, TaskReport, TaskSpec,
};
use crate::wire::control::v1 as wire;

impl From<StagePlan> for wire::StagePlan {
    fn from(plan: StagePlan) -> Self {
        Self {
            job: plan.job.0,
            stage: plan.stage.0,
            version: plan.version,
            plan: plan.plan,
            settings: settings_to_wire(plan.settings),
            output_partitions: plan.output_partitions,
            depth: plan.depth,
            root: plan.root,
            weight: plan.weight,
            stores: plan.stores.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<wire::StagePlan> for StagePlan {
    fn from(plan: wire::StagePlan) -> Self {
        Self {
            job: JobId(plan.job),
            stage: StageId(plan.stage),
            version: plan.version,
            plan: plan.plan,
            settings: settings_from_wire(plan.settings),
            output_partitions: plan.output_partitions,
            depth: plan.depth,
            root: plan.root,
            // A share of nothing would starve the job.
            weight: plan.weight.max(1),
            stores: plan.stores.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<StoreAccess> for wire::StoreAccess {
    fn from(access: StoreAccess) -> Self {
        Self { name: access.name, options: settings_to_wire(access.options) }
    }
}

impl From<wire::StoreAccess> for StoreAccess {
    fn from(access: wire::StoreAccess) -> Self {
        Self { name: access.name, options: settings_from_wire(access.options) }
    }
}

/// The executors of a task's inputs, each once.
#[derive(Default)]
struct ExecutorTable<'a> {
    lives: Vec<wire::ExecutorLife>,
    indexes: HashMap<(&'a ExecutorId, Incarnation, &'a str), u32>,
}

impl<'a> ExecutorTable<'a> {
    fn index(&mut self, location: &'a AttemptLocation) -> u32 {
        let lives = &mut self.lives;
        *self.indexes.entry((&location.executor, location.incarnation, &location.address)).or_insert_with(|| {
            lives.push(wire::ExecutorLife {
                executor: location.executor.as_str().to_owned(),
                incarnation: location.incarnation.0,
                address: location.address.as_ref().to_owned(),
            });
            (lives.len() - 1) as u32
        })
    }

    fn input(&mut self, input: &'a InputLocations) -> wire::InputLocations {
        let dense = input.attempts.iter().zip(0..).all(|(location, index)| location.task == index);
        wire::InputLocations {
            producer: input.producer.0,
            executor: input.attempts.iter().map(|location| self.index(location)).collect(),
            attempt: input.attempts.iter().map(|location| location.attempt).collect(),
            task: if dense { Vec::new() } else { input.attempts.iter().map(|location| location.task).collect() },
        }
    }
}

impl From<TaskSpec> for wire::TaskSpec {
    fn from(spec: TaskSpec) -> Self {
        let mut table = ExecutorTable::default();
        let inputs = spec.inputs.iter().map(|input| table.input(input)).collect();
        let executors = table.lives;
        Self {
            attempt: Some(spec.attempt.into()),
            term: spec.term.0,
            incarnation: spec.incarnation.0,
            plan_version: spec.plan_version,
            bindings: spec.bindings,
            executors,
            inputs,
            slots: spec.slots,
            trace: trace_to_wire(spec.trace),
        }
    }
}

/// An executor as the input locations share it.
type Life = (ExecutorId, Incarnation, Arc<str>);

fn life(life: wire::ExecutorLife) -> Result<Life, ConvertError> {
    Ok((executor(life.executor, "ExecutorLife", "executor")?, Incarnation(life.incarnation), life.address.into()))
}

fn input_from_wire(input: wire::InputLocations, lives: &[Life]) -> Result<InputLocations, ConvertError> {
    const MESSAGE: &str = "InputLocations";
    same_length(input.attempt.len(), input.executor.len(), MESSAGE, "attempt")?;
    let tasks: Vec<u32> = if input.task.is_empty() { (0..).take(input.executor.len()).collect() } else { input.task };
    same_length(tasks.len(), input.executor.len(), MESSAGE, "task")?;
    let attempts: Result<Vec<_>, ConvertError> = (input.executor.into_iter().zip(input.attempt).zip(tasks))
        .map(|((index, attempt), task)| {
            let (executor, incarnation, address) = lives.get(index as usize).cloned().ok_or(ConvertError::Index {
                message: MESSAGE,
                field: "executor",
                index,
                len: lives.len(),
            })?;
            Ok(AttemptLocation { task, attempt, executor, incarnation, address })
        })
        .collect();
    Ok(InputLocations { producer: StageId(input.producer), attempts: attempts?.into() })
}

impl TryFrom<wire::TaskSpec> for TaskSpec {
    type Error = ConvertError;

    fn try_from(spec: wire::TaskSpec) -> Result<Self, ConvertError> {
        let lives = spec.executors.into_iter().map(life).collect::<Result<Vec<_>, _>>()?;
        let inputs = spec.inputs.into_iter().map(|input| input_from_wire(input, &lives)).collect::<Result<_, _>>()?;
        Ok(Self {
            attempt: attempt(spec.attempt, "TaskSpec", "attempt")?,
            term: Term(spec.term),
            incarnation: Incarnation(spec.incarnation),
            plan_version: spec.plan_version,
            bindings: spec.bindings,
            inputs,
            slots: spec.slots,
            trace: trace_from_wire(spec.trace),
        })
    }
}

fn operators_to_wire(operators: Vec<OperatorMetrics>) -> (Vec<String>, Vec<wire::task_metrics::Operator>) {
    let mut names = Vec::new();
    let mut indexes: HashMap<String, u32> = HashMap::new();
    let operators = operators
        .into_iter()
        .map(|operator| {
            let (name, value) = operator
                .values
                .into_iter()
                .map(|(name, value)| {
                    let next = names.len() as u32;
                    let index = *indexes.entry(name).or_insert_with_key(|name| {
                        names.push(name.clone());
                        next
                    });
                    (index, value)
                })
                .unzip();
            wire::task_metrics::Operator { index: operator.index, name, value }
        })
        .collect();
    (names, operators)
}

fn operator_from_wire(operator: wire::task_metrics::Operator, names: &[String]) -> Result<OperatorMetrics, ConvertError> {
    const MESSAGE: &str = "TaskMetrics.Operator";
    same_length(operator.value.len(), operator.name.len(), MESSAGE, "value")?;
    let values: Result<Vec<_>, ConvertError> = (operator.name.into_iter().zip(operator.value))
        .map(|(index, value)| {
            let name = names.get(index as usize).cloned().ok_or(ConvertError::Index {
                message: MESSAGE,
                field: "name",
                index,
                len: names.len(),
            })?;
            Ok((name, value))
        })
        .collect();
    Ok(OperatorMetrics { index: operator.index, values: values? })
}

impl From<TaskMetrics> for wire::TaskMetrics {
    fn from(metrics: TaskMetrics) -> Self {
        let (names, operators) = operators_to_wire(metrics.operators);
        Self {
            cpu_ns: metrics.cpu_ns,
            elapsed_ns: metrics.elapsed_ns,
            exchange_local_bytes: metrics.exchange_local_bytes,
            exchange_flight_bytes: metrics.exchange_flight_bytes,
            spilled_bytes: metrics.spilled_bytes,
            longest_poll_ns: metrics.longest_poll_ns,
            names,
            operators,
        }
    }
}

impl TryFrom<wire::TaskMetrics> for TaskMetrics {
    type Error = ConvertError;

    fn try_from(metrics: wire::TaskMetrics) -> Result<Self, ConvertError> {
        let names = metrics.names;
        Ok(Self {
            cpu_ns: metrics.cpu_ns,
            elapsed_ns: metrics.elapsed_ns,
            exchange_local_bytes: metrics.exchange_local_bytes,
            exchange_flight_bytes: metrics.exchange_flight_bytes,
            spilled_bytes: metrics.spilled_bytes,
            longest_poll_ns: metrics.longest_poll_ns,
            operators: metrics.operators.into_iter().map(|operator| operator_from_wire(operator, &names)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<InlineFrame> for wire::task_report::Frame {
    fn from(InlineFrame { header, body, rows }: InlineFrame) -> Self {
        Self { header, body, rows }
    }
}

impl From<wire::task_report::Frame> for InlineFrame {
    fn from(wire::task_report::Frame { header, body, rows }: wire::task_report::Frame) -> Self {
        Self { header, body, rows }
    }
}

impl From<TaskOutcome> for wire::task_report::Outcome {
    fn from(outcome: TaskOutcome) -> Self {
        use wire::task_report::{Cancelled, InlineRows, Running, Sealed};
        match outcome {
            TaskOutcome::Running { rows } => Self::Running(Running { rows }),
            TaskOutcome::Sealed { outputs, metrics, inline } => Self::Sealed(Sealed {
                outputs: Some(sizes_to_wire(&outputs)),
                metrics: Some((*metrics).into()),
                inline: inline.map(|frames| InlineRows { frames: frames.into_iter().map(Into::into).collect() }),
            }),
            TaskOutcome::Failed(failure) => Self::Failed(failure.into()),
            TaskOutcome::Cancelled => Self::Cancelled(Cancelled {}),
        }
    }
}

impl TryFrom<wire::task_report::Outcome> for TaskOutcome {
    type Error = ConvertError;

    fn try_from(outcome: wire::task_report::Outcome) -> Result<Self, ConvertError> {
        use wire::task_report::Outcome as Wire;
        Ok(match outcome {
            Wire::Running(running) => Self::Running { rows: running.rows },
            Wire::Sealed(sealed) => Self::Sealed {
                outputs: sizes_from_wire(required(sealed.outputs, "TaskReport.Sealed", "outputs")?)?,
                metrics: Box::new(required(sealed.metrics, "TaskReport.Sealed", "metrics")?.try_into()?),
                inline: sealed.inline.map(|rows| rows.frames.into_iter().map(Into::into).collect()),
            },
            Wire::Failed(failure) => Self::Failed(failure.try_into()?),
            Wire::Cancelled(_) => Self::Cancelled,
        })
    }
}

impl From<TaskReport> for wire::TaskReport {
    fn from(report: TaskReport) -> Self {
        Self {
            attempt: Some(report.attempt.into()),
            executor: report.executor.as_str().to_owned(),
            incarnation: report.incarnation.0,
            outcome: Some(report.outcome.into()),
        }
    }
}

impl TryFrom<wire::TaskReport> for TaskReport {
    type Error = ConvertError;

    fn try_from(report: wire::TaskReport) -> Result<Self, ConvertError> {
        Ok(Self {
            attempt: attempt(report.attempt, "TaskReport", "attempt")?,
            executor: executor(report.executor, "TaskReport", "executor")?,
            incarnation: Incarnation(report.incarnation),
            outcome: kind(report.outcome, "TaskReport", "outcome")?.try_into()?,
        })
    }
}
