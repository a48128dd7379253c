//! Child processes: the same program in another role.
//!
//! A child says one line when it is ready. Its standard input is a pipe that nothing is ever written to: it ends when the parent does,
//! even when the parent is killed, and the child ends with it.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{self, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{PeerError, Result};

/// How long a child may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running child. It ends when this is dropped.
#[derive(Debug)]
pub struct Child {
    role: &'static str,
    process: process::Child,
    life: Option<ChildStdin>,
    said: String,
}

impl Child {
    /// Starts this program in a role, and waits for its line.
    pub fn start<A: AsRef<OsStr>>(role: &'static str, arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let program = std::env::current_exe().map_err(PeerError::at("the path of this program"))?;
        let mut command = Command::new(program);
        command.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(PeerError::at(format!("starting the {role}")))?;
        let (life, output) = (process.stdin.take(), process.stdout.take());
        // From here on it is ended where something fails.
        let mut child = Self { role, process, life, said: String::new() };
        let mut output = BufReader::new(output.ok_or_else(|| PeerError::new(format!("the {role}"), "it has no output"))?);
        output.read_line(&mut child.said).map_err(PeerError::at(format!("hearing the {role}")))?;
        if child.said.is_empty() {
            return Err(PeerError::new(format!("the {role}"), "it ended before it was ready"));
        }
        // Were the pipe closed, whatever the engine prints would be an error to it.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::stderr()));
        Ok(child)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The line that it said.
    pub fn said(&self) -> &str {
        self.said.trim_end()
    }

    /// An error where it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        let role = self.role;
        match self.process.try_wait().map_err(PeerError::at(format!("the {role}")))? {
            Some(status) => Err(PeerError::new(format!("the {role}"), format!("it ended with {status}"))),
            None => Ok(()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.life = None;
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        // Both fail only where it is gone already.
        drop(self.process.kill().and_then(|()| self.process.wait()));
    }
}

/// The role that this process was started in as a child.
pub fn role() -> Option<String> {
    let first = std::env::args_os().nth(1)?.into_string().ok()?;
    (!first.starts_with('-')).then_some(first)
}

/// In a child: the arguments of its role, behind the role in the place of the program's name.
pub fn role_arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

/// In a child: ends this process as soon as the parent lets go of it or is gone, after a last deed.
pub fn end_with_parent(last: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        // An end and an error say the same: nobody is there any more.
        drop(std::io::stdin().lock().read_to_end(&mut Vec::new()));
        last();
        process::exit(0);
    });
}

/// In a child: says the line that the parent waits for.
pub fn say(line: impl Display) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).map_err(PeerError::at("telling the parent"))
}
