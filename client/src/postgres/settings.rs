//! PostgreSQL's own settings: those that clients set and ask for without meaning this engine.
//!
//! Three have an effect here ([`Effect`]); others are kept and shown. A value that would ask for another output than there is, is refused.
//! Names with a dot, such as `volley.results`, are the scheduler's and never come here.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::{Refusal, state};
use super::statement::Statement;

/// The release whose behaviour clients may expect. psql asks catalogs in the way of the release that a server says it is.
pub(super) const SERVER_VERSION: &str = "15.13";
const SERVER_VERSION_NUMBER: &str = "150013";

/// What may be done with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is kept and shown.
    Free,
    /// It takes values that begin with one of these, and always is the first.
    Only(&'static [&'static str]),
    /// It is shown.
    Shown,
}

/// Name, value at the start, what may be done with it.
type Known = (&'static str, &'static str, Kind);

const ISOLATION: Kind = Kind::Only(&["read committed", "read uncommitted", "repeatable read", "serializable"]);

const KNOWN: &[Known] = &[
    ("application_name", "", Kind::Free),
    ("array_nulls", "on", Kind::Free),
    ("backslash_quote", "safe_encoding", Kind::Free),
    ("block_size", "8192", Kind::Shown),
    ("bytea_output", "hex", Kind::Only(&["hex"])),
    ("check_function_bodies", "on", Kind::Free),
    ("client_encoding", "UTF8", Kind::Only(&["UTF8", "UTF-8", "UNICODE"])),
    ("client_min_messages", "notice", Kind::Free),
    ("DateStyle", "ISO, MDY", Kind::Only(&["ISO"])),
    ("default_table_access_method", "heap", Kind::Free),
    ("default_tablespace", "", Kind::Free),
    ("default_transaction_deferrable", "off", Kind::Free),
    ("default_transaction_isolation", "read committed", ISOLATION),
    ("default_transaction_read_only", "off", Kind::Only(&["off", "false", "0"])),
    ("enable_seqscan", "on", Kind::Free),
    ("escape_string_warning", "on", Kind::Free),
    ("extra_float_digits", "1", Kind::Free),
    ("idle_in_transaction_session_timeout", "0", Kind::Free),
    ("idle_session_timeout", "0", Kind::Free),
    ("in_hot_standby", "off", Kind::Shown),
    ("integer_datetimes", "on", Kind::Shown),
    ("IntervalStyle", "postgres", Kind::Only(&["postgres"])),
    ("is_superuser", "off", Kind::Shown),
    ("jit", "off", Kind::Free),
    ("lc_collate", "C", Kind::Shown),
    ("lc_ctype", "C", Kind::Shown),
    ("lc_messages", "C", Kind::Free),
    ("lc_monetary", "C", Kind::Free),
    ("lc_numeric", "C", Kind::Free),
    ("lc_time", "C", Kind::Free),
    ("lock_timeout", "0", Kind::Free),
    ("max_identifier_length", "63", Kind::Shown),
    ("max_index_keys", "32", Kind::Shown),
    ("quote_all_identifiers", "off", Kind::Free),
    ("role", "none", Kind::Only(&["none"])),
    ("row_security", "on", Kind::Free),
    ("search_path", "public", Kind::Free),
    ("server_encoding", "UTF8", Kind::Shown),
    ("server_version", SERVER_VERSION, Kind::Shown),
    ("server_version_num", SERVER_VERSION_NUMBER, Kind::Shown),
    ("session_authorization", "", Kind::Shown),
    ("ssl", "off", Kind::Shown),
    ("standard_conforming_strings", "on", Kind::Only(&["on", "true", "1"])),
    ("statement_timeout", "0", Kind::Free),
    ("synchronize_seqscans", "on", Kind::Free),
    ("synchronous_commit", "on", Kind::Free),
    ("TimeZone", "UTC", Kind::Free),
    ("transaction_deferrable", "off", Kind::Free),
    ("transaction_isolation", "read committed", ISOLATION),
    ("transaction_read_only", "off", Kind::Only(&["off", "false", "0"])),
    ("transaction_timeout", "0", Kind::Free),
    ("work_mem", "4MB", Kind::Free),
    ("xmloption", "content", Kind::Free),
];

/// Those that clients are told of at the start and when they change.
const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// The settings of a connection.
#[derive(Debug)]
pub(super) struct Settings(BTreeMap<&'static str, String>);

/// What a statement wants of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Another value, or the one at the start.
    Set { name: String, value: Option<String> },
    /// All as they were at the start.
    ResetAll,
    /// Something about transactions, which are none.
    Nothing,
    /// To see a value.
    Show { name: String },
}

