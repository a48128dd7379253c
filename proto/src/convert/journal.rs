//! Records of the state store. Each carries the format version; a newer one is refused.

use super::error::{ConvertError, all, each, executor, kind, required};
use super::types::{attempt, settings_from_wire, settings_to_wire, sizes_from_wire, sizes_to_wire, trace_from_wire, trace_to_wire};
use crate::ids::{Incarnation, JobId, Term};
use crate::journal::{JOURNAL_VERSION, JobEvent, JobOutcome, JobRecord, OperatorLine, StageWork, TableEntry};
use crate::wire::journal::v1 as wire;

fn known_version(found: u32, message: &'static str) -> Result<(), ConvertError> {
    if (1..=JOURNAL_VERSION).contains(&found) { Ok(()) } else { Err(ConvertError::Version { message, found, newest: JOURNAL_VERSION }) }
}

impl From<JobOutcome> for wire::job_ended::Outcome {
    fn from(outcome: JobOutcome) -> Self {
        match outcome {
            JobOutcome::Finished { rows } => Self::Finished(wire::job_ended::Finished { rows }),
            JobOutcome::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl TryFrom<wire::job_ended::Outcome> for JobOutcome {
    type Error = ConvertError;

    fn try_from(outcome: wire::job_ended::Outcome) -> Result<Self, ConvertError> {
        Ok(match outcome {
            wire::job_ended::Outcome::Finished(finished) => Self::Finished { rows: finished.rows },
            wire::job_ended::Outcome::Failed(failure) => Self::Failed(failure.try_into()?),
        })
    }
}

impl From<JobEvent> for wire::job_record::Event {
    fn from(event: JobEvent) -> Self {
        match event {
            JobEvent::Submitted { owner, statement, settings, trace, eager, term } => Self::Submitted(wire::JobSubmitted {
                owner: Some(owner.into()),
                statement,
                settings: settings_to_wire(settings),
                trace: trace_to_wire(trace),
                eager,
                term: term.0,
            }),
            JobEvent::Planned { stages, build, schema, work } => {
                Self::Planned(wire::JobPlanned { stages: all(stages), build, schema, work: all(work) })
            }
            JobEvent::TaskSealed { attempt, executor, incarnation, address, outputs } => Self::Sealed(wire::TaskSealed {
                attempt: Some(attempt.into()),
                executor: executor.as_str().to_owned(),
                incarnation: incarnation.0,
                address,
                outputs: Some(sizes_to_wire(&outputs)),
            }),
            JobEvent::Ended(outcome) => Self::Ended(wire::JobEnded { outcome: Some(outcome.into()) }),
        }
    }
}

impl TryFrom<wire::job_record::Event> for JobEvent {
    type Error = ConvertError;

    fn try_from(event: wire::job_record::Event) -> Result<Self, ConvertError> {
        use wire::job_record::Event as Wire;
        Ok(match event {
            Wire::Submitted(submitted) => Self::Submitted {
                owner: required(submitted.owner, "JobSubmitted", "owner")?.into(),
                statement: submitted.statement,
                settings: settings_from_wire(submitted.settings),
                trace: trace_from_wire(submitted.trace),
                eager: submitted.eager,
                term: Term(submitted.term),
            },
            Wire::Planned(planned) => {
                Self::Planned { stages: each(planned.stages)?, build: planned.build, schema: planned.schema, work: each(planned.work)? }
            }
            Wire::Sealed(sealed) => Self::TaskSealed {
                attempt: attempt(sealed.attempt, "TaskSealed", "attempt")?,
                executor: executor(sealed.executor, "TaskSealed", "executor")?,
                incarnation: Incarnation(sealed.incarnation),
                address: sealed.address,
                outputs: sizes_from_wire(required(sealed.outputs, "TaskSealed", "outputs")?)?,
            },
            Wire::Ended(ended) => Self::Ended(kind(ended.outcome, "JobEnded", "outcome")?.try_into()?),
        })
    }
}

impl From<StageWork> for wire::StageWork {
    fn from(work: StageWork) -> Self {
        let StageWork { plan, bindings, partitions, output, operators } = work;
        let line = |OperatorLine { depth, name, detail }| wire::OperatorLine { depth, name, detail };
        let operators = operators.into_iter().map(line).collect();
        Self { plan: Some(plan.into()), bindings, partitions, output, operators }
    }
}

impl TryFrom<wire::StageWork> for StageWork {
    type Error = ConvertError;

    fn try_from(work: wire::StageWork) -> Result<Self, ConvertError> {
        let wire::StageWork { plan, bindings, partitions, output, operators } = work;
        let line = |wire::OperatorLine { depth, name, detail }| OperatorLine { depth, name, detail };
        let operators = operators.into_iter().map(line).collect();
        Ok(Self { plan: required(plan, "StageWork", "plan")?.into(), bindings, partitions, output, operators })
    }
}

impl From<JobRecord> for wire::JobRecord {
    fn from(record: JobRecord) -> Self {
        Self { version: JOURNAL_VERSION, job: record.job.0, at_ms: record.at_ms, event: Some(record.event.into()) }
    }
}

impl TryFrom<wire::JobRecord> for JobRecord {
    type Error = ConvertError;

    fn try_from(record: wire::JobRecord) -> Result<Self, ConvertError> {
        known_version(record.version, "JobRecord")?;
        let event = kind(record.event, "JobRecord", "event")?.try_into()?;
        Ok(Self { job: JobId(record.job), at_ms: record.at_ms, event })
    }
}

impl From<TableEntry> for wire::TableEntry {
    fn from(entry: TableEntry) -> Self {
        Self {
            version: JOURNAL_VERSION,
            catalog: entry.catalog,
            schema: entry.schema,
            name: entry.name,
            ddl: entry.ddl,
            created_ms: entry.created_ms,
        }
    }
}

impl TryFrom<wire::TableEntry> for TableEntry {
    type Error = ConvertError;

    fn try_from(entry: wire::TableEntry) -> Result<Self, ConvertError> {
        known_version(entry.version, "TableEntry")?;
        if entry.name.is_empty() {
            return Err(ConvertError::Missing { message: "TableEntry", field: "name" });
        }
        Ok(Self { catalog: entry.catalog, schema: entry.schema, name: entry.name, ddl: entry.ddl, created_ms: entry.created_ms })
    }
}
