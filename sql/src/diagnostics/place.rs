//! Places in the text of a statement.

use std::fmt;

/// Longest part of a line that is shown around a place.
const SHOWN_COLUMNS: usize = 120;

/// Where in the text something is, in characters counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column of its first character.
    pub column: u64,
    /// Its characters, at least 1.
    pub width: u64,
}

impl Place {
    /// Behind the last character of the text that is no blank.
    pub(super) fn end_of(sql: &str) -> Self {
        let text = sql.trim_end();
        let last = text.lines().last().unwrap_or_default();
        Self { line: text.lines().count().max(1) as u64, column: last.chars().count() as u64 + 1, width: 1 }
    }

    /// The place as wide as the word that begins there.
    pub(super) fn widened(self, sql: &str) -> Self {
        let line = sql.lines().nth(self.line.saturating_sub(1) as usize).unwrap_or_default();
        let rest = line.chars().skip(self.column.saturating_sub(1) as usize);
        let width = rest.take_while(|c| c.is_alphanumeric() || *c == '_').count();
        Self { width: (width as u64).max(1), ..self }
    }
}

/// Splits the parser's `... at Line: 1, Column: 8` from its message, which loses its prefix as well.
pub(super) fn of_parser_error(text: &str) -> (String, Option<Place>) {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return (format!("syntax error: {}", fragment(text)), None);
    };
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>());
    let place = match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => Some(Place { line, column, width: 1 }),
        _ => None,
    };
    (format!("syntax error: {}", fragment(message)), place)
}

fn fragment(text: &str) -> String {
    text.replacen("Expected: ", "expected ", 1).replacen(", found: ", ", found ", 1)
}

/// Draws the line with a caret under the place; of a long line, the part around it.
pub(super) fn write_caret(f: &mut fmt::Formatter<'_>, place: Place, line: &str) -> fmt::Result {
    let column = place.column.saturating_sub(1) as usize;
    let skipped = column.saturating_sub(SHOWN_COLUMNS / 2);
    let shown: String = line.chars().skip(skipped).take(SHOWN_COLUMNS).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let shown = shown.trim_end();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(column - skipped);
    let width = (place.width as usize).min(shown.chars().count().saturating_sub(column - skipped)).max(1);
    write!(f, "\n{margin} |\n{number} | {shown}\n{margin} | {indent}{}", "^".repeat(width))
}
