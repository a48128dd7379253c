//! Commands of the shell: lines that start with a backslash as in psql, or with a dot.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use volley_proto::JobId;
use volley_sql::diagnostics::nearest;

use super::{editor, listing};
use crate::cli::config::at_home;
use crate::cli::exit::Exit;
use crate::cli::output::{Format, PagerUse};
use crate::cli::session::{Next, Session};
use crate::cli::{admin, complain, failed, say, sql};
use crate::error::Result;

/// How deep files may read one another.
const MAX_DEPTH: usize = 16;
/// Jobs that are listed.
const JOBS: u32 = 20;

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Help,
    Quit,
    Describe,
    Tables,
    Schemas,
    Functions,
    Show,
    Timing,
    Expanded,
    Format,
    Rows,
    Pager,
    Output,
    Read,
    Edit,
    Jobs,
    Job,
    Cancel,
    Executors,
    Connection,
}

/// What completes the argument of a command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument {
    Table,
    File,
    Words(fn() -> Vec<String>),
    Other,
}

struct Spec {
    verb: Verb,
    names: &'static [&'static str],
    takes: &'static str,
    about: &'static str,
    argument: Argument,
}

const fn spec(verb: Verb, names: &'static [&'static str], takes: &'static str, about: &'static str, argument: Argument) -> Spec {
    Spec { verb, names, takes, about, argument }
}

fn formats() -> Vec<String> {
    Format::value_variants().iter().map(|format| format.name()).collect()
}

fn pager_uses() -> Vec<String> {
    PagerUse::value_variants().iter().filter_map(|used| Some(used.to_possible_value()?.get_name().to_owned())).collect()
}

fn switches() -> Vec<String> {
    ["on", "off"].map(str::to_owned).into()
}

const SPECS: [Spec; 20] = [
    spec(Verb::Help, &["\\?", "\\h", "\\help", ".help"], "", "this help", Argument::Other),
    spec(Verb::Quit, &["\\q", "\\quit", ".quit", ".exit"], "", "leave; so do Ctrl-D, exit and quit", Argument::Other),
    spec(Verb::Describe, &["\\d", ".schema"], "[NAME]", "columns of a table; all tables where none is named", Argument::Table),
    spec(Verb::Tables, &["\\dt", ".tables"], "[PATTERN]", "tables, such as \\dt tpch.sf1.*", Argument::Table),
    spec(Verb::Schemas, &["\\dn", "\\l", ".databases"], "", "catalogs and schemas", Argument::Other),
    spec(Verb::Functions, &["\\df", ".functions"], "[PATTERN]", "functions, such as \\df date*", Argument::Other),
    spec(Verb::Format, &["\\f", "\\format", ".mode"], "[FORMAT]", "how results are written", Argument::Words(formats)),
    spec(Verb::Expanded, &["\\x"], "[on|off]", "one line a column, or a table again", Argument::Words(switches)),
    spec(Verb::Rows, &["\\rows", ".maxrows"], "[N]", "most rows of a table on the screen, 0 for all", Argument::Other),
    spec(Verb::Pager, &["\\pager", ".pager"], "[WHEN]", "auto, always (all rows and columns) or never", Argument::Words(pager_uses)),
    spec(Verb::Timing, &["\\timing", ".timer"], "[on|off]", "tell the time of each statement", Argument::Words(switches)),
    spec(Verb::Output, &["\\o", ".output"], "[FILE]", "write results to a file; back to the screen without one", Argument::File),
    spec(Verb::Read, &["\\i", ".read"], "FILE", "run the statements of a file", Argument::File),
    spec(Verb::Edit, &["\\e", ".edit"], "", "edit the last statement in $VISUAL or $EDITOR", Argument::Other),
    spec(Verb::Jobs, &["\\jobs", ".jobs"], "", "the newest jobs", Argument::Other),
    spec(Verb::Job, &["\\job", ".job"], "JOB", "a job, its stages and its plan", Argument::Other),
    spec(Verb::Cancel, &["\\cancel", ".cancel"], "JOB", "cancel a job", Argument::Other),
    spec(Verb::Executors, &["\\executors", ".executors"], "", "the executors", Argument::Other),
    spec(Verb::Show, &["\\set", ".show"], "", "what the shell is set to; SHOW ALL for the session", Argument::Other),
    spec(Verb::Connection, &["\\conninfo", ".connection"], "", "what this shell is connected to", Argument::Other),
];

const AROUND_HELP: [&str; 2] = [
    "Statements end with a semicolon and may span lines. Tab completes, Ctrl-R searches what was typed before,\n\
     Ctrl-C cancels a running statement, Ctrl-D leaves.\n",
    "\nData to play with: SELECT * FROM tpch.sf1.lineitem LIMIT 5;",
];

/// A command that is known, and what was given with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    verb: Verb,
    name: &'a str,
    argument: Option<&'a str>,
}

