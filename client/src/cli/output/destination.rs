//! Where results go: standard output, a terminal with its pager, or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::{Format, Pager, Screen};
use crate::cli::terminal;

/// Where results go. It remembers whether its reader went away: `volley sql ... | head` is no failure.
#[derive(Debug)]
pub(crate) struct Out {
    place: Place,
    /// What a terminal is read with; kept while results go to a file.
    pub(crate) pager: Option<Pager>,
    reader_left: bool,
    /// A file that holds one result holds no second one.
    is_full: bool,
}

#[derive(Debug)]
enum Place {
    Stdout,
    File(PathBuf, BufWriter<File>),
}

impl Out {
    /// Standard output, through a pager if it is a terminal.
    pub(crate) fn stdout(pager: Option<Pager>) -> Self {
        let pager = pager.filter(|_| io::stdout().is_terminal());
        Self { place: Place::Stdout, pager, reader_left: false, is_full: false }
    }

    /// Goes to a file from now on, which is made anew; to standard output without one.
    pub(crate) fn redirect(&mut self, file: Option<&Path>) -> io::Result<()> {
        self.flush()?;
        self.place = match file {
            Some(path) => Place::File(path.to_owned(), BufWriter::new(File::create(path)?)),
            None => Place::Stdout,
        };
        self.is_full = false;
        Ok(())
    }

    /// The file that results go to.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path, _) => Some(path),
            Place::Stdout => None,
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.place, Place::Stdout) && io::stdout().is_terminal()
    }

    /// What a table must fit on, with all of its rows; `None` where it is not for a screen.
    pub(crate) fn screen(&self) -> Option<Screen> {
        self.is_terminal().then(|| Screen { width: terminal::size().0, rows: 0, unicode: terminal::is_unicode() })
    }

    /// Begins a result; an error that says what to do where it can't go there.
    pub(crate) fn begin(&mut self, format: Format) -> Result<(), String> {
        if format.is_binary() {
            let name = format.name();
            if self.is_terminal() {
                return Err(format!(
                    "{name} is not for terminals: name a file with \\o FILE or --output FILE, or redirect standard output"
                ));
            }
            if std::mem::replace(&mut self.is_full, true) {
                let place = self.file().map_or_else(|| "standard output".into(), |path| path.display().to_string());
                return Err(format!("{place} has a result already, and {name} holds one in a file: name another file with \\o FILE"));
            }
        }
        if self.is_terminal()
            && let Some(pager) = &mut self.pager
        {
            let (columns, lines) = terminal::size();
            pager.begin((columns, lines));
        }
        Ok(())
    }

    /// Ends a result: waits until the user has left the pager.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let ended = match self.paged() {
            Some(pager) => pager.end(),
            None => self.flush(),
        };
        self.note(ended)
    }

    /// Forgets a reader that went away: the next result has another one.
    pub(crate) fn restart(&mut self) {
        self.reader_left = false;
    }

    pub(crate) fn reader_left(&self) -> bool {
        self.reader_left
    }

    fn paged(&mut self) -> Option<&mut Pager> {
        match self.place {
            Place::Stdout => self.pager.as_mut(),
            Place::File(..) => None,
        }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.reader_left |= error.kind() == io::ErrorKind::BrokenPipe;
        }
        result
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = match &mut self.place {
            Place::File(_, file) => file.write(bytes),
            Place::Stdout => match &mut self.pager {
                Some(pager) => pager.write(bytes),
                None => io::stdout().lock().write(bytes),
            },
        };
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = match &mut self.place {
            Place::File(_, file) => file.flush(),
            Place::Stdout => match &mut self.pager {
                Some(pager) => pager.flush(),
                None => io::stdout().lock().flush(),
            },
        };
        self.note(result)
    }
}
