//! What does not fit on the screen goes through a pager.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The pager that is used where none is named, and how it is told to leave short results on the screen and long lines whole.
const PAGER: &str = "less";
const LESS: &str = "SRFX";

/// When results go through a pager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum PagerUse {
    /// Where a result does not fit on the screen
    #[default]
    Auto,
    /// For every result, with all rows and columns of it
    Always,
    /// Not at all
    Never,
}

/// A result on its way to the screen: held back until it is known whether it fits.
#[derive(Debug)]
pub(crate) struct Pager {
    pub(crate) used: PagerUse,
    command: String,
    /// Characters in a line, and lines.
    screen: (usize, usize),
    state: State,
}

#[derive(Debug)]
enum State {
    Held { bytes: Vec<u8>, lines: usize, column: usize },
    Open(Child, ChildStdin),
    Screen,
}

impl State {
    const EMPTY: Self = Self::Held { bytes: Vec::new(), lines: 0, column: 0 };
}

impl Pager {
    /// `command` is a line for the system's shell; `less` where it is not given.
    pub(crate) fn new(used: PagerUse, command: Option<&str>) -> Self {
        Self { used, command: command.unwrap_or(PAGER).trim().to_owned(), screen: (0, 0), state: State::EMPTY }
    }

    /// Begins a result for a screen of so many characters and lines.
    pub(super) fn begin(&mut self, screen: (usize, usize)) {
        self.screen = screen;
        // Without a pager there is nothing to wait for.
        let is_used = self.used != PagerUse::Never && !self.command.is_empty() && self.command != "cat";
        self.state = if is_used { State::EMPTY } else { State::Screen };
    }

    /// Ends a result: waits until the user has left the pager.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::EMPTY) {
            State::Held { bytes, .. } => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()
            }
            State::Open(mut child, input) => {
                drop(input);
                child.wait().map(drop)
            }
            State::Screen => io::stdout().lock().flush(),
        }
    }

    /// Shows what was held back, in the pager if there is one.
    fn open(&mut self, held: &[u8]) -> io::Result<()> {
        let mut command = if self.command == PAGER {
            Command::new(PAGER)
        } else {
            let mut command = Command::new("sh");
            command.arg("-c").arg(&self.command);
            command
        };
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        let started = command.stdin(Stdio::piped()).spawn();
        let opened = started.ok().and_then(|mut child| child.stdin.take().map(|input| (child, input)));
        let Some((child, mut input)) = opened else {
            // A system without a pager shows all of it.
            self.state = State::Screen;
            return io::stdout().lock().write_all(held);
        };
        let written = input.write_all(held);
        self.state = State::Open(child, input);
        written
    }
}

impl Write for Pager {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Held { bytes, lines, column } => {
                bytes.extend_from_slice(new);
                let mut widest = 0;
                for byte in new {
                    match byte {
                        b'\n' => (*lines, *column) = (*lines + 1, 0),
                        // Bytes that continue a character take no room of their own.
                        0x80..=0xBF => {}
                        _ => *column += 1,
                    }
                    widest = widest.max(*column);
                }
                // The prompt and the line that says how it went need room as well.
                let fits = widest <= self.screen.0 && *lines + 2 < self.screen.1;
                if self.used == PagerUse::Always || !fits {
                    let held = std::mem::take(bytes);
                    self.open(&held)?;
                }
                Ok(new.len())
            }
            State::Open(_, input) => input.write(new),
            State::Screen => io::stdout().lock().write(new),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Held { .. } => Ok(()),
            State::Open(_, input) => input.flush(),
            State::Screen => io::stdout().lock().flush(),
        }
    }
}
