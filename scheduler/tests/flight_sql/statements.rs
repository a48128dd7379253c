//! Statements that need no executor, and prepared ones.

use std::fs;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, IpcMessage};
use datafusion::arrow::datatypes::{DataType, Schema};
use futures::stream;
use prost::Message;
use tonic::{Code, Status};
use volley_proto::wire::flight::sql::ActionCreatePreparedStatementResult;

use super::{Client, scheduler};

pub(super) async fn prepare(client: &Client, sql: &str) -> Result<ActionCreatePreparedStatementResult, Status> {
    let request = ActionCreatePreparedStatementRequest { query: sql.into(), transaction_id: None };
    let action = Action { r#type: "CreatePreparedStatement".into(), body: request.as_any().encode_to_vec().into() };
    let mut results = client.service.clone().do_action(client.request(action)).await?.into_inner();
    let any = Any::decode(results.message().await?.unwrap().body).unwrap();
    Ok(ActionCreatePreparedStatementResult::decode(any.value).unwrap())
}

pub(super) fn schema(encoded: &bytes::Bytes) -> Schema {
    IpcMessage(encoded.clone()).try_into().unwrap()
}

#[tokio::test]
async fn a_table_is_made_when_its_flight_info_returns_and_all_sessions_see_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), "a,b\n1,x\n").unwrap();
    let scheduler = scheduler(|_| {}).await;
    let (one, two) = (Client::keyless(&scheduler), Client::with_cookie(&scheduler, "two"));
    let location = folder.path().join("t.csv").display().to_string();
    for number in 0..20 {
        one.query(&format!("CREATE EXTERNAL TABLE t{number} STORED AS CSV LOCATION '{location}'")).await.unwrap();
    }
    let tables = two.show("SHOW TABLES").await.unwrap();
    assert!(tables.contains("t0") && tables.contains("t19"), "{tables}");
    let again = one.query(&format!("CREATE EXTERNAL TABLE t0 STORED AS CSV LOCATION '{location}'")).await.unwrap_err();
    assert!(again.message().contains("exists"), "{}", again.message());
}

#[tokio::test]
async fn errors_say_where_and_what() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    for (sql, part) in [
        ("SELEC 1", "SELEC"),
        ("SELECT *\nFROM missing", "missing"),
        ("SELECT nonsense FROM tpch.sf1.nation", "nonsense"),
        ("BEGIN", "transactions"),
        ("", "no statement"),
    ] {
        let error = client.query(sql).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{sql}: {}", error.message());
        assert!(error.message().contains(part), "{sql}: {}", error.message());
    }
    let long = format!("SELECT '{}'", "x".repeat(5 << 20));
    let error = client.query(&long).await.unwrap_err();
    assert!(error.message().contains("takes at most 4194304"), "{}", error.message());
}

#[tokio::test]
async fn an_explanation_shows_stages_as_text_and_json() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::with_cookie(&scheduler, "one");
    client.query("SET volley.fit = 'never'").await.unwrap();
    let sql = "SELECT l_returnflag, count(*) FROM tpch.sf1.lineitem GROUP BY l_returnflag";
    let text = client.show(&format!("EXPLAIN {sql}")).await.unwrap();
    assert!(text.contains("(root)") && text.contains("Hash("), "{text}");
    let json = client.show(&format!("EXPLAIN (FORMAT JSON) {sql}")).await.unwrap();
    assert!(json.contains("\"stage\": \"s0\""), "{json}");
}

#[tokio::test]
async fn a_prepared_statement_says_its_kind_and_its_parameters() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let query = prepare(&client, "SELECT n_name FROM tpch.sf1.nation WHERE n_nationkey = ? AND n_name <> ?").await.unwrap();
    assert_eq!(query.is_update, Some(false));
    assert_eq!(schema(&query.dataset_schema).field(0).data_type(), &DataType::Utf8);
    let parameters = schema(&query.parameter_schema);
    assert_eq!(parameters.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["$1", "$2"]);

    let update = prepare(&client, "CREATE SCHEMA s").await.unwrap();
    assert_eq!(update.is_update, Some(true));
    assert!(update.dataset_schema.is_empty(), "clients tell updates by an empty schema");
    assert!(!client.show("SHOW TABLES").await.unwrap().contains(" s "), "nothing is run by preparing");
    prepare(&client, "SELECT * FROM missing").await.unwrap_err();
}

#[tokio::test]
async fn arrow_flights_own_client_prepares_and_runs() {
    let scheduler = scheduler(|_| {}).await;
    let channel = volley_scheduler::net::channel(&scheduler.address().to_string()).unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_header("cookie", "volley_session=one");
    let mut prepared = client.prepare("SHOW volley.fit".into(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().fields().len(), 2);
    let info = prepared.execute().await.unwrap();
    assert_eq!(info.endpoint.len(), 1);
    prepared.close().await.unwrap();
    assert_eq!(client.execute_update("SET volley.fit = 'never'".into(), None).await.unwrap(), 0);
}

#[tokio::test]
async fn a_script_runs_statement_by_statement() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::with_cookie(&scheduler, "one");
    let command =
        CommandStatementUpdate { query: "CREATE SCHEMA a; CREATE SCHEMA b;\nSET volley.fit = 'never'".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let frame = FlightData { flight_descriptor: Some(descriptor), ..Default::default() };
    let mut results = client.service.clone().do_put(client.request(stream::iter([frame]))).await.unwrap().into_inner();
    let result = DoPutUpdateResult::decode(results.message().await.unwrap().unwrap().app_metadata).unwrap();
    assert_eq!(result.record_count, 0);
    assert!(client.show("SHOW volley.fit").await.unwrap().contains("never"));
    client.query("DROP SCHEMA b").await.unwrap();
}

#[tokio::test]
async fn a_schema_can_be_asked_for_without_running_anything() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let command = CommandStatementQuery { query: "SELECT n_name, n_nationkey FROM tpch.sf1.nation".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let answer = client.service.clone().get_schema(client.request(descriptor)).await.unwrap().into_inner();
    let schema = schema(&answer.schema);
    assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["n_name", "n_nationkey"]);
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
}

#[tokio::test]
async fn transactions_are_refused_in_so_many_words() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let action = Action {
        r#type: "BeginTransaction".into(),
        body: arrow_flight::sql::ActionBeginTransactionRequest {}.as_any().encode_to_vec().into(),
    };
    let refused = client.service.clone().do_action(client.request(action)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
