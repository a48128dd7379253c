//! The control stream of an executor.

use super::error::{ConvertError, all, executor, kind, required};
use super::types::attempt;
use crate::control::{Command, ExecutorMessage, Heartbeat, Notice, Registration, SchedulerMessage, Welcome};
use crate::ids::{AttemptId, Incarnation, JobId, StageId, Term};
use crate::ticket::TicketKey;
use crate::wire::control::v1 as wire;

impl From<Registration> for wire::Register {
    fn from(registration: Registration) -> Self {
        Self {
            executor: registration.executor.as_str().to_owned(),
            build_id: registration.build_id,
            slots: registration.slots,
            memory_bytes: registration.memory_bytes,
            address: registration.address,
            running: all(registration.running),
            held: all(registration.held),
        }
    }
}

impl TryFrom<wire::Register> for Registration {
    type Error = ConvertError;

    fn try_from(register: wire::Register) -> Result<Self, ConvertError> {
        Ok(Self {
            executor: executor(register.executor, "Register", "executor")?,
            build_id: register.build_id,
            slots: register.slots,
            memory_bytes: register.memory_bytes,
            address: register.address,
            running: register.running.into_iter().map(AttemptId::from).collect(),
            held: register.held.into_iter().map(AttemptId::from).collect(),
        })
    }
}

impl From<Heartbeat> for wire::Heartbeat {
    fn from(heartbeat: Heartbeat) -> Self {
        let Heartbeat { memory_used_bytes, store_bytes, spilled_bytes, busy_slots, cpu_ns, peak_resident_bytes } = heartbeat;
        Self { memory_used_bytes, store_bytes, spilled_bytes, busy_slots, cpu_ns, peak_resident_bytes }
    }
}

impl From<wire::Heartbeat> for Heartbeat {
    fn from(heartbeat: wire::Heartbeat) -> Self {
        let wire::Heartbeat { memory_used_bytes, store_bytes, spilled_bytes, busy_slots, cpu_ns, peak_resident_bytes } = heartbeat;
        Self { memory_used_bytes, store_bytes, spilled_bytes, busy_slots, cpu_ns, peak_resident_bytes }
    }
}

impl From<ExecutorMessage> for wire::ExecutorMessage {
    fn from(message: ExecutorMessage) -> Self {
        use wire::executor_message::Notice as Wire;
        let notice = match message.notice {
            Notice::Register(registration) => Wire::Register(registration.into()),
            Notice::Heartbeat(heartbeat) => Wire::Heartbeat(heartbeat.into()),
            Notice::Report(report) => Wire::Report(report.into()),
            Notice::LaunchRefused { attempt, failure } => {
                Wire::LaunchRefused(wire::LaunchRefused { attempt: Some(attempt.into()), failure: Some(failure.into()) })
            }
            Notice::ResultSent { attempt, rows } => Wire::ResultSent(wire::ResultSent { attempt: Some(attempt.into()), rows }),
            Notice::Draining => Wire::Draining(wire::Draining {}),
            Notice::Leaving => Wire::Leaving(wire::Leaving {}),
        };
        Self { incarnation: message.incarnation.0, notice: Some(notice) }
    }
}

impl TryFrom<wire::ExecutorMessage> for ExecutorMessage {
    type Error = ConvertError;

    fn try_from(message: wire::ExecutorMessage) -> Result<Self, ConvertError> {
        use wire::executor_message::Notice as Wire;
        let notice = match kind(message.notice, "ExecutorMessage", "notice")? {
            Wire::Register(register) => Notice::Register(register.try_into()?),
            Wire::Heartbeat(heartbeat) => Notice::Heartbeat(heartbeat.into()),
            Wire::Report(report) => Notice::Report(report.try_into()?),
            Wire::LaunchRefused(refused) => Notice::LaunchRefused {
                attempt: attempt(refused.attempt, "LaunchRefused", "attempt")?,
                failure: required(refused.failure, "LaunchRefused", "failure")?.try_into()?,
            },
            Wire::ResultSent(sent) => Notice::ResultSent { attempt: attempt(sent.attempt, "ResultSent", "attempt")?, rows: sent.rows },
            Wire::Draining(_) => Notice::Draining,
            Wire::Leaving(_) => Notice::Leaving,
        };
        Ok(Self { incarnation: Incarnation(message.incarnation), notice })
    }
}

impl From<Welcome> for wire::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            heartbeat_interval_ms: welcome.heartbeat_interval_ms,
            orphan_timeout_ms: welcome.orphan_timeout_ms,
            ticket_key: welcome.ticket_key.expose().to_vec().into(),
        }
    }
}

impl TryFrom<wire::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: wire::Welcome) -> Result<Self, ConvertError> {
        let secret = welcome.ticket_key.as_ref().try_into().map_err(|_| ConvertError::Length {
            message: "Welcome",
            field: "ticket_key",
            found: welcome.ticket_key.len(),
            expected: TicketKey::LEN,
        })?;
        Ok(Self {
            heartbeat_interval_ms: welcome.heartbeat_interval_ms,
            orphan_timeout_ms: welcome.orphan_timeout_ms,
            ticket_key: TicketKey::from_bytes(secret),
        })
    }
}

impl From<SchedulerMessage> for wire::SchedulerMessage {
    fn from(message: SchedulerMessage) -> Self {
        use wire::scheduler_message::Command as Wire;
        let command = match message.command {
            Command::Welcome(welcome) => Wire::Welcome(welcome.into()),
            Command::Refused { reason, retry } => Wire::Refused(wire::Refused { reason, retry }),
            Command::Plan(plan) => Wire::Plan(plan.into()),
            Command::Launch(spec) => Wire::Launch(spec.into()),
            Command::Cancel { attempt } => Wire::Cancel(wire::CancelTask { attempt: Some(attempt.into()) }),
            Command::ReleaseOutputs { job, stage } => Wire::ReleaseOutputs(wire::ReleaseOutputs { job: job.0, stage: stage.0 }),
            Command::ForgetJob { job } => Wire::ForgetJob(wire::ForgetJob { job: job.0 }),
            Command::Drain => Wire::Drain(wire::Drain {}),
        };
        Self { term: message.term.0, incarnation: message.incarnation.0, command: Some(command) }
    }
}

impl TryFrom<wire::SchedulerMessage> for SchedulerMessage {
    type Error = ConvertError;

    fn try_from(message: wire::SchedulerMessage) -> Result<Self, ConvertError> {
        use wire::scheduler_message::Command as Wire;
        let command = match kind(message.command, "SchedulerMessage", "command")? {
            Wire::Welcome(welcome) => Command::Welcome(welcome.try_into()?),
            Wire::Refused(refused) => Command::Refused { reason: refused.reason, retry: refused.retry },
            Wire::Plan(plan) => Command::Plan(plan.into()),
            Wire::Launch(spec) => Command::Launch(spec.try_into()?),
            Wire::Cancel(cancel) => Command::Cancel { attempt: attempt(cancel.attempt, "CancelTask", "attempt")? },
            Wire::ReleaseOutputs(outputs) => Command::ReleaseOutputs { job: JobId(outputs.job), stage: StageId(outputs.stage) },
            Wire::ForgetJob(forget) => Command::ForgetJob { job: JobId(forget.job) },
            Wire::Drain(_) => Command::Drain,
        };
        Ok(Self { term: Term(message.term), incarnation: Incarnation(message.incarnation), command })
    }
}