/// The names of commands that start like this.
pub(super) fn names(start: &str) -> impl Iterator<Item = &'static str> {
    SPECS.iter().flat_map(|spec| spec.names).copied().filter(move |name| name.starts_with(start))
}

/// What completes the argument of a command.
pub(super) fn argument(name: &str) -> Argument {
    find(name).map_or(Argument::Other, |spec| spec.argument)
}

fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.names.contains(&name))
}

fn help() -> String {
    let lines = SPECS.iter().map(|spec| {
        let name = format!("{} {}", spec.names[0], spec.takes);
        let others = spec.names[1..].iter().filter(|name| name.starts_with('.')).copied().collect::<Vec<_>>().join(" ");
        format!("  {name:<18} {others:<14} {}", spec.about)
    });
    let [before, after] = AROUND_HELP;
    format!("{before}\n{}\n{after}", lines.collect::<Vec<_>>().join("\n"))
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = Some(argument.trim()).filter(|argument| !argument.is_empty());
        match find(name) {
            Some(spec) => Ok(Self { verb: spec.verb, name, argument }),
            None => {
                let near = nearest(name, SPECS.iter().flat_map(|spec| spec.names).copied());
                let hint = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
                Err(format!("unknown command {name}: {hint}\\? lists the commands"))
            }
        }
    }

    /// Does what a line says.
    pub(crate) async fn obey(line: &str, session: &mut Session) -> Next {
        let done = match Command::parse(line) {
            Ok(command) => command.run(session).await,
            Err(message) => Err(message),
        };
        done.unwrap_or_else(|message| {
            complain(&message);
            Next::Stop(Exit::Failed)
        })
    }

    async fn run(&self, session: &mut Session) -> Result<Next, String> {
        let format = session.writer.format;
        let done = match self.verb {
            Verb::Help => {
                say(&help());
                Ok(())
            }
            Verb::Quit => return Ok(Next::Leave),
            Verb::Describe if self.argument.is_some() => {
                return Ok(session.run_own(&format!("DESCRIBE {}", self.argument.unwrap_or_default())).await);
            }
            Verb::Describe | Verb::Tables => {
                let next = session.run_own(&listing::tables(self.argument)).await;
                if self.argument.is_none() && session.manner.is_interactive {
                    say("generated tables: \\dt tpch.sf1.*, \\dt tpcds.sf1.*");
                }
                return Ok(next);
            }
            Verb::Schemas => return Ok(session.run_own(listing::SCHEMAS).await),
            Verb::Functions => return Ok(session.run_own(&listing::functions(self.argument)).await),
            Verb::Read => return self.read(session).await,
            Verb::Jobs => admin::show_jobs(&session.connection.client, JOBS, format, session.writer.out()).await,
            Verb::Job => admin::show_job(&session.connection.client, self.job()?, format, session.writer.out()).await,
            Verb::Cancel => admin::cancel_job(&session.connection.client, self.job()?, format, session.writer.out()).await,
            Verb::Executors => admin::show_executors(&session.connection.client, format, session.writer.out()).await,
            _ => {
                self.set(session)?;
                Ok(())
            }
        };
        Ok(done.map_or_else(|error| Next::Stop(failed(&error)), |()| Next::Go))
    }

    /// Changes a setting of the shell; says what it is now to who typed it or asks.
    fn set(&self, session: &mut Session) -> Result<(), String> {
        let asks = self.argument.is_none() && !matches!(self.verb, Verb::Expanded | Verb::Timing | Verb::Output);
        let answer = self.change(session)?;
        if asks || (session.manner.is_interactive && !session.manner.is_quiet) {
            say(&answer);
        }
        Ok(())
    }

    fn change(&self, session: &mut Session) -> Result<String, String> {
        let settings = &mut session.settings;
        match self.verb {
            Verb::Timing => {
                let is_on = self.switch(settings.timing.unwrap_or(session.manner.is_interactive))?;
                settings.timing = Some(is_on);
                Ok(format!("timing is {}", if is_on { "on" } else { "off" }))
            }
            Verb::Expanded => {
                let is_on = self.switch(session.writer.format == Format::Vertical)?;
                session.writer.format = if is_on { Format::Vertical } else { Format::Table };
                Ok(format!("format is {}", session.writer.format.name()))
            }
            Verb::Format => {
                if let Some(format) = self.argument {
                    session.writer.format = choice(format)?;
                }
                Ok(format!("format is {}", session.writer.format.name()))
            }
            Verb::Rows => {
                if let Some(rows) = self.argument {
                    settings.rows = rows.parse().map_err(|_| format!("'{rows}' is no number of rows: expected 0 for all, 40, ..."))?;
                }
                Ok(format!("rows is {}", settings.rows))
            }
            Verb::Pager => {
                if let Some(used) = self.argument {
                    settings.pager = choice(used)?;
                    let pager = session.writer.out().pager.as_mut();
                    pager.into_iter().for_each(|pager| pager.used = settings.pager);
                }
                Ok(format!("pager is {}", name_of(settings.pager)))
            }
            Verb::Output => self.redirect(session),
            Verb::Edit => {
                session.draft = Some(editor::edit(&session.last)?);
                Ok("edited: Enter runs it".to_owned())
            }
            Verb::Connection => Ok(session.connection.place()),
            _ => Ok(show(session)),
        }
    }

    /// `on`, `off`, or the opposite of what it was.
    fn switch(&self, was: bool) -> Result<bool, String> {
        match self.argument {
            None => Ok(!was),
            Some("on" | "true") => Ok(true),
            Some("off" | "false") => Ok(false),
            Some(other) => Err(format!("'{other}' is not a switch: expected {} on or {} off", self.name, self.name)),
        }
    }

    fn job(&self) -> Result<JobId, String> {
        let job = self.argument.ok_or_else(|| format!("which job? Expected {} JOB, such as {} j7", self.name, self.name))?;
        job.parse().map_err(|error| format!("{error}"))
    }

    fn redirect(&self, session: &mut Session) -> Result<String, String> {
        let file = self.argument.filter(|file| *file != "stdout").map(path);
        session.writer.out().redirect(file.as_deref()).map_err(|error| match &file {
            Some(file) => format!("can't write {}: {error}", file.display()),
            None => format!("the file can't be written to its end: {error}"),
        })?;
        Ok(file.map_or_else(|| "results go to the screen".into(), |file| format!("results go to {}", file.display())))
    }

    async fn read(&self, session: &mut Session) -> Result<Next, String> {
        let file = path(self.argument.ok_or_else(|| format!("which file? Expected {} FILE", self.name))?);
        if session.depth == MAX_DEPTH {
            return Err(format!("{} is not read: {MAX_DEPTH} files that read one another are open already", file.display()));
        }
        let text = sql::read(&file)?;
        session.depth += 1;
        let next = session.run_text(&text, Some(&file.display().to_string())).await;
        session.depth -= 1;
        Ok(next)
    }
}

