//! The `volley` program as a test runs it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What the program left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The program with an environment that is the same everywhere.
pub(super) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volley"));
    command.args(arguments).env_clear().env("COLUMNS", "100").env("HOME", "/nowhere").env("TMPDIR", "/tmp").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(super) fn volley(arguments: &[&str]) -> Ended {
    command(arguments).output().unwrap().into()
}

/// Runs the program with a text on its standard input.
pub(super) fn volley_reading(arguments: &[&str], input: &str) -> Ended {
    let mut command = command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}
