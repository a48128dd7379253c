//! How a conversation begins: no encryption, who it is, what database, settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup};
use pgwire::messages::{PgWireBackendMessage as Send, PgWireFrontendMessage as Sent, ProtocolVersion, SslNegotiationMetaMessage};
use tonic::Code;

use super::cancel::{Connections, Named};
use super::error::{Refusal, Result, Stop, state};
use super::flight;
use super::session::Session;
use super::socket::Socket;
use crate::error::ClientError;
use crate::flight::FlightClient;

/// How long a client may take until it is known.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// A name that clients give when nobody gave them one.
const ANY_DATABASE: &str = "postgres";

/// Talks to a new client until it is known; `None` for one that only came to cancel something.
pub(super) async fn greet(socket: &mut Socket, url: &str, connections: &Arc<Connections>) -> Result<Option<(Session, Named)>> {
    let Some(startup) = first_message(socket, connections).await? else { return Ok(None) };
    negotiate(socket, &startup).await?;
    socket.codec_mut().started();
    let parameters = startup.parameters;
    let user = parameters.get("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Refusal::new(state::NO_USER, "no PostgreSQL user name specified in startup packet"))?;
    if parameters.get("replication").is_some_and(|value| !matches!(value.as_str(), "false" | "off" | "no" | "0")) {
        return Err(Refusal::new(state::UNSUPPORTED, "replication is not supported").into());
    }
    let client = FlightClient::connect(url).await?;
    authenticate(socket, &client, user, &connections.are_asked).await?;
    let named = connections.name();
    let mut session = Session::new(client, user, named.pid);
    choose_database(&session, &parameters, user).await?;
    session.set_time_zone(None).await?;
    apply(&mut session, &parameters).await?;
    session.changed.clear();
    socket.feed(Send::Authentication(Authentication::Ok)).await?;
    let reported: Vec<_> = session.settings.lock().reported().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in reported {
        socket.feed(Send::ParameterStatus(ParameterStatus::new(name, value))).await?;
    }
    socket.feed(Send::BackendKeyData(BackendKeyData::new(named.pid, SecretKey::I32(named.secret)))).await?;
    Ok(Some((session, named)))
}

/// Refuses encryption, which a client then goes on without or does not, and cancels.
async fn first_message(socket: &mut Socket, connections: &Connections) -> Result<Option<Startup>> {
    loop {
        match socket.next().await.transpose().map_err(malformed)? {
            Some(Sent::SslNegotiation(SslNegotiationMetaMessage::PostgresSsl(_))) => {
                socket.send(Send::SslResponse(SslResponse::Refuse)).await?;
            }
            Some(Sent::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_))) => {
                socket.send(Send::GssEncResponse(GssEncResponse::Refuse)).await?;
            }
            Some(Sent::CancelRequest(request)) => {
                connections.cancel(&request);
                return Ok(None);
            }
            Some(Sent::Startup(startup)) => return Ok(Some(startup)),
            Some(_) => return Err(Refusal::new(state::PROTOCOL, "expected a startup message").into()),
            None => return Err(Stop::Gone),
        }
    }
}

/// What can't be decoded ends the conversation.
pub(super) fn malformed(error: std::io::Error) -> Stop {
    match error.kind() {
        std::io::ErrorKind::InvalidData => Refusal::new(state::PROTOCOL, format!("invalid message: {error}")).into(),
        _ => Stop::Gone,
    }
}

/// Version 3.0 is spoken; a client that would speak a later 3 is told so.
async fn negotiate(socket: &mut Socket, startup: &Startup) -> Result<()> {
    let (major, minor) = (startup.protocol_number_major, startup.protocol_number_minor);
    if major != 3 {
        return Err(Refusal::new(state::UNSUPPORTED, format!("unsupported frontend protocol {major}.{minor}: server supports 3.0")).into());
    }
    let extensions: Vec<String> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor > 0 || !extensions.is_empty() {
        let answer = NegotiateProtocolVersion::new(ProtocolVersion::PROTOCOL3_0.into(), extensions);
        socket.send(Send::NegotiateProtocolVersion(answer)).await?;
    }
    Ok(())
}

