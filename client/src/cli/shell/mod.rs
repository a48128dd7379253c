//! The prompt of `volley sql`.

mod commands;
mod complete;
mod editor;
mod helper;
mod history;
mod keywords;
mod listing;
mod names;
mod tokens;

use std::io;

use rustyline::completion::FilenameCompleter;
use rustyline::error::ReadlineError;
use rustyline::hint::HistoryHinter;
use rustyline::history::DefaultHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

pub(crate) use commands::Command;
use helper::Statements;
use history::HistoryFile;
pub(crate) use names::Names;

use super::exit::Exit;
use super::session::{Next, Session};
use super::{complain, say, script};

const PROMPT: &str = "volley> ";
const HISTORY_LINES: usize = 10_000;
/// Candidates that are listed without asking.
const CANDIDATES: usize = 120;

type Prompt = Editor<Statements, DefaultHistory>;

/// Reads and runs statements until the user leaves.
pub(crate) async fn run(session: &mut Session) -> Exit {
    match converse(session).await {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&format!("can't read from this terminal: {error}"));
            Exit::Failed
        }
    }
}

async fn converse(session: &mut Session) -> rustyline::Result<()> {
    let history = HistoryFile::new(session.settings.history.clone());
    let mut prompt = open(session)?;
    history.load(prompt.history_mut());
    say("Type SQL that ends with a semicolon, \\? for help, \\q to leave.");
    loop {
        let draft = session.draft.take().unwrap_or_default();
        // Reading blocks; the editor moves to a thread for that and comes back.
        let reading = tokio::task::spawn_blocking(move || {
            let line = prompt.readline_with_initial(PROMPT, (&draft, ""));
            (prompt, line)
        });
        let (back, line) = reading.await.map_err(io::Error::other)?;
        prompt = back;
        match line {
            Ok(text) => {
                history.keep(prompt.history_mut(), &text);
                if script::is_leaving(&text) || session.run_text(&text, None).await == Next::Leave {
                    return Ok(());
                }
                if script::items(&text).iter().any(|item| matches!(item, script::Item::Statement(_))) {
                    session.last = text;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn open(session: &Session) -> rustyline::Result<Prompt> {
    let has_colours = session.settings.color.is_on(&io::stdout());
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .completion_prompt_limit(CANDIDATES)
        .tab_stop(4)
        .color_mode(if has_colours { ColorMode::Forced } else { ColorMode::Disabled })
        .build();
    let mut prompt = Editor::with_config(config)?;
    let names = session.names.clone().unwrap_or_else(|| Names::new(session.connection.client.clone()));
    prompt.set_helper(Some(Statements { names, files: FilenameCompleter::new(), history: HistoryHinter::new(), has_colours }));
    Ok(prompt)
}
