//! Failures as PostgreSQL's clients expect them: a SQLSTATE, a message, a hint, and where in the text.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use pgwire::error::ErrorInfo;
use tonic::Code;

use crate::error::ClientError;

/// SQLSTATEs that the gateway gives out by itself.
pub(super) mod state {
    pub(crate) const WARNING: &str = "01000";
    pub(crate) const UNSUPPORTED: &str = "0A000";
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const BAD_TEXT: &str = "22P02";
    pub(crate) const BAD_PARAMETER: &str = "22023";
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    pub(crate) const ALREADY_IN_TRANSACTION: &str = "25001";
    pub(crate) const NO_TRANSACTION: &str = "25P01";
    pub(crate) const FAILED_TRANSACTION: &str = "25P02";
    pub(crate) const NO_STATEMENT: &str = "26000";
    pub(crate) const NO_USER: &str = "28000";
    pub(crate) const WRONG_PASSWORD: &str = "28P01";
    pub(crate) const NO_PORTAL: &str = "34000";
    pub(crate) const NO_DATABASE: &str = "3D000";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const UNKNOWN_SETTING: &str = "42704";
    pub(crate) const TOO_MANY_CLIENTS: &str = "53300";
    pub(crate) const CANCELLED: &str = "57014";
    pub(crate) const STOPPING: &str = "57P01";
    pub(crate) const INTERNAL: &str = "XX000";
}

/// What a client is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The SQLSTATE.
    pub(super) state: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Line and column in the statement, in characters counted from 1.
    pub(super) place: Option<(usize, usize)>,
    /// In characters counted from 1, in the text that the client sent.
    pub(super) position: Option<usize>,
}

/// Why a message of a client was not answered to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told, and may go on.
    Refused(Box<Refusal>),
    /// There is nobody to tell.
    Gone,
}

/// The result of what may be refused.
pub(super) type Result<T, E = Stop> = std::result::Result<T, E>;

impl Refusal {
    pub(super) fn new(state: &'static str, message: impl Into<String>) -> Self {
        Self { state, message: message.into(), hint: None, place: None, position: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn cancelled() -> Self {
        Self::new(state::CANCELLED, "canceling statement due to user request")
    }

    /// The same refusal with its place as a position in the whole text, of which the statement begins `before` characters later.
    pub(super) fn within(mut self, statement: &str, before: usize) -> Self {
        if let Some((line, column)) = self.place.take() {
            let earlier: usize = statement.split('\n').take(line.saturating_sub(1)).map(|line| line.chars().count() + 1).sum();
            self.position = Some(before + earlier + column);
        }
        self
    }

    /// What the protocol sends of it.
    pub(super) fn into_info(self, severity: &str) -> ErrorInfo {
        let mut info = ErrorInfo::new(severity.to_owned(), self.state.to_owned(), self.message);
        info.severity_nonlocalized = Some(severity.to_owned());
        info.hint = self.hint;
        info.position = self.position.map(|position| position.to_string());
        info
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connection { .. } => Self::new("08006", error.to_string()),
            ClientError::Cancelled { message } => Self::new(state::CANCELLED, message),
            ClientError::Query { code, message } => of_message(code, &message),
            ClientError::Local(message) => of_message(Code::InvalidArgument, &message),
            ClientError::Protocol(_) | ClientError::Cluster(_) => Self::new(state::INTERNAL, error.to_string()),
        }
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
            return Self::new("53200", error.strip_backtrace());
        }
        let text = error.find_root().strip_backtrace();
        of_message(Code::InvalidArgument, text.split_once(": ").map_or(text.as_str(), |(_, message)| message))
    }
}

impl From<ArrowError> for Refusal {
    fn from(error: ArrowError) -> Self {
        of_message(Code::InvalidArgument, &error.to_string())
    }
}

/// The scheduler's words: what is wrong, hints behind semicolons, the place in brackets, and the line with a caret, which psql draws itself.
fn of_message(code: Code, text: &str) -> Refusal {
    let first = text.lines().next().unwrap_or_default();
    let (words, place) = match first.rsplit_once(" (line ") {
        Some((words, place)) => (words, place_of(place)),
        None => (first, None),
    };
    let (words, place) = if place.is_some() { (words, place) } else { (text, None) };
    let (message, hint) = match words.split_once("; ") {
        Some((message, hint)) => (message, Some(hint.to_owned())),
        None => (words, None),
    };
    Refusal { state: state_of(code, message), message: message.to_owned(), hint, place, position: None }
}

