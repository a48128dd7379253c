//! What can't be understood is refused with an error that names the message and the field.

use volley_proto::control::{ExecutorMessage, SchedulerMessage};
use volley_proto::convert::ConvertError;
use volley_proto::journal::{JobRecord, TableEntry};
use volley_proto::shuffle::{ChunkHeader, ExchangeTicket, ReaderMessage, Selection};
use volley_proto::wire::control::v1 as control;
use volley_proto::wire::{journal::v1 as journal, shuffle::v1 as shuffle, types::v1 as types};
use volley_proto::{Failure, StageShape, TaskMetrics, TaskReport, TaskSpec};

use crate::values;

/// Asserts that `wire` has no domain value, and why.
fn refused<D, W>(wire: W, expected: &str)
where
    D: TryFrom<W, Error = ConvertError> + std::fmt::Debug,
{
    assert_eq!(D::try_from(wire).map_err(|error| error.to_string()).unwrap_err(), expected);
}

#[test]
fn a_kind_from_a_newer_build_is_named() {
    let unknown = "is missing, or of a kind that this build does not know";
    refused::<ExecutorMessage, _>(control::ExecutorMessage::default(), &format!("ExecutorMessage.notice {unknown}"));
    refused::<SchedulerMessage, _>(control::SchedulerMessage::default(), &format!("SchedulerMessage.command {unknown}"));
    refused::<Failure, _>(types::Failure::default(), &format!("Failure.remedy {unknown}"));
    refused::<ReaderMessage, _>(shuffle::ReaderMessage::default(), &format!("ReaderMessage.request {unknown}"));
    refused::<ChunkHeader, _>(shuffle::ChunkHeader::default(), &format!("ChunkHeader.kind {unknown}"));
    let record = journal::JobRecord { version: 1, ..Default::default() };
    refused::<JobRecord, _>(record, &format!("JobRecord.event {unknown}"));
}

#[test]
fn a_oneof_variant_with_an_unknown_number_is_refused_and_not_guessed() {
    use prost::Message;
    // Field 60, a message: what a newer scheduler might send.
    let bytes = [0x08, 3, 0xe2, 0x03, 2, 0x08, 1];
    let message = control::SchedulerMessage::decode(&bytes[..]).expect("unknown fields are skipped");
    assert_eq!(SchedulerMessage::try_from(message), Err(ConvertError::NoKind { message: "SchedulerMessage", field: "command" }));
}

#[test]
fn a_missing_field_is_named() {
    let mut report: control::TaskReport = values::report(volley_proto::TaskOutcome::Cancelled).into();
    report.attempt = None;
    refused::<TaskReport, _>(report, "TaskReport.attempt is missing");
    let mut report: control::TaskReport = values::report(volley_proto::TaskOutcome::Cancelled).into();
    report.executor.clear();
    refused::<TaskReport, _>(report, "TaskReport.executor is missing");
    refused::<TaskSpec, _>(control::TaskSpec { attempt: None, ..values::task_spec().into() }, "TaskSpec.attempt is missing");
    let entry = journal::TableEntry { version: 1, ..Default::default() };
    refused::<TableEntry, _>(entry, "TableEntry.name is missing");
}

#[test]
fn input_locations_that_do_not_fit_are_refused() {
    let mut spec: control::TaskSpec = values::task_spec().into();
    spec.executors.truncate(1);
    refused::<TaskSpec, _>(spec, "InputLocations.executor points to entry 1 of 1");
    let mut spec: control::TaskSpec = values::task_spec().into();
    spec.inputs[0].attempt.pop();
    refused::<TaskSpec, _>(spec, "InputLocations.attempt has 3 entries where 4 are right");
    let mut spec: control::TaskSpec = values::task_spec().into();
    spec.inputs[1].task.pop();
    refused::<TaskSpec, _>(spec, "InputLocations.task has 1 entries where 2 are right");
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let mut metrics: control::TaskMetrics = values::metrics().into();
    metrics.names.truncate(2);
    refused::<TaskMetrics, _>(metrics, "TaskMetrics.Operator.name points to entry 2 of 2");
    let mut metrics: control::TaskMetrics = values::metrics().into();
    metrics.operators[0].value.pop();
    refused::<TaskMetrics, _>(metrics, "TaskMetrics.Operator.value has 1 entries where 2 are right");
    let selection = shuffle::Selection { task: vec![1], ..Default::default() };
    refused::<Selection, _>(selection, "Selection.attempt has 0 entries where 1 are right");
}

#[test]
fn an_unknown_enum_value_is_named() {
    let ticket = shuffle::ExchangeTicket { compression: 9, ..values::exchange_ticket().into() };
    refused::<ExchangeTicket, _>(ticket, "ExchangeTicket.compression has the unknown value 9");
    let input = types::StageInput { producer: 0, edge: 0, read: 1 };
    let shape = types::StageShape { inputs: vec![input], ..Default::default() };
    refused::<StageShape, _>(shape, "StageInput.edge has the unknown value 0");
}

#[test]
fn a_ticket_key_of_another_length_is_refused_and_never_printed() {
    let mut welcome: control::Welcome = values::welcome().into();
    let shown = format!("{:?} {welcome:?} {:?}", values::welcome(), values::welcome().ticket_key);
    // 0xa7 is what the key is made of: 167 in a Debug of bytes, a7 in one of Bytes.
    assert!(!shown.contains("167") && !shown.contains("a7"), "{shown}");
    welcome.ticket_key.truncate(31);
    refused::<volley_proto::control::Welcome, _>(welcome, "Welcome.ticket_key has 31 entries where 32 are right");
}

#[test]
fn a_record_of_a_newer_format_is_refused() {
    for (version, message) in [(2, "2"), (0, "0")] {
        let record = journal::JobRecord { version, ..Default::default() };
        refused::<JobRecord, _>(record, &format!("JobRecord has format version {message}, but this build reads versions 1 to 1"));
    }
}
