//! The file of settings: what its keys are, and what is wrong with it, by line.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use volley_sql::diagnostics::nearest;

use super::super::output::{Format, PagerUse};
use super::super::terminal::Colour;

/// What a file of settings says; `None` where it says nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) cluster: Option<String>,
    pub(crate) format: Option<Format>,
    pub(crate) timing: Option<bool>,
    pub(crate) rows: Option<usize>,
    pub(crate) pager: Option<PagerUse>,
    pub(crate) pager_command: Option<String>,
    pub(crate) color: Option<Colour>,
    pub(crate) progress: Option<bool>,
    pub(crate) history: Option<bool>,
    pub(crate) history_file: Option<PathBuf>,
    /// Options of the session, by name, that are set when it begins.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) embedded: Embedded,
    /// In which line each key is.
    pub(crate) lines: Vec<(&'static str, usize)>,
}

/// What the cluster inside this process is made of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Embedded {
    pub(crate) executors: Option<u16>,
    pub(crate) slots: Option<u16>,
    pub(crate) memory: Option<usize>,
    pub(crate) state_dir: Option<PathBuf>,
}

/// The keys of a file.
pub(super) const KEYS: [&str; 12] = [
    "cluster",
    "format",
    "timing",
    "rows",
    "pager",
    "pager_command",
    "color",
    "progress",
    "history",
    "history_file",
    "settings",
    "embedded",
];
const EMBEDDED_KEYS: [&str; 4] = ["executors", "slots", "memory", "state_dir"];

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct FileError {
    pub(crate) file: PathBuf,
    /// From 1; 0 where it is the file as such.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}, line {line}: {}", self.file.display(), self.message),
        }
    }
}

/// Reads a file; one that is not there says nothing.
pub(super) fn read(path: &Path) -> Result<File, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(FileError { file: path.to_owned(), line: 0, message: error.to_string() }),
    }
}

/// Understands the text of a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, FileError> {
    let line_of = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let wrong = |at: usize, message: String| FileError { file: path.to_owned(), line: line_of(at), message };
    let table = DeTable::parse(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut file = File::default();
    for (key, value) in table.get_ref() {
        let at = key.span().start;
        let Some(known) = KEYS.into_iter().find(|known| *known == &**key.get_ref()) else {
            return Err(wrong(at, unknown("key", key.get_ref(), &KEYS)));
        };
        file.set(known, value).map_err(|(place, message)| wrong(place.unwrap_or(at), message))?;
        file.lines.push((known, line_of(at)));
    }
    Ok(file)
}

/// What is wrong, and where in the text if not at the key.
type Wrong = (Option<usize>, String);

impl File {
    fn set(&mut self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<(), Wrong> {
        let here = |message| (None, message);
        match key {
            "cluster" => self.cluster = Some(text(key, value).map_err(here)?),
            "format" => self.format = Some(choice(key, value).map_err(here)?),
            "timing" => self.timing = Some(truth(key, value).map_err(here)?),
            "rows" => self.rows = Some(number(key, value, 0..=usize::MAX).map_err(here)?),
            "pager" => self.pager = Some(choice(key, value).map_err(here)?),
            "pager_command" => self.pager_command = Some(text(key, value).map_err(here)?),
            "color" => self.color = Some(choice(key, value).map_err(here)?),
            "progress" => self.progress = Some(truth(key, value).map_err(here)?),
            "history" => self.history = Some(truth(key, value).map_err(here)?),
            "history_file" => self.history_file = Some(text(key, value).map_err(here)?.into()),
            "embedded" => self.embedded = embedded(value)?,
            _ => self.settings = settings(value)?,
        }
        Ok(())
    }
}

fn embedded(value: &Spanned<DeValue<'_>>) -> Result<Embedded, Wrong> {
    let mut embedded = Embedded::default();
    for (key, value) in table("embedded", value)? {
        let at = |message| (Some(key.span().start), message);
        match &**key.get_ref() {
            name @ "executors" => embedded.executors = Some(number(name, value, 1..=64).map_err(at)? as u16),
            name @ "slots" => embedded.slots = Some(number(name, value, 1..=4096).map_err(at)? as u16),
            name @ "memory" => embedded.memory = Some(text(name, value).and_then(|text| super::super::args::size(&text)).map_err(at)?),
            name @ "state_dir" => embedded.state_dir = Some(text(name, value).map_err(at)?.into()),
            other => return Err(at(unknown("key of embedded", other, &EMBEDDED_KEYS))),
        }
    }
    Ok(embedded)
}

fn settings(value: &Spanned<DeValue<'_>>) -> Result<Vec<(String, String)>, Wrong> {
    let mut found = vec![];
    collect(String::new(), table("settings", value)?, &mut found)?;
    Ok(found)
}

/// `volley.fit` is one key in quotes, or a table in a table without.
fn collect(prefix: String, table: &DeTable<'_>, found: &mut Vec<(String, String)>) -> Result<(), Wrong> {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect(format!("{name}."), inner, found)?,
            DeValue::String(text) => found.push((name, text.to_string())),
            DeValue::Boolean(value) => found.push((name, value.to_string())),
            DeValue::Integer(value) => found.push((name, value.to_string())),
            DeValue::Float(value) => found.push((name, value.as_str().to_owned())),
            other => return Err((Some(key.span().start), expected(&name, other, "a text, a number, true or false"))),
        }
    }
    Ok(())
}

