//! Messages that are none, are cut, or belong elsewhere: each is answered with what is wrong, and the scheduler goes on.

use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    Any, CommandGetCatalogs, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementSubstraitPlan, ProstMessageExt,
    SubstraitPlan,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, PutResult, Ticket};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion_substrait::substrait::proto::{Plan, PlanRel, RelRoot, plan_rel};
use futures::{TryStreamExt, stream};
use prost::Message;
use tonic::{Code, Status};

use super::ingest::{frames, ingest, scheduler_in};
use super::statements::prepare;
use super::{Client, scheduler};

async fn put(client: &Client, frames: Vec<FlightData>) -> Result<Option<PutResult>, Status> {
    client.service.clone().do_put(client.request(stream::iter(frames))).await?.into_inner().message().await
}

fn rows() -> RecordBatch {
    let schema = Schema::new(vec![Field::new("$1", DataType::Int64, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new((0..1000).collect::<Int64Array>())]).unwrap()
}

/// Frames of which something is wrong, each with what.
fn spoiled(good: &[FlightData]) -> Vec<(&'static str, Vec<FlightData>)> {
    let with = |index: usize, change: &dyn Fn(&mut FlightData)| {
        let mut frames = good.to_vec();
        change(&mut frames[index]);
        frames
    };
    let cut = |bytes: &Bytes, part: usize| bytes.slice(..bytes.len() * part / 10);
    vec![
        ("a schema that is noise", with(0, &|frame| frame.data_header = vec![0xff; 200].into())),
        ("a schema that is cut", with(0, &|frame| frame.data_header = cut(&frame.data_header, 5))),
        ("a header that is noise", with(1, &|frame| frame.data_header = vec![0x7f; 200].into())),
        ("a header that is cut", with(1, &|frame| frame.data_header = cut(&frame.data_header, 5))),
        ("a body that is cut", with(1, &|frame| frame.data_body = cut(&frame.data_body, 5))),
        ("a body that is missing", with(1, &|frame| frame.data_body = Bytes::new())),
        ("rows before their schema", vec![FlightData { flight_descriptor: good[0].flight_descriptor.clone(), ..good[1].clone() }]),
    ]
}

#[tokio::test]
async fn rows_that_can_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler_in(folder.path()).await;
    let client = Client::with_cookie(&scheduler, "one");
    let handle = prepare(&client, "SELECT $1 AS a").await.unwrap().prepared_statement_handle;
    let query = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: handle };
    for good in [frames(ingest("t"), rows()).await, frames(query, rows()).await, frames(update, rows()).await] {
        for (what, frames) in spoiled(&good) {
            let refused = put(&client, frames).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {}", refused.message());
        }
    }
    assert!(!client.show("SHOW TABLES").await.unwrap().contains("| t "));
}

#[tokio::test]
async fn rows_that_claim_to_be_larger_than_memory() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler_in(folder.path()).await;
    let client = Client::keyless(&scheduler);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let descriptor = FlightDescriptor::new_cmd(ingest("t").as_any().encode_to_vec());
    let encoder = FlightDataEncoderBuilder::new().with_options(options).with_flight_descriptor(Some(descriptor));
    let good: Vec<FlightData> = encoder.build(stream::iter([Ok(rows())])).try_collect().await.unwrap();
    for claim in [i64::MAX, 1 << 45, 1 << 32] {
        let mut frames = good.clone();
        let mut body = frames[1].data_body.to_vec();
        body[..8].copy_from_slice(&claim.to_le_bytes());
        frames[1].data_body = body.into();
        let refused = put(&client, frames).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
        assert!(refused.message().contains("send smaller batches"), "{}", refused.message());
    }
    put(&client, good).await.unwrap();
}

#[tokio::test]
async fn puts_without_a_command() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let with = |command: &[u8]| FlightData { flight_descriptor: Some(FlightDescriptor::new_cmd(command.to_vec())), ..Default::default() };
    let catalogs = CommandGetCatalogs {}.as_any().encode_to_vec();
    for (what, frames, code) in [
        ("nothing", vec![], Code::InvalidArgument),
        ("no descriptor", vec![FlightData::default()], Code::InvalidArgument),
        ("noise", vec![with(&[0xff; 30])], Code::InvalidArgument),
        ("a command for another call", vec![with(&catalogs)], Code::Unimplemented),
        ("a command that is cut", vec![with(&ingest("table").as_any().encode_to_vec()[..60])], Code::InvalidArgument),
    ] {
        let refused = put(&client, frames).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {}", refused.message());
    }
    // No schema, but an end.
    let refused = put(&client, vec![with(&ingest("t").as_any().encode_to_vec())]).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "the rows to ingest have no schema"));
}

#[tokio::test]
async fn parameters_that_are_too_many() {
    let scheduler = scheduler(|config| config.max_statement_bytes = 4096).await;
    let client = Client::with_cookie(&scheduler, "one");
    let handle = prepare(&client, "SELECT $1 AS a").await.unwrap().prepared_statement_handle;
    let query = CommandPreparedStatementQuery { prepared_statement_handle: handle };
    let refused = put(&client, frames(query, rows()).await).await.unwrap_err();
    assert!(refused.message().contains("the scheduler takes at most 4096"), "{}", refused.message());
}

fn substrait(plan: impl Into<Bytes>) -> CommandStatementSubstraitPlan {
    let plan = SubstraitPlan { plan: plan.into(), version: "0.85.0".into() };
    CommandStatementSubstraitPlan { plan: Some(plan), transaction_id: None }
}

#[tokio::test]
async fn substrait_plans_that_are_none() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let rootless = RelRoot { input: None, names: vec![] };
    let rootless = Plan { relations: vec![PlanRel { rel_type: Some(plan_rel::RelType::Root(rootless)) }], ..Default::default() };
    for (command, part) in [
        (substrait(vec![0xff; 30]), "can't be read"),
        (substrait(vec![]), "0 relations"),
        (substrait(rootless.encode_to_vec()), "no input"),
        (CommandStatementSubstraitPlan::default(), "no plan"),
        (substrait(vec![0; 33 << 20]), "takes at most"),
    ] {
        let refused = client.info(command).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    let refused = client.info(CommandStatementSubstraitPlan { transaction_id: Some("x".into()), ..substrait(vec![]) }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_message_beyond_the_limit_names_it() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let action = Action { r#type: "GetSessionOptions".into(), body: vec![0; (64 << 20) + 1].into() };
    let refused = client.service.clone().do_action(client.request(action)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{}", refused.message());
    assert!(refused.message().contains("67108864"), "{}", refused.message());
    client.show("SHOW volley.fit").await.unwrap();
}

#[tokio::test]
async fn tickets_that_are_none() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let other = Any { type_url: "type.googleapis.com/another.Message".into(), value: Bytes::new() };
    for (ticket, code) in [
        (vec![], Code::Unimplemented),
        (vec![0xff; 30], Code::InvalidArgument),
        (other.encode_to_vec(), Code::Unimplemented),
        (ingest("t").as_any().encode_to_vec(), Code::Unimplemented),
    ] {
        let refused = client.read(Ticket::new(ticket)).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.message());
    }
}
