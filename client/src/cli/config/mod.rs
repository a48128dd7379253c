//! Settings of the shell: flags before `VOLLEY_...` before the file before what is built in.

mod file;
mod show;

use std::path::{Path, PathBuf};

pub(crate) use file::File;
pub(crate) use show::show;

use super::args::DisplayArgs;
use super::output::{Format, PagerUse};
use super::terminal::Colour;

/// Most rows of a table on a terminal.
const ROWS: usize = 40;

/// What the shell goes by, with nothing left to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    /// Whether the time of each statement is told; at the prompt alone where not said.
    pub(crate) timing: Option<bool>,
    /// Most rows of a table on a terminal; 0 for all.
    pub(crate) rows: usize,
    pub(crate) pager: PagerUse,
    /// The pager's command line, if one is named.
    pub(crate) pager_command: Option<String>,
    pub(crate) color: Colour,
    pub(crate) progress: bool,
    /// Where what was typed is kept; `None` for nowhere.
    pub(crate) history: Option<PathBuf>,
    /// Options of the session that are set when it begins.
    pub(crate) settings: Vec<(String, String)>,
}

/// Reads the file of settings: `VOLLEY_CONFIG`, or the one in the user's folder for such files. The error is a message.
pub(crate) fn read_file() -> Result<File, String> {
    match place() {
        Some((path, is_named)) if is_named && !path.exists() => {
            Err(format!("{}: there is no such file, but VOLLEY_CONFIG names it", path.display()))
        }
        Some((path, _)) => file::read(&path).map_err(|error| error.to_string()),
        None => Ok(File::default()),
    }
}

/// Where the file is, and whether it was named.
fn place() -> Option<(PathBuf, bool)> {
    match variable("VOLLEY_CONFIG") {
        Some(path) => Some((path.into(), true)),
        None => Some((folder("XDG_CONFIG_HOME", ".config")?.join("volley").join("config.toml"), false)),
    }
}

/// `$variable`, or `default` in the user's home.
fn folder(variable: &str, default: &str) -> Option<PathBuf> {
    // The convention has paths that are not absolute ignored.
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    set.or_else(|| std::env::home_dir().map(|home| home.join(default)))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `$XDG_STATE_HOME/volley/history`.
fn default_history() -> Option<PathBuf> {
    Some(folder("XDG_STATE_HOME", ".local/state")?.join("volley").join("history"))
}

impl Settings {
    /// What holds, all taken together.
    pub(crate) fn new(args: &DisplayArgs, file: &File) -> Self {
        let history_file = variable("VOLLEY_HISTORY").map(PathBuf::from).or_else(|| file.history_file.clone().map(|path| at_home(&path)));
        let keeps_history = !args.no_history && file.history.unwrap_or(true);
        let pager_command = variable("VOLLEY_PAGER").or_else(|| file.pager_command.clone()).or_else(|| variable("PAGER"));
        let mut settings = file.settings.clone();
        settings.extend(args.settings.iter().cloned());
        Self {
            format: args.format.or(file.format).unwrap_or_default(),
            timing: args.timing.or(file.timing),
            rows: args.rows.or(file.rows).unwrap_or(ROWS),
            pager: args.pager.or(file.pager).unwrap_or_default(),
            pager_command,
            color: args.color.or(file.color).unwrap_or_default(),
            progress: args.progress.or(file.progress).unwrap_or(true),
            history: if keeps_history { history_file.or_else(default_history) } else { None },
            settings,
        }
    }
}

/// A path with the user's home in place of `~`.
pub(crate) fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_file_and_the_file_before_what_is_built_in() {
        let file = File { format: Some(Format::Csv), rows: Some(7), timing: Some(true), ..File::default() };
        let built_in = Settings::new(&DisplayArgs::default(), &File::default());
        assert_eq!((built_in.format, built_in.rows, built_in.timing), (Format::Table, ROWS, None));
        let of_file = Settings::new(&DisplayArgs::default(), &file);
        assert_eq!((of_file.format, of_file.rows, of_file.timing), (Format::Csv, 7, Some(true)));
        let args = DisplayArgs { format: Some(Format::Json), timing: Some(false), ..DisplayArgs::default() };
        let of_flags = Settings::new(&args, &file);
        assert_eq!((of_flags.format, of_flags.rows, of_flags.timing), (Format::Json, 7, Some(false)));
        let no_history = Settings::new(&DisplayArgs { no_history: true, ..DisplayArgs::default() }, &file);
        assert_eq!(no_history.history, None);
    }

    #[test]
    fn options_of_flags_come_after_those_of_the_file() {
        let pair = |value: &str| ("volley.fit".to_owned(), value.to_owned());
        let file = File { settings: vec![pair("auto")], ..File::default() };
        let args = DisplayArgs { settings: vec![pair("never")], ..DisplayArgs::default() };
        assert_eq!(Settings::new(&args, &file).settings, [pair("auto"), pair("never")]);
    }
}
