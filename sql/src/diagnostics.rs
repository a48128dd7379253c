//! Errors as the user sees them: what is wrong, where in the text, and what was probably meant.
//!
//! ```text
//! unknown column 'l_quantiy'; did you mean 'l_quantity'? (line 2, column 5)
//!   |
//! 2 | sum(l_quantiy)
//!   |     ^^^^^^^^^
//! ```

use std::collections::HashSet;
use std::fmt;

use datafusion::common::{DataFusionError, Diagnostic, SchemaError, Span};
use volley_proto::{Failure, Remedy};

mod place;
mod remedy;

pub use place::Place;
pub use remedy::failure_of;

/// Why a statement was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong, as one fragment.
    pub message: String,
    /// What was probably meant, and other advice.
    pub hints: Vec<String>,
    /// What is to be done about it.
    pub remedy: Remedy,
    located: Option<Box<Located>>,
}

/// A place, with the line that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Located {
    place: Place,
    line: String,
}

impl SqlError {
    /// The user's mistake, nowhere in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: vec![], remedy: Remedy::Query, located: None }
    }

    /// An error of the engine while it handled `sql`.
    pub fn of(error: &DataFusionError, sql: &str) -> Self {
        let failure = failure_of(error);
        if let DataFusionError::SQL(parser, _) = error.find_root() {
            let (message, place) = place::of_parser_error(&parser.to_string());
            let place = place.map(|place| place.widened(sql));
            let end = || message.ends_with("found EOF").then(|| Place::end_of(sql));
            let place = place.or_else(end);
            return Self::new(message).at(place, sql);
        }
        let diagnostic = error.diagnostic();
        let (message, hints) = describe(error, diagnostic, &failure);
        let place = diagnostic.and_then(|diagnostic| diagnostic.span).map(Place::from);
        Self { message, hints, remedy: failure.remedy, located: None }.at(place, sql)
    }

    /// Where in the text it is, if that is known.
    pub fn place(&self) -> Option<Place> {
        self.located.as_ref().map(|located| located.place)
    }

    /// The same error with its place in `sql`.
    pub fn at(mut self, place: Option<Place>, sql: &str) -> Self {
        let line = |place: Place| sql.lines().nth(place.line.saturating_sub(1) as usize).map(str::to_owned);
        self.located = place.and_then(|place| Some(Box::new(Located { place, line: line(place)? })));
        self
    }

    /// The same error with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for hint in &self.hints {
            write!(f, "; {hint}")?;
        }
        if let Some(Located { place, line }) = self.located.as_deref() {
            write!(f, " (line {}, column {})", place.line, place.column)?;
            place::write_caret(f, *place, line)?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self { remedy: error.remedy.clone(), message: error.to_string() }
    }
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> Self {
        Self { remedy: failure.remedy, ..Self::new(failure.message) }
    }
}

/// The message and advice of an error: our own words where the engine's are long, else its own.
fn describe(error: &DataFusionError, diagnostic: Option<&Diagnostic>, failure: &Failure) -> (String, Vec<String>) {
    if let DataFusionError::SchemaError(schema, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
    {
        let mut names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        return (format!("unknown column '{}'", field.flat_name()), column_hints(&field.name, &names));
    }
    let mut helps: Vec<String> = vec![];
    if let Some(diagnostic) = diagnostic {
        helps.extend(diagnostic.helps.iter().map(|help| first_lower(&help.message)).chain(near_function(diagnostic)));
    }
    match diagnostic {
        Some(diagnostic) => (first_lower(&diagnostic.message), helps),
        None => (without_tree(&failure.message).unwrap_or_else(|| failure.message.clone()), helps),
    }
}

/// What the engine says of a part of a statement that it does not know, without the dump of its syntax tree.
fn without_tree(message: &str) -> Option<String> {
    let (_, tree) = message.split_once("Unsupported ast node ")?;
    let name: String = tree.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!name.is_empty()).then(|| format!("{} is not supported", in_words(&name)))
}

/// The name of a kind of statement as it is written in one: `CREATE FUNCTION` of `CreateFunction`.
pub(crate) fn in_words(name: &str) -> String {
    let mut words = String::new();
    for (place, c) in name.chars().enumerate() {
        if place > 0 && c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_uppercase());
    }
    words
}

/// The nearest name, or all of them where they are few.
fn column_hints(name: &str, names: &[&str]) -> Vec<String> {
    match nearest(name, names.iter().copied()) {
        Some(near) => vec![format!("did you mean '{near}'?")],
        None if names.is_empty() => vec![],
        None if names.len() <= 8 => vec![format!("the columns are {}", names.join(", "))],
        None => vec![format!("there are {} columns, such as {}", names.len(), names[..4].join(", "))],
    }
}

/// The function that was meant, where the engine's guess is near: it always has one.
fn near_function(diagnostic: &Diagnostic) -> Option<String> {
    let quoted = |text: &str, before: &str| text.strip_prefix(before)?.strip_suffix('\'').map(str::to_owned);
    let name = quoted(&diagnostic.message, "Invalid function '")?;
    let guess = diagnostic.notes.iter().find_map(|note| quoted(&note.message, "Possible function '"))?;
    nearest(&name, [guess.as_str()]).map(|near| format!("did you mean '{near}'?"))
}

/// A sentence as a fragment; a word that is all capitals stays.
fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        let width = if span.end.line == span.start.line { span.end.column.saturating_sub(span.start.column) } else { 1 };
        Self { line: span.start.line, column: span.start.column, width: width.max(1) }
    }
}

/// The candidate that `name` is probably a misspelling of.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = vec![];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_trees_are_not_shown() {
        let message =
            "This feature is not implemented: Unsupported ast node Pivot { table: Table { name: ObjectName([]) } } in create_relation";
        assert_eq!(without_tree(message).as_deref(), Some("PIVOT is not supported"));
        assert_eq!(without_tree("division by zero"), None);
        assert_eq!(in_words("CreateFunction"), "CREATE FUNCTION");
    }
}