/// Names the user to the scheduler. The client is asked for a password only where the scheduler asks for one.
async fn authenticate(socket: &mut Socket, client: &FlightClient, user: &str, are_asked: &AtomicBool) -> Result<()> {
    if !are_asked.load(Ordering::Relaxed) {
        match flight::authenticate(client, user, "").await {
            Err(error) if is_refused(&error) => are_asked.store(true, Ordering::Relaxed),
            other => return Ok(other?),
        }
    }
    socket.send(Send::Authentication(Authentication::CleartextPassword)).await?;
    let password = match socket.next().await.transpose().map_err(malformed)? {
        Some(Sent::PasswordMessageFamily(message)) => {
            let unreadable = |_| Refusal::new(state::PROTOCOL, "the password can't be read");
            message.into_password().map_err(unreadable)?.password
        }
        Some(_) => return Err(Refusal::new(state::PROTOCOL, "expected a password").into()),
        None => return Err(Stop::Gone),
    };
    flight::authenticate(client, user, &password).await.map_err(|error| {
        if is_refused(&error) {
            Refusal::new(state::WRONG_PASSWORD, format!("password authentication failed for user \"{user}\""))
        } else {
            Refusal::from(error)
        }
    })?;
    Ok(())
}

fn is_refused(error: &ClientError) -> bool {
    matches!(error, ClientError::Query { code: Code::Unauthenticated | Code::PermissionDenied, .. })
}

/// A database is a catalog of the cluster. Clients that were not told one name their user.
async fn choose_database(session: &Session, parameters: &BTreeMap<String, String>, user: &str) -> Result<()> {
    let wanted = parameters.get("database").map_or(user, String::as_str);
    let catalogs = flight::catalogs(&session.client).await?;
    if catalogs.iter().any(|catalog| catalog == wanted) {
        let schemas = flight::schemas(&session.client, wanted).await?;
        let first = schemas.iter().find(|schema| *schema == "public").or(schemas.first());
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let name = first.map_or_else(|| quoted(wanted), |schema| format!("{}.{}", quoted(wanted), quoted(schema)));
        session.client.execute(&format!("USE {name}")).await?;
    } else if wanted != user && wanted != ANY_DATABASE && !wanted.is_empty() {
        let refusal = Refusal::new(state::NO_DATABASE, format!("database \"{wanted}\" does not exist"));
        return Err(refusal.with_hint(format!("the databases are {}", catalogs.join(", "))).into());
    }
    Ok(())
}

/// Settings that come with the start, by themselves or in `options`.
async fn apply(session: &mut Session, parameters: &BTreeMap<String, String>) -> Result<()> {
    let options = parameters.get("options").map(|options| of_options(options)).unwrap_or_default();
    let own = parameters.iter().filter(|(name, _)| !matches!(name.as_str(), "user" | "database" | "options" | "replication"));
    let own = own.filter(|(name, _)| !name.starts_with("_pq_."));
    let all: Vec<(String, String)> = own.map(|(name, value)| (name.clone(), value.clone())).chain(options).collect();
    for (name, value) in all {
        if name.contains('.') {
            session.client.execute(&format!("SET {name} = '{}'", value.replace('\'', "''"))).await?;
            continue;
        }
        match session.set(&name, Some(&value)).await {
            // Drivers name the zone of their machine without being asked; which one counts is told to them.
            Err(Stop::Refused(_)) if name.eq_ignore_ascii_case("TimeZone") => {}
            other => other?,
        }
    }
    Ok(())
}

/// `-c name=value --name=value`.
fn of_options(options: &str) -> Vec<(String, String)> {
    let mut words = options.split_whitespace();
    let mut found = vec![];
    while let Some(word) = words.next() {
        let assignment = match word {
            "-c" => words.next(),
            word => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        };
        if let Some((name, value)) = assignment.and_then(|assignment| assignment.split_once('=')) {
            found.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_forms() {
        let pairs = of_options("-c search_path=sf1 --statement-timeout=5s -cgeqo=off -x");
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("search_path", "sf1"), ("statement_timeout", "5s"), ("geqo", "off")]);
    }
}
