//! What the line editor asks: whether a text is complete, how it looks, what may come next.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Context, Helper};

use super::commands::{self, Argument};
use super::complete::complete;
use super::names::Names;
use super::tokens::{Kind, Token, is_command, tokens};
use crate::cli::script;
use crate::cli::terminal::painted;

/// Helps to edit statements.
pub(super) struct Statements {
    pub(super) names: Names,
    pub(super) files: FilenameCompleter,
    pub(super) history: HistoryHinter,
    pub(super) has_colours: bool,
}

impl Helper for Statements {}

/// Lets a statement span lines until its semicolon.
impl Validator for Statements {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if script::is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Offers the rest of what was typed before.
impl Hinter for Statements {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, context: &Context<'_>) -> Option<String> {
        // The rest of several lines would move those that are being written.
        self.history.hint(line, at, context).filter(|hint| !hint.contains('\n'))
    }
}

impl Completer for Statements {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (before, after) = line.split_at(at);
        if is_command(before.trim_start()) {
            return self.complete_command(line, at, context);
        }
        // Keywords alone are no reason to wait for names, but nobody knows before that there are no others.
        let found = complete(before, after, &self.names.known());
        if found.is_path {
            return self.files.complete(line, at, context);
        }
        Ok((found.start, found.words.into_iter().map(pair).collect()))
    }
}

impl Statements {
    fn complete_command(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..at];
        let start = before.len() - before.trim_start().len();
        let Some((name, argument)) = before[start..].split_once(char::is_whitespace) else {
            return Ok((start, commands::names(&before[start..]).map(|name| pair(name.to_owned())).collect()));
        };
        let word = argument.rsplit(char::is_whitespace).next().unwrap_or_default();
        match commands::argument(name) {
            Argument::File => self.files.complete(line, at, context),
            Argument::Table => {
                // A table is named as after FROM.
                let lead = "FROM ";
                let found = complete(&format!("{lead}{word}"), "", &self.names.known());
                let words =
                    found.words.into_iter().filter(|name| name.chars().any(|c| c.is_lowercase()) && !super::keywords::is_keyword(name));
                let words = words.filter(|name| !name.ends_with('('));
                Ok((at - word.len() + found.start - lead.len(), words.map(pair).collect()))
            }
            Argument::Words(words) => {
                let fitting = words().into_iter().filter(|known| known.starts_with(word));
                Ok((at - word.len(), fitting.map(pair).collect()))
            }
            Argument::Other => Ok((at, vec![])),
        }
    }
}

fn pair(word: String) -> Pair {
    Pair { display: word.clone(), replacement: word }
}

impl Highlighter for Statements {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.has_colours {
            return Cow::Borrowed(line);
        }
        let tokens = tokens(line);
        let texts = tokens.iter().enumerate().map(|(at, token)| match style(token, tokens.get(at + 1)) {
            Some(style) => painted(style, token.text),
            None => token.text.to_owned(),
        });
        Cow::Owned(texts.collect())
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.has_colours { Cow::Owned(painted(AnsiColor::Cyan.on_default().bold(), prompt)) } else { Cow::Borrowed(prompt) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if self.has_colours { Cow::Owned(painted(Style::new().dimmed(), hint)) } else { Cow::Borrowed(hint) }
    }

    fn highlight_candidate<'c>(&self, candidate: &'c str, _: CompletionType) -> Cow<'c, str> {
        Cow::Borrowed(candidate)
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.has_colours && kind != CmdKind::MoveCursor
    }
}

/// How a piece of a statement looks.
fn style(token: &Token<'_>, next: Option<&Token<'_>>) -> Option<Style> {
    match token.kind {
        Kind::Keyword => Some(AnsiColor::Blue.on_default().bold()),
        Kind::Name if next.is_some_and(|next| next.text == "(" && next.start == token.end()) => Some(AnsiColor::Yellow.on_default()),
        Kind::Number => Some(AnsiColor::Magenta.on_default()),
        Kind::Text => Some(AnsiColor::Green.on_default()),
        Kind::Comment => Some(Style::new().dimmed()),
        Kind::Command => Some(AnsiColor::Cyan.on_default()),
        Kind::Name | Kind::Symbol | Kind::Blank => None,
    }
}
