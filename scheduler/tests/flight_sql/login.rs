//! Users that are known: who gets a token, and what it is good for.

use std::path::Path;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetCatalogs, CommandPreparedStatementQuery};
use arrow_flight::{BasicAuth, CancelFlightInfoRequest, CancelFlightInfoResult, HandshakeRequest};
use futures::stream;
use prost::Message;
use tonic::{Code, Status};
use volley_scheduler::{Components, Config, Scheduler, SchedulerHandle};

use super::executor::{FakeExecutor, Play};
use super::results::{SEVEN, seven};
use super::statements::prepare;
use super::{Client, scheduler};

/// "secret" at the lowest cost.
const ADA: &str = "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// The SHA-256 of "token".
const NIGHTLY: &str = "nightly:sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\n";

async fn guarded(folder: &Path) -> SchedulerHandle {
    let users = folder.join("users");
    let bob = ADA.replace("ada", "bob");
    std::fs::write(&users, format!("{ADA}{bob}{NIGHTLY}")).unwrap();
    scheduler(|config| config.users = Some(users)).await
}

/// Asks for a token with a header, a message, or neither.
async fn handshake(client: &Client, payload: Vec<u8>) -> Result<String, Status> {
    let request = client.request(stream::iter([HandshakeRequest { protocol_version: 0, payload: payload.into() }]));
    let answer = client.service.clone().handshake(request).await?;
    let token = answer.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    let body = answer.into_inner().message().await?.unwrap().payload;
    assert_eq!(token, format!("Bearer {}", std::str::from_utf8(&body).unwrap()));
    Ok(token)
}

async fn login(scheduler: &SchedulerHandle, name: &str) -> Client {
    let mut client = Client::keyless(scheduler);
    let auth = BasicAuth { username: name.into(), password: "secret".into() };
    let token = handshake(&client, auth.encode_to_vec()).await.unwrap();
    client.headers.insert("authorization", token);
    client
}

#[tokio::test]
async fn a_password_is_worth_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = guarded(folder.path()).await;
    let ada = login(&scheduler, "ada").await;
    ada.query("SET volley.weight = 7").await.unwrap();
    assert!(ada.show("SHOW volley.weight").await.unwrap().contains('7'));
    assert_eq!(handshake(&ada, vec![]).await.unwrap(), ada.headers["authorization"], "a handshake with a token gives it back");

    let mut client = Client::keyless(&scheduler);
    client.headers.insert("authorization", "Basic YWRhOnNlY3JldA".into());
    handshake(&client, vec![]).await.unwrap();
    let refused = client.info(CommandGetCatalogs {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "a password is for the handshake alone");

    let channel = volley_scheduler::net::channel(&scheduler.address().to_string()).unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.handshake("ada", "secret").await.unwrap();
    client.execute("SHOW volley.fit".into(), None).await.unwrap();
}

#[tokio::test]
async fn nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = guarded(folder.path()).await;
    let client = Client::keyless(&scheduler);
    let auth = |username: &str, password: &str| BasicAuth { username: username.into(), password: password.into() }.encode_to_vec();
    for payload in [vec![], auth("ada", "Secret"), auth("ada", ""), auth("eve", "secret"), auth("nightly", "token"), vec![0xff; 9]] {
        assert_eq!(handshake(&client, payload).await.unwrap_err().code(), Code::Unauthenticated);
    }
    for header in ["Bearer forged", "Basic YWRhOndyb25n", "Basic !", "Bearer", "secret"] {
        let mut client = Client::keyless(&scheduler);
        client.headers.insert("authorization", header.into());
        assert_eq!(handshake(&client, vec![]).await.unwrap_err().code(), Code::Unauthenticated, "{header}");
        assert_eq!(client.info(CommandGetCatalogs {}).await.unwrap_err().code(), Code::Unauthenticated, "{header}");
    }
    let mut client = Client::keyless(&scheduler);
    client.headers.insert("authorization", "Bearer token".into());
    client.info(CommandGetCatalogs {}).await.unwrap();
}

#[tokio::test]
async fn what_is_of_one_user_is_nothing_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = guarded(folder.path()).await;
    let _executor = FakeExecutor::start(&scheduler, "e1", |_| Play::Seal(seven())).await;
    let (ada, bob) = (login(&scheduler, "ada").await, login(&scheduler, "bob").await);
    let info = ada.query(SEVEN).await.unwrap();
    let refused = bob.read(info.endpoint[0].ticket.clone().unwrap()).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = CancelFlightInfoRequest { info: Some(info.clone()) };
    let refused = bob.act::<CancelFlightInfoResult>("CancelFlightInfo", request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(login(&scheduler, "ada").await.fetch(&info).await.unwrap(), [seven()], "another connection of the same user");

    let handle = prepare(&ada, SEVEN).await.unwrap().prepared_statement_handle;
    let execute = || CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    assert_eq!(bob.info(execute()).await.unwrap_err().code(), Code::PermissionDenied);
    ada.info(execute()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_can_not_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "ada:secret").unwrap();
    let config = Config { users: Some(users), ..Config::embedded() };
    let error = Scheduler::start(config, Components::default()).await.unwrap_err().to_string();
    assert!(error.contains("line 1 of the file of users"), "{error}");
}