/// What is to be done for a setting besides keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The first of these schemas that there is becomes the one of names without a schema.
    Schemas(Vec<String>),
    TimeZone(Option<String>),
    StatementTimeout {
        milliseconds: u64,
    },
}

impl Settings {
    pub(super) fn new(user: &str) -> Self {
        let mut settings = Self(KNOWN.iter().map(|(name, value, _)| (*name, (*value).to_owned())).collect());
        settings.0.insert("session_authorization", user.to_owned());
        settings
    }

    /// The value of a setting, whatever the case of its name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(known(name)?.0).map(String::as_str)
    }

    /// What clients are told at the start.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        REPORTED.iter().filter_map(|name| Some((*name, self.0.get(name)?.as_str())))
    }

    /// Whether clients are told when this one changes.
    pub(super) fn is_reported(name: &str) -> bool {
        REPORTED.contains(&name)
    }

    /// The full name of a setting, the value that it gets, and what else is to be done. Nothing is kept yet.
    pub(super) fn check(&self, name: &str, value: Option<&str>) -> Result<(&'static str, String, Effect), Refusal> {
        let unknown = || Refusal::new(state::UNKNOWN_SETTING, format!("unrecognized configuration parameter \"{name}\""));
        let (name, start, kind) = *known(name).ok_or_else(unknown)?;
        // At the start some drivers quote values as in SQL.
        let value = value.map(|value| value.trim_matches('\''));
        let new = value.unwrap_or(start).to_owned();
        let effect = match name {
            "search_path" => Effect::Schemas(schemas(&new)),
            "TimeZone" => Effect::TimeZone(value.map(str::to_owned)),
            "statement_timeout" => Effect::StatementTimeout { milliseconds: milliseconds(&new).ok_or_else(|| wrong(name, &new))? },
            _ => Effect::None,
        };
        match kind {
            Kind::Free => Ok((name, new, effect)),
            Kind::Shown => Err(Refusal::new("55P02", format!("parameter \"{name}\" cannot be changed"))),
            Kind::Only(values) => {
                let begins = |allowed: &&&str| new.get(..allowed.len()).is_some_and(|head| head.eq_ignore_ascii_case(allowed));
                match values.iter().find(begins) {
                    Some(_) => Ok((name, start.to_owned(), effect)),
                    None => Err(wrong(name, &new).with_hint(format!("the value that is supported is {start}"))),
                }
            }
        }
    }

    pub(super) fn keep(&mut self, name: &'static str, value: String) {
        self.0.insert(name, value);
    }

    /// The names of those that may be set.
    pub(super) fn changeable() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().filter(|(_, _, kind)| *kind != Kind::Shown).map(|(name, ..)| *name)
    }
}

fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))
}

fn wrong(name: &str, value: &str) -> Refusal {
    Refusal::new(state::BAD_PARAMETER, format!("invalid value for parameter \"{name}\": \"{value}\""))
}

/// The schemas of a search path that may be the cluster's.
fn schemas(path: &str) -> Vec<String> {
    let names = path.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    names.filter(|name| !matches!(name.as_str(), "" | "$user" | "pg_catalog" | "pg_temp")).collect()
}

/// `5s`, `200ms`, or milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// What a SET, RESET or SHOW wants; `None` where it is not about these settings.
pub(super) fn wish(statement: &Statement) -> Option<Wish> {
    let words: Vec<String> = (0..4).map(|index| statement.word(index)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["SET", "TRANSACTION" | "CONSTRAINTS", ..] | ["SET", "SESSION", "CHARACTERISTICS", ..] => Some(Wish::Nothing),
        ["SET", "TIME", "ZONE", _] => Some(set("TimeZone", statement, 3)),
        ["SET", "SESSION" | "LOCAL", "TIME", "ZONE"] => Some(set("TimeZone", statement, 4)),
        ["SET", "NAMES", ..] => Some(set("client_encoding", statement, 2)),
        ["SET", "SESSION", "AUTHORIZATION", _] => Some(Wish::Set { name: "session_authorization".into(), value: value(statement, 3) }),
        ["SET", "ROLE", ..] => Some(set("role", statement, 2)),
        ["SET", "SESSION" | "LOCAL", ..] => assignment(statement, 2),
        ["SET", ..] => assignment(statement, 1),
        ["RESET", "ALL", ..] => Some(Wish::ResetAll),
        ["RESET", "TIME", "ZONE", _] => Some(Wish::Set { name: "TimeZone".into(), value: None }),
        ["RESET", "SESSION", "AUTHORIZATION", _] => Some(Wish::Nothing),
        ["RESET", ..] if statement.lexemes.len() == 2 => Some(Wish::Set { name: name(statement, 1)?, value: None }),
        ["SHOW", "TRANSACTION", "ISOLATION", "LEVEL"] => Some(Wish::Show { name: "transaction_isolation".into() }),
        ["SHOW", "TIME", "ZONE", _] => Some(Wish::Show { name: "TimeZone".into() }),
        ["SHOW", ..] if statement.lexemes.len() == 2 => {
            let name = name(statement, 1)?;
            known(&name).map(|(name, ..)| Wish::Show { name: (*name).to_owned() })
        }
        _ => None,
    }
}

