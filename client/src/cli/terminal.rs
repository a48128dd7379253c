//! What the terminal can do, and how messages look on it.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};

/// Where the size of the terminal is not known.
const SIZE: (usize, usize) = (80, 24);

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

impl Colour {
    /// Whether what goes to `stream` has colours.
    pub(crate) fn is_on(self, stream: &impl IsTerminal) -> bool {
        let plain = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || is_dumb();
        match self {
            Self::Auto => stream.is_terminal() && !plain(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Whether the terminal can't move its cursor.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Characters in a line, and lines.
pub(crate) fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(io::stdout()).or_else(|| terminal_size::terminal_size_of(io::stderr()));
    match size {
        // Some say 0 where they do not know.
        Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0.into(), height.0.into()),
        _ => SIZE,
    }
}

/// Whether the locale says that the terminal shows more than ASCII.
pub(crate) fn is_unicode() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default().to_ascii_lowercase();
    cfg!(windows) || locale.contains("utf-8") || locale.contains("utf8")
}

/// `text` in a style.
pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A message of an error, with its first word and the marks below its place in red.
pub(crate) fn painted_error(message: &str) -> String {
    let red = AnsiColor::Red.on_default().bold();
    let lines = message.lines().map(|line| match line.split_once(" | ") {
        Some((margin, marks)) if margin.trim().is_empty() && !marks.is_empty() && marks.chars().all(|c| c == ' ' || c == '^') => {
            format!("{margin} | {}", painted(red, marks))
        }
        _ => line.to_owned(),
    });
    format!("{} {}", painted(red, "error:"), lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_painted_and_the_text_is_not() {
        let message = "unknown column 'nme' (line 1, column 8)\n  |\n1 | SELECT nme\n  |        ^^^";
        let red = "\u{1b}[1m\u{1b}[31m";
        let expected =
            format!("{red}error:\u{1b}[0m unknown column 'nme' (line 1, column 8)\n  |\n1 | SELECT nme\n  | {red}       ^^^\u{1b}[0m");
        assert_eq!(painted_error(message), expected);
    }

    #[test]
    fn colours_are_for_terminals_unless_asked_for() {
        let file = tempfile::tempfile().unwrap();
        assert!(!Colour::Auto.is_on(&file) && Colour::Always.is_on(&file) && !Colour::Never.is_on(&file));
    }
}