/// A path as it was typed: the home of the user for `~`, quotes around it.
fn path(text: &str) -> PathBuf {
    let unquoted = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    at_home(Path::new(unquoted.unwrap_or(text)))
}

fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, true).map_err(|_| {
        let names: Vec<_> = T::value_variants().iter().filter_map(T::to_possible_value).map(|value| value.get_name().to_owned()).collect();
        let near = nearest(text, names.iter().map(String::as_str)).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        format!("'{text}' is not known here: expected one of {}{near}", names.join(", "))
    })
}

fn name_of(used: PagerUse) -> String {
    used.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn show(session: &mut Session) -> String {
    let output = session.writer.out().file().map_or_else(|| "(standard output)".into(), |file| file.display().to_string());
    let settings = &session.settings;
    let lines = [
        ("format", session.writer.format.name()),
        ("rows", settings.rows.to_string()),
        ("pager", name_of(settings.pager)),
        ("timing", settings.timing.unwrap_or(session.manner.is_interactive).to_string()),
        ("progress", settings.progress.to_string()),
        ("output", output),
        ("history", settings.history.as_ref().map_or_else(|| "(none)".into(), |file| file.display().to_string())),
        ("connection", session.connection.place()),
    ];
    lines.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_start_with_a_backslash_or_a_dot() {
        let parsed = |line| Command::parse(line).map(|command| (command.verb, command.argument));
        assert_eq!(parsed("\\q"), Ok((Verb::Quit, None)));
        assert_eq!(parsed("\\?;"), Ok((Verb::Help, None)));
        assert_eq!(parsed(" \\d"), Ok((Verb::Describe, None)));
        assert_eq!(parsed("\\d  tpch.sf1.lineitem ;"), Ok((Verb::Describe, Some("tpch.sf1.lineitem"))));
        assert_eq!(parsed(".mode csv"), Ok((Verb::Format, Some("csv"))));
        assert_eq!(parsed("\\tming on"), Err("unknown command \\tming: did you mean \\timing? \\? lists the commands".into()));
        assert_eq!(parsed("\\zzzzzz"), Err("unknown command \\zzzzzz: \\? lists the commands".into()));
    }

    #[test]
    fn each_name_is_of_one_command() {
        let mut names: Vec<_> = names("").collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn help_lists_every_command() {
        insta::assert_snapshot!(help());
    }

    #[test]
    fn choices_that_are_not_there_are_corrected() {
        assert_eq!(choice::<Format>("CSV"), Ok(Format::Csv));
        let error = choice::<Format>("tabel").unwrap_err();
        assert!(error.contains("expected one of table, vertical, ") && error.ends_with("; did you mean 'table'?"), "{error}");
    }

    #[test]
    fn paths_may_be_quoted() {
        assert_eq!(path("'a b.sql'"), PathBuf::from("a b.sql"));
    }
}