fn table<'a, 'i>(key: &str, value: &'a Spanned<DeValue<'i>>) -> Result<&'a DeTable<'i>, Wrong> {
    let table = value.get_ref().as_table();
    table.ok_or_else(|| (None, expected(key, value.get_ref(), &format!("a table: [{key}] and its keys below it"))))
}

fn text(key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    value.get_ref().as_str().map(str::to_owned).ok_or_else(|| expected(key, value.get_ref(), "a text in quotes"))
}

fn truth(key: &str, value: &Spanned<DeValue<'_>>) -> Result<bool, String> {
    value.get_ref().as_bool().ok_or_else(|| expected(key, value.get_ref(), "true or false"))
}

fn number(key: &str, value: &Spanned<DeValue<'_>>, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    let number = value.get_ref().as_integer().and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok());
    let wanted = || match *range.end() {
        usize::MAX => format!("a whole number from {}", range.start()),
        end => format!("a whole number from {} to {end}", range.start()),
    };
    number.filter(|number| range.contains(number)).ok_or_else(|| expected(key, value.get_ref(), &wanted()))
}

fn choice<T: ValueEnum>(key: &str, value: &Spanned<DeValue<'_>>) -> Result<T, String> {
    let names: Vec<String> = T::value_variants().iter().filter_map(T::to_possible_value).map(|value| value.get_name().to_owned()).collect();
    let given = value.get_ref().as_str();
    given.and_then(|given| T::from_str(given, true).ok()).ok_or_else(|| {
        let near = given.and_then(|given| nearest(given, names.iter().map(String::as_str)));
        let hint = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        format!("{}{hint}", expected(key, value.get_ref(), &format!("one of {}", names.join(", "))))
    })
}

fn expected(key: &str, value: &DeValue<'_>, wanted: &str) -> String {
    let shown = match value {
        DeValue::String(text) => format!("'{text}'"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("of type {}", other.type_str()),
    };
    format!("{key} is {shown}, expected {wanted}")
}

fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    match nearest(given, known.iter().copied()) {
        Some(near) => format!("unknown {what} '{given}'; did you mean '{near}'?"),
        None => format!("unknown {what} '{given}'; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<File, String> {
        parse(Path::new("config.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_understood() {
        let text = r#"
cluster = "http://scheduler:50050"
format = "vertical"
timing = false
rows = 1_000
pager = "never"
pager_command = "most -w"
color = "always"
progress = false
history = true
history_file = "/tmp/history"

[settings]
"volley.fit" = "never"
volley.max_partitions = 8
datafusion.sql_parser.dialect = "postgres"

[embedded]
executors = 2
slots = 4
state_dir = "/data/tables"
"#;
        let file = parsed(text).unwrap();
        let mut settings = file.settings.clone();
        settings.sort();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("datafusion.sql_parser.dialect", "postgres"), pair("volley.fit", "never"), pair("volley.max_partitions", "8")];
        assert_eq!(settings, expected);
        assert_eq!(file.cluster.as_deref(), Some("http://scheduler:50050"));
        assert_eq!((file.format, file.timing, file.rows), (Some(Format::Vertical), Some(false), Some(1000)));
        assert_eq!((file.pager, file.pager_command.as_deref(), file.color), (Some(PagerUse::Never), Some("most -w"), Some(Colour::Always)));
        assert_eq!((file.progress, file.history, file.history_file), (Some(false), Some(true), Some("/tmp/history".into())));
        let embedded = Embedded { executors: Some(2), slots: Some(4), memory: None, state_dir: Some("/data/tables".into()) };
        assert_eq!(file.embedded, embedded);
        assert!(file.lines.contains(&("cluster", 2)) && file.lines.contains(&("history_file", 11)), "{:?}", file.lines);
        assert_eq!(parsed("").unwrap(), File::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_would_be_right() {
        for (text, message) in [
            ("\nfomat = 'csv'", "config.toml, line 2: unknown key 'fomat'; did you mean 'format'?"),
            ("zzz = 1", "unknown key 'zzz'; there are cluster, format, timing, rows, pager, pager_command, "),
            ("format = 'vertikal'", "line 1: format is 'vertikal', expected one of table, vertical, csv, "),
            ("format = 'vertikal'", "none; did you mean 'vertical'?"),
            ("timing = 'yes'", "timing is 'yes', expected true or false"),
            ("rows = -1", "rows is -1, expected a whole number from 0"),
            ("cluster = 7", "cluster is 7, expected a text in quotes"),
            ("settings = 'a'", "settings is 'a', expected a table: [settings] and its keys below it"),
            ("[settings]\nx = [1]", "line 2: x is of type array, expected a text, a number, true or false"),
            ("[embedded]\n\nslot = 1", "line 3: unknown key of embedded 'slot'; did you mean 'slots'?"),
            ("[embedded]\nslots = 0", "line 2: slots is 0, expected a whole number from 1 to 4096"),
            ("rows = 1\nrows = 2", "line 2: duplicate key"),
            ("rows = ", "config.toml, line 1: "),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
