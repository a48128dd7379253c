//! `volley config`: which settings hold, and where each comes from.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ArgMatches;
use clap::parser::ValueSource;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::super::args::ConfigArgs;
use super::super::output::{Format, Out, ResultWriter};
use super::{File, Settings, file, place, variable};
use crate::error::{ClientError, Result};

/// The environment's name for a setting that has no flag.
const VARIABLES: [(&str, &[&str]); 2] = [("history_file", &["VOLLEY_HISTORY"]), ("pager_command", &["VOLLEY_PAGER"])];

/// Shows settings and their origins.
pub(crate) fn show(args: &ConfigArgs, read: &File, matches: &ArgMatches) -> Result<()> {
    let place = place().map(|(path, _)| path);
    let rows: Vec<[String; 3]> = rows(args, read, matches, place.as_ref());
    let column = |at: usize| Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row[at].as_str()))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("setting", column(0)), ("value", column(1)), ("from", column(2))])?;
    let mut writer = ResultWriter::new(args.display.format.unwrap_or(Format::Table), Out::stdout(None));
    writer.write(&batch)?;
    writer.out().end().map_err(|error| ClientError::Local(format!("standard output: {error}")))
}

fn rows(args: &ConfigArgs, read: &File, matches: &ArgMatches, place: Option<&PathBuf>) -> Vec<[String; 3]> {
    let settings = Settings::new(&args.display, read);
    let none = || "(none)".to_owned();
    let values = [
        ("cluster", args.cluster.clone().or_else(|| read.cluster.clone()).unwrap_or_else(|| "(embedded)".into())),
        ("format", settings.format.name()),
        ("timing", settings.timing.map_or_else(|| "at the prompt".into(), |timing| timing.to_string())),
        ("rows", settings.rows.to_string()),
        ("pager", name_of(&settings.pager)),
        ("pager_command", settings.pager_command.unwrap_or_else(|| "less".into())),
        ("color", name_of(&settings.color)),
        ("progress", settings.progress.to_string()),
        ("history", settings.history.is_some().to_string()),
        ("history_file", settings.history.map_or_else(none, |path| path.display().to_string())),
    ];
    let mut rows: Vec<[String; 3]> =
        values.into_iter().map(|(key, value)| [key.to_owned(), value, origin(key, read, matches, place)]).collect();
    let from_file = in_file("settings", read, place).unwrap_or_default();
    rows.extend(read.settings.iter().map(|(name, value)| [format!("settings.{name}"), value.clone(), from_file.clone()]));
    let from_flags = args.display.settings.iter();
    rows.extend(from_flags.map(|(name, value)| [format!("settings.{name}"), value.clone(), "--set".to_owned()]));
    rows
}

fn name_of<T: clap::ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Where the value of a setting comes from, as the user would find it.
fn origin(key: &str, read: &File, matches: &ArgMatches, place: Option<&PathBuf>) -> String {
    let flag = if key == "history" { "no_history" } else { key };
    match matches.try_contains_id(flag).is_ok().then(|| matches.value_source(flag)).flatten() {
        Some(ValueSource::CommandLine) => return format!("--{}", flag.replace('_', "-")),
        Some(ValueSource::EnvVariable) => return format!("VOLLEY_{}", key.to_uppercase()),
        _ => {}
    }
    let variables = VARIABLES.iter().find(|(name, _)| *name == key).map_or(&[][..], |(_, variables)| variables);
    if let Some(name) = variables.iter().find(|name| variable(name).is_some()) {
        return (*name).to_owned();
    }
    if let Some(line) = in_file(key, read, place) {
        return line;
    }
    if key == "pager_command" && variable("PAGER").is_some() {
        return "PAGER".to_owned();
    }
    debug_assert!(file::KEYS.contains(&key), "{key}");
    "built in".to_owned()
}

fn in_file(key: &str, read: &File, place: Option<&PathBuf>) -> Option<String> {
    let line = read.lines.iter().find(|(name, _)| *name == key).map(|(_, line)| *line)?;
    Some(format!("{}, line {line}", place?.display()))
}
