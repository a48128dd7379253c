//! Sessions: who may change what, and who sees it.

use arrow_flight::HandshakeRequest;
use arrow_flight::sql::CommandGetSqlInfo;
use futures::stream;
use tonic::Code;
use volley_proto::wire::action;
use volley_proto::wire::flight::session_option_value::OptionValue;
use volley_proto::wire::flight::{
    CloseSessionRequest, CloseSessionResult, GetSessionOptionsRequest, GetSessionOptionsResult, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};

use super::{Client, scheduler};

#[tokio::test]
async fn a_setting_lasts_in_its_session_and_in_no_other() {
    let scheduler = scheduler(|_| {}).await;
    let (one, two) = (Client::with_cookie(&scheduler, "one"), Client::with_cookie(&scheduler, "two"));
    one.query("SET volley.fit = 'never'").await.unwrap();
    assert!(one.show("SHOW volley.fit").await.unwrap().contains("never"));
    assert!(two.show("SHOW volley.fit").await.unwrap().contains("auto"));
}

#[tokio::test]
async fn without_a_key_nothing_can_be_set_and_the_answer_says_how_to_get_one() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::keyless(&scheduler);
    let refused = client.query("SET volley.fit = 'never'").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("with_cookie_middleware"), "{}", refused.message());
    let cookie = refused.metadata().get("set-cookie").expect("a refusal brings a cookie too").to_str().unwrap().to_owned();

    let mut client = client;
    client.headers.insert("cookie", cookie);
    client.query("SET volley.fit = 'never'").await.unwrap();
    assert!(client.show("SHOW volley.fit").await.unwrap().contains("never"));
    let answer = client.info_response(CommandGetSqlInfo { info: vec![] }).await.unwrap();
    assert!(answer.metadata().get("set-cookie").is_none(), "who has a cookie gets no other");
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_the_right_ones() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::with_cookie(&scheduler, "one");
    let refused = client.query("SET volley.fit = 'sometimes'").await.unwrap_err();
    assert!(refused.message().contains("'auto', 'never', 'always'"), "{}", refused.message());
    let refused = client.query("SET volley.fitt = 'never'").await.unwrap_err();
    assert!(refused.message().contains("volley.fit"), "{}", refused.message());
}

#[tokio::test]
async fn a_handshake_gives_a_token_that_is_a_session() {
    let scheduler = scheduler(|_| {}).await;
    let mut client = Client::keyless(&scheduler);
    client.headers.insert("authorization", "Basic YWRhOnM".into());
    let request = client.request(stream::iter([HandshakeRequest::default()]));
    let answer = client.service.clone().handshake(request).await.unwrap();
    let token = answer.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    assert!(token.starts_with("Bearer "));
    client.headers.insert("authorization", token);
    client.query("SET volley.weight = 7").await.unwrap();
    assert!(client.show("SHOW volley.weight").await.unwrap().contains('7'));

    let request = Client::keyless(&scheduler).request(stream::iter([HandshakeRequest::default()]));
    client.service.clone().handshake(request).await.expect("nobody has to say who he is");
}

#[tokio::test]
async fn session_options_are_set_got_and_forgotten_by_actions() {
    let scheduler = scheduler(|_| {}).await;
    let client = Client::with_cookie(&scheduler, "one");
    let text = |text: &str| SessionOptionValue { option_value: Some(OptionValue::StringValue(text.into())) };
    let number = SessionOptionValue { option_value: Some(OptionValue::Int64Value(3)) };
    let session_options = [
        ("volley.fit".to_owned(), text("never")),
        ("volley.weight".to_owned(), number),
        ("catalog".to_owned(), text("tpch")),
        ("nonsense".to_owned(), text("1")),
        ("volley.queue".to_owned(), text("")),
    ];
    let request = SetSessionOptionsRequest { session_options: session_options.into() };
    let result: SetSessionOptionsResult = client.act(action::SET_SESSION_OPTIONS, request).await.unwrap();
    let refused: Vec<_> = result.errors.iter().map(|(name, error)| (name.as_str(), error.value)).collect();
    assert_eq!(refused, [("nonsense", 1), ("volley.queue", 2)]);

    let got: GetSessionOptionsResult = client.act(action::GET_SESSION_OPTIONS, GetSessionOptionsRequest {}).await.unwrap();
    let value = |name: &str| got.session_options[name].option_value.clone();
    assert_eq!(value("volley.fit"), Some(OptionValue::StringValue("never".into())));
    assert_eq!(value("volley.weight"), Some(OptionValue::StringValue("3".into())));
    assert_eq!(value("catalog"), Some(OptionValue::StringValue("tpch".into())));

    let closed: CloseSessionResult = client.act(action::CLOSE_SESSION, CloseSessionRequest {}).await.unwrap();
    assert_eq!(closed.status, 1);
    assert!(client.show("SHOW volley.fit").await.unwrap().contains("auto"));
}
