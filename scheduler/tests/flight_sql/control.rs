//! Executors register, or are told why not.

use std::time::Duration;

use volley_proto::control::{Command, Notice};
use volley_proto::wire::action;
use volley_proto::wire::client::v1::{ExecutorList, ExecutorState, ExecutorsRequest};
use volley_sql::build_id;

use super::executor::{Connection, registration};
use super::{Client, scheduler};

#[tokio::test]
async fn an_executor_of_this_build_is_welcomed_and_listed() {
    let scheduler = scheduler(|_| {}).await;
    let mut connection = Connection::open(&scheduler, 1, registration("e1")).await;
    let welcome = connection.next().await.expect("an answer");
    assert_eq!(welcome.term, scheduler.term());
    assert!(matches!(welcome.command, Command::Welcome(_)));
    let client = Client::keyless(&scheduler);
    let list: ExecutorList = client.act(action::EXECUTORS, ExecutorsRequest {}).await.unwrap();
    assert_eq!(list.executors.len(), 1);
    assert_eq!((list.executors[0].executor.as_str(), list.executors[0].state()), ("e1", ExecutorState::Live));
    assert_eq!(scheduler.live_executors().await, 1);
}

#[tokio::test]
async fn an_executor_of_another_build_is_refused_with_both_named() {
    let scheduler = scheduler(|_| {}).await;
    let mut foreign = registration("e1");
    foreign.build_id = "0.0.9".into();
    let mut connection = Connection::open(&scheduler, 1, foreign).await;
    match connection.next().await.expect("an answer").command {
        Command::Refused { reason, retry } => {
            assert!(reason.contains("0.0.9") && reason.contains(&build_id()), "{reason}");
            assert!(!retry);
        }
        other => panic!("{other:?}"),
    }
    assert!(connection.next().await.is_none(), "a refusal ends the stream");
    assert_eq!(scheduler.live_executors().await, 0);
}

#[tokio::test]
async fn a_first_message_that_registers_nobody_is_refused() {
    let scheduler = scheduler(|_| {}).await;
    let mut connection = Connection::open_with(&scheduler, 1, Notice::Draining).await;
    assert!(matches!(connection.next().await.expect("an answer").command, Command::Refused { .. }));
    assert!(connection.next().await.is_none());
}

#[tokio::test]
async fn a_second_life_takes_the_place_of_the_first() {
    let scheduler = scheduler(|_| {}).await;
    let mut first = Connection::open(&scheduler, 1, registration("e1")).await;
    first.next().await.expect("a welcome");
    let mut second = Connection::open(&scheduler, 2, registration("e1")).await;
    assert!(matches!(second.next().await.expect("a welcome").command, Command::Welcome(_)));
    let ended = tokio::time::timeout(Duration::from_secs(10), async { while first.next().await.is_some() {} }).await;
    assert!(ended.is_ok(), "the first life's stream ends");
    assert_eq!(scheduler.live_executors().await, 1);
}

#[tokio::test]
async fn a_shutdown_ends_the_streams() {
    let scheduler = scheduler(|_| {}).await;
    let mut connection = Connection::open(&scheduler, 1, registration("e1")).await;
    connection.next().await.expect("a welcome");
    scheduler.shutdown().await.unwrap();
    assert!(connection.next().await.is_none());
}