/// `2, column 5)`.
fn place_of(text: &str) -> Option<(usize, usize)> {
    let (line, column) = text.strip_suffix(')')?.split_once(", column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

fn state_of(code: Code, message: &str) -> &'static str {
    match code {
        Code::Cancelled => state::CANCELLED,
        Code::ResourceExhausted => "53000",
        Code::Unavailable => "58000",
        Code::Aborted => "40001",
        Code::FailedPrecondition => "55000",
        Code::Unauthenticated => state::NO_USER,
        Code::PermissionDenied => "42501",
        Code::Unimplemented => state::UNSUPPORTED,
        Code::DeadlineExceeded => state::CANCELLED,
        Code::InvalidArgument => of_query(&message.to_lowercase()),
        _ => state::INTERNAL,
    }
}

/// The SQLSTATE of a mistake in a statement, by the words that tell it apart. The first line that fits counts.
const OF_WORDS: &[(&str, &str)] = &[
    ("syntax error", state::SYNTAX),
    ("unterminated ", state::SYNTAX),
    ("unknown column", "42703"),
    ("no field named", "42703"),
    ("ambiguous", "42702"),
    ("statement timeout", state::CANCELLED),
    ("timed out", state::CANCELLED),
    ("exists already", "42P07"),
    ("already exists", "42P07"),
    ("schema '", "3F000"),
    ("there is no schema", "3F000"),
    ("catalog '", state::NO_DATABASE),
    ("there is no catalog", state::NO_DATABASE),
    ("physical plan does not support", state::UNSUPPORTED),
    ("invalid function", "42883"),
    ("unknown function", "42883"),
    ("no function matches", "42883"),
    ("failed to coerce arguments", "42883"),
    ("does not support", "42883"),
    ("must appear in group by", "42803"),
    ("inconsistent data length", state::SYNTAX),
    ("divide by zero", "22012"),
    ("division by zero", "22012"),
    ("overflow", state::OUT_OF_RANGE),
    ("out of range", state::OUT_OF_RANGE),
    ("too large", state::OUT_OF_RANGE),
    ("cannot cast", state::BAD_TEXT),
    ("error parsing", state::BAD_TEXT),
    ("parser error", state::BAD_TEXT),
    ("is not null", "23502"),
    ("not supported", state::UNSUPPORTED),
    ("not implemented", state::UNSUPPORTED),
    ("unsupported", state::UNSUPPORTED),
    ("is supported", state::UNSUPPORTED),
    ("nested more than", "54001"),
    ("there is no setting", state::UNKNOWN_SETTING),
    ("unknown setting", state::UNKNOWN_SETTING),
    ("unrecognized configuration parameter", state::UNKNOWN_SETTING),
    ("invalid value for parameter", state::BAD_PARAMETER),
    ("can't be '", state::BAD_PARAMETER),
    ("bytes, but the scheduler takes", "54000"),
    ("type", "42804"),
];

fn of_query(message: &str) -> &'static str {
    let is_of_table = message.contains("table") || message.contains("view") || message.contains("relation");
    if is_of_table && (message.contains("not found") || message.contains("does not exist")) {
        return "42P01";
    }
    OF_WORDS.iter().find(|(words, _)| message.contains(words)).map_or("42000", |(_, state)| state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Refusal {
        ClientError::Query { code: Code::InvalidArgument, message: message.into() }.into()
    }

    #[test]
    fn place_and_hint_leave_the_message() {
        let text = "unknown column 'l_quantiy'; did you mean 'l_quantity'? (line 2, column 5)\n  |\n2 | sum(l_quantiy)\n  |     ^^^^^^^^^";
        let refusal = refused(text).within("SELECT\nsum(l_quantiy)", 10);
        assert_eq!((refusal.state, refusal.message.as_str()), ("42703", "unknown column 'l_quantiy'"));
        assert_eq!(refusal.hint.as_deref(), Some("did you mean 'l_quantity'?"));
        assert_eq!(refusal.position, Some(10 + 7 + 5));
    }

    #[test]
    fn kinds_have_their_states() {
        for (message, state) in [
            ("table 'volley.public.t' not found (line 1, column 15)", "42P01"),
            ("syntax error: expected an expression, found EOF (line 1, column 7)", "42601"),
            ("PIVOT is not supported", "0A000"),
            ("Divide by zero error", "22012"),
            ("table 'public.nation' exists already", "42P07"),
            ("'nation.a' must appear in GROUP BY clause because it's not an aggregate expression", "42803"),
            ("the moon is in the wrong house", "42000"),
        ] {
            assert_eq!(refused(message).state, state, "{message}");
        }
        let cancelled: Refusal = ClientError::Cancelled { message: "job j7: cancelled".into() }.into();
        assert_eq!(cancelled.state, "57014");
    }
}
