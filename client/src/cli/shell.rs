//! The prompt of `volley sql`.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use super::exit::Exit;
use super::sql::{Outcome, Session};
use super::{complain, failed, say, script};

const PROMPT: &str = "volley> ";
const HISTORY_LINES: usize = 10_000;

const HELP: &str = "\
Statements end with a semicolon and may span lines. Ctrl-C cancels a running statement, Ctrl-D leaves.

  \\?        this help
  \\d        list tables
  \\d NAME   list the columns of a table
  \\q        leave

Data to play with: SELECT * FROM tpch.sf1.lineitem LIMIT 5;";

/// What a line that starts with a backslash asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    Quit,
    Help,
    Tables,
    Columns(&'a str),
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (name, rest.trim()) {
            ("\\q", "") => Self::Quit,
            ("\\?" | "\\h", "") => Self::Help,
            ("\\d", "") => Self::Tables,
            ("\\d", table) => Self::Columns(table),
            _ => Self::Unknown(name),
        }
    }
}

type Prompt = Editor<Statements, DefaultHistory>;

/// Reads and runs statements until the user leaves.
pub(crate) async fn run(session: &mut Session) -> Exit {
    let mut prompt = match open() {
        Ok(prompt) => prompt,
        Err(error) => {
            complain(&format!("can't read from this terminal: {error}"));
            return Exit::Failed;
        }
    };
    say("Type SQL that ends with a semicolon, \\? for help, \\q to leave.");
    loop {
        // Reading blocks; the editor moves to a thread for that and comes back.
        let reading = tokio::task::spawn_blocking(move || {
            let line = prompt.readline(PROMPT);
            (prompt, line)
        });
        let line = match reading.await {
            Ok((back, line)) => {
                prompt = back;
                line
            }
            Err(error) => {
                complain(&format!("can't read from this terminal: {error}"));
                return Exit::Failed;
            }
        };
        match line {
            Ok(text) => {
                remember(&mut prompt, &text);
                if !obey(session, &text).await {
                    return Exit::Ok;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Exit::Ok,
            Err(error) => {
                complain(&format!("can't read from this terminal: {error}"));
                return Exit::Failed;
            }
        }
    }
}

/// Does what was typed; `false` to leave.
async fn obey(session: &mut Session, text: &str) -> bool {
    if !text.trim_start().starts_with('\\') {
        for statement in script::statements(text) {
            if !run_statement(session, statement.text).await {
                break;
            }
        }
        return true;
    }
    match Command::parse(text) {
        Command::Quit => return false,
        Command::Help => say(HELP),
        Command::Tables => {
            run_statement(session, "SHOW TABLES").await;
        }
        Command::Columns(table) => {
            run_statement(session, &format!("DESCRIBE {table}")).await;
        }
        Command::Unknown(name) => complain(&format!("unknown command {name}: \\? lists the commands")),
    }
    true
}

/// Runs a statement and says how it went; `false` if those after it should not run.
async fn run_statement(session: &mut Session, statement: &str) -> bool {
    match session.run(statement).await {
        Ok(Outcome::Done { rows, columns, elapsed, job }) => {
            let rows = match (columns, rows) {
                (0, _) => "done".to_owned(),
                (_, 1) => "1 row".to_owned(),
                (_, rows) => format!("{rows} rows"),
            };
            let job = job.map(|job| format!(", {job}")).unwrap_or_default();
            say(&format!("{rows} in {:.3} s{job}", elapsed.as_secs_f64()));
            true
        }
        Ok(Outcome::Interrupted) => {
            say("cancelled");
            false
        }
        Ok(Outcome::ReaderLeft) => false,
        Err(error) => {
            failed(&error);
            false
        }
    }
}

fn open() -> rustyline::Result<Prompt> {
    let config = Config::builder().max_history_size(HISTORY_LINES)?.history_ignore_dups(true)?.history_ignore_space(true).build();
    let mut prompt = Editor::with_config(config)?;
    prompt.set_helper(Some(Statements));
    if let Some(file) = history_file() {
        // The first start has no history.
        let _ = prompt.load_history(&file);
    }
    Ok(prompt)
}

/// Appends to the history at once: a crash loses nothing, and a second shell keeps its own lines.
fn remember(prompt: &mut Prompt, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    let written = prompt.add_history_entry(text).and_then(|added| match history_file() {
        Some(file) if added => {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            prompt.append_history(&file)
        }
        _ => Ok(()),
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the history could not be written");
    }
}

/// `$XDG_STATE_HOME/volley/history`.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("volley").join("history"))
}

/// Lets a statement span lines until its semicolon.
struct Statements;

impl Validator for Statements {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if script::is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for Statements {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Completer for Statements {
    type Candidate = String;
}

impl Hinter for Statements {
    type Hint = String;
}

impl Helper for Statements {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_start_with_a_backslash() {
        assert_eq!(Command::parse("\\q"), Command::Quit);
        assert_eq!(Command::parse("\\?;"), Command::Help);
        assert_eq!(Command::parse(" \\d"), Command::Tables);
        assert_eq!(Command::parse("\\d  tpch.sf1.lineitem ;"), Command::Columns("tpch.sf1.lineitem"));
        assert_eq!(Command::parse("\\dance"), Command::Unknown("\\dance"));
    }
}
