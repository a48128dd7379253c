//! Rows that a client sends into a table, and what is refused of them.

use std::path::Path;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    CommandStatementIngest, DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightData, FlightDescriptor};
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::{Code, Status};
use volley_scheduler::SchedulerHandle;
use volley_scheduler::config::directory_url;

use super::results::in_time;
use super::{Client, scheduler};

fn rows(count: i64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new((0..count).collect::<Int64Array>())]).unwrap()
}

pub(super) fn ingest(table: &str) -> CommandStatementIngest {
    let (create, append) = (TableNotExistOption::Create, TableExistsOption::Append);
    let definition = TableDefinitionOptions { if_not_exist: create.into(), if_exists: append.into() };
    CommandStatementIngest { table_definition_options: Some(definition), table: table.into(), ..Default::default() }
}

/// The messages of a DoPut of these rows.
pub(super) async fn frames(command: impl ProstMessageExt, rows: RecordBatch) -> Vec<FlightData> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor));
    encoder.build(stream::iter([Ok(rows)])).try_collect().await.unwrap()
}

pub(super) async fn put(client: &Client, frames: Vec<FlightData>) -> Result<i64, Status> {
    let mut answers = client.service.clone().do_put(client.request(stream::iter(frames))).await?.into_inner();
    let answer = answers.message().await?.expect("a put is answered");
    Ok(DoPutUpdateResult::decode(answer.app_metadata).unwrap().record_count)
}

/// A scheduler whose managed tables are in a folder.
pub(super) async fn scheduler_in(folder: &Path) -> SchedulerHandle {
    let warehouse = directory_url(folder).unwrap();
    scheduler(|config| config.warehouse = Some(warehouse)).await
}

/// The Parquet files below a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: &Path| if path.is_dir() { files(path) } else { usize::from(path.extension().is_some_and(|end| end == "parquet")) };
    entries.map(|entry| count(&entry.path())).sum()
}

#[tokio::test]
async fn rows_are_in_the_table_when_the_put_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler_in(folder.path()).await;
    let client = Client::keyless(&scheduler);
    assert_eq!(put(&client, frames(ingest("t"), rows(1000)).await).await.unwrap(), 1000);
    assert_eq!(put(&client, frames(ingest("t"), rows(10)).await).await.unwrap(), 10);
    assert_eq!(files(folder.path()), 2);
    assert!(client.show("SHOW TABLES").await.unwrap().contains("| t "));
    assert_eq!(put(&client, frames(ingest("empty"), rows(0)).await).await.unwrap(), 0);
    assert!(client.show("SHOW TABLES").await.unwrap().contains("| empty "));
}

#[tokio::test]
async fn a_put_that_its_client_cancels_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler_in(folder.path()).await;
    for number in 0..20 {
        let client = Client::keyless(&scheduler);
        let sent = frames(ingest("t"), rows(100_000)).await;
        let (seen, more) = tokio::sync::oneshot::channel::<()>();
        // The stream has no end; the client hangs up once all that it has was taken.
        let endless = stream::iter(sent).chain(stream::once(async { drop(seen) }).filter_map(async |()| None)).chain(stream::pending());
        let mut service = client.service.clone();
        let request = client.request(endless);
        let putting = tokio::spawn(async move { service.do_put(request).await.map(drop) });
        let _ = more.await;
        if number % 2 == 0 {
            in_time("staging", async {
                while files(folder.path()) == 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        putting.abort();
        in_time("cleaning up", async {
            while files(folder.path()) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!client.show("SHOW TABLES").await.unwrap().contains("| t "), "round {number}");
    }
}

#[tokio::test]
async fn what_the_table_does_not_take_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler_in(folder.path()).await;
    let client = Client::keyless(&scheduler);
    put(&client, frames(ingest("t"), rows(1)).await).await.unwrap();
    let definition = |if_not_exist: TableNotExistOption, if_exists: TableExistsOption| TableDefinitionOptions {
        if_not_exist: if_not_exist.into(),
        if_exists: if_exists.into(),
    };
    let with = |table: &str, definition| CommandStatementIngest { table_definition_options: Some(definition), ..ingest(table) };
    let (create, fail, append) = (TableNotExistOption::Create, TableNotExistOption::Fail, TableExistsOption::Append);
    for (command, code, part) in [
        (with("t", definition(create, TableExistsOption::Fail)), Code::AlreadyExists, "exists already"),
        (with("u", definition(fail, append)), Code::NotFound, "does not exist"),
        (with("t", definition(TableNotExistOption::Unspecified, append)), Code::InvalidArgument, "is missing"),
        (with("t", definition(create, TableExistsOption::Unspecified)), Code::InvalidArgument, "exists"),
        (ingest(""), Code::InvalidArgument, "no table"),
        (CommandStatementIngest { temporary: true, ..ingest("v") }, Code::InvalidArgument, "cookies"),
        (CommandStatementIngest { transaction_id: Some("x".into()), ..ingest("t") }, Code::Unimplemented, "transactions"),
        (CommandStatementIngest { catalog: Some("volley".into()), ..ingest("t") }, Code::InvalidArgument, "no schema"),
        (CommandStatementIngest { schema: Some("nowhere".into()), ..ingest("t") }, Code::InvalidArgument, "nowhere"),
    ] {
        let refused = put(&client, frames(command.clone(), rows(5)).await).await.unwrap_err();
        assert_eq!(refused.code(), code, "{command:?}: {}", refused.message());
        assert!(refused.message().contains(part), "{command:?}: {}", refused.message());
    }
    assert_eq!(files(folder.path()), 1);
}

#[tokio::test]
async fn without_a_place_for_tables_the_answer_says_how_to_get_one() {
    let scheduler = scheduler(|_| {}).await;
    let refused = put(&Client::keyless(&scheduler), frames(ingest("t"), rows(5)).await).await.unwrap_err();
    assert!(refused.message().contains("--warehouse"), "{}", refused.message());
}