fn set(name: &str, statement: &Statement, at: usize) -> Wish {
    Wish::Set { name: name.to_owned(), value: value(statement, at) }
}

/// `name = value` or `name TO value`; a name of several parts is not one of these.
fn assignment(statement: &Statement, at: usize) -> Option<Wish> {
    let name = name(statement, at)?;
    let is_assigned = statement.lexemes.get(at + 1).is_some_and(|lexeme| lexeme.token == Token::Eq) || statement.word(at + 1) == "TO";
    is_assigned.then(|| Wish::Set { name, value: value(statement, at + 2) })
}

fn name(statement: &Statement, at: usize) -> Option<String> {
    match &statement.lexemes.get(at)?.token {
        Token::Word(word) => Some(word.value.clone()),
        _ => None,
    }
}

/// The rest of a statement as a value; `None` for DEFAULT.
fn value(statement: &Statement, at: usize) -> Option<String> {
    if matches!(statement.word(at).as_str(), "DEFAULT" | "LOCAL") && statement.lexemes.len() == at + 1 {
        return None;
    }
    let part = |token: &Token| match token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
        Token::Comma => ", ".into(),
        other => other.to_string(),
    };
    Some(statement.lexemes.get(at..)?.iter().map(|lexeme| part(&lexeme.token)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::statement::split;
    use super::*;

    fn wished(text: &str) -> Option<Wish> {
        wish(&split(text).pop().unwrap())
    }

    #[test]
    fn statements_about_settings_are_understood() {
        let set = |name: &str, value: &str| Some(Wish::Set { name: name.into(), value: Some(value.into()) });
        assert_eq!(wished("SET client_encoding TO 'UTF8'"), set("client_encoding", "UTF8"));
        assert_eq!(wished("set session search_path = a, \"B\""), set("search_path", "a, B"));
        assert_eq!(wished("SET extra_float_digits = 3"), set("extra_float_digits", "3"));
        assert_eq!(wished("SET TIME ZONE 'UTC'"), set("TimeZone", "UTC"));
        assert_eq!(wished("SET statement_timeout TO DEFAULT"), Some(Wish::Set { name: "statement_timeout".into(), value: None }));
        assert_eq!(wished("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), Some(Wish::Nothing));
        assert_eq!(wished("SET volley.results = 'eager'"), None);
        assert_eq!(wished("SHOW volley.results"), None);
        assert_eq!(wished("SHOW TABLES"), None);
        assert_eq!(wished("show server_version"), Some(Wish::Show { name: "server_version".into() }));
        assert_eq!(wished("SHOW TRANSACTION ISOLATION LEVEL"), Some(Wish::Show { name: "transaction_isolation".into() }));
    }

    #[test]
    fn values_are_checked() {
        let settings = Settings::new("ada");
        let check = |name: &str, value: &str| settings.check(name, Some(value)).map_err(|refusal| refusal.state);
        assert_eq!(check("datestyle", "iso, dmy"), Ok(("DateStyle", "ISO, MDY".into(), Effect::None)));
        assert_eq!(check("client_encoding", "'utf-8'"), Ok(("client_encoding", "UTF8".into(), Effect::None)));
        assert_eq!(check("DATESTYLE", "German"), Err("22023"));
        assert_eq!(check("client_encoding", "LATIN1"), Err("22023"));
        assert_eq!(check("server_version", "9"), Err("55P02"));
        assert_eq!(check("no_such_thing", "1"), Err("42704"));
        assert_eq!(check("statement_timeout", "2s").unwrap().2, Effect::StatementTimeout { milliseconds: 2000 });
        assert_eq!(check("search_path", "\"$user\", sf1").unwrap().2, Effect::Schemas(vec!["sf1".into()]));
        assert_eq!(settings.get("SESSION_AUTHORIZATION"), Some("ada"));
    }
}
