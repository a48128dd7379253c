//! Another engine, behind a protocol of lines.
//!
//! `PROGRAM --data DIR --suite S --threads N` says when it is ready, in one line on standard output:
//! `{"engine": "what it is, with its settings", "pids": [1, 2]}`, the processes whose CPU time counts. Then each line on its standard
//! input, `{"sql": ".."}`, is answered when all rows are there, by `{"rows": 3}` or `{"error": ".."}`. It ends when its input does.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::data::Data;
use crate::error::{BenchError, Result};
use crate::usage::Processes;

/// How long a peer may take to start, and for a query.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How long it may take to end.
const FAREWELL: Duration = Duration::from_secs(30);

/// What a peer says first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    /// What it is, with its settings.
    pub engine: String,
    /// Whose CPU time counts.
    pub pids: Vec<u32>,
}

/// What a peer is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Question {
    /// One statement.
    pub sql: String,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    /// All rows came, so many.
    Rows(usize),
    /// Why they did not.
    Error(String),
}

/// A running peer.
#[derive(Debug)]
pub(super) struct Peer {
    name: String,
    child: Child,
    asks: Option<ChildStdin>,
    says: Receiver<String>,
    engine: String,
    processes: Processes,
}

impl Peer {
    /// Starts the program and waits until it is ready.
    pub(super) fn start(program: &Path, data: &Data, threads: usize) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.arg("--data").arg(&data.folder).arg("--suite").arg(data.suite.to_string()).arg("--threads").arg(threads.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(BenchError::file(program))?;
        let asks = child.stdin.take();
        let says = lines(child.stdout.take());
        let mut peer = Self { name, child, asks, says, engine: String::new(), processes: Processes::Others(vec![]) };
        let Hello { engine, pids } = peer.hear()?;
        peer.engine = engine;
        peer.processes = Processes::Others(pids);
        Ok(peer)
    }

    /// What it says that it is.
    pub(super) fn engine(&self) -> &str {
        &self.engine
    }

    /// Runs a query: seconds of wall time, seconds of CPU, and what it answers.
    pub(super) fn measure(&mut self, sql: &str) -> Result<(f64, Option<f64>, Reply)> {
        let question = serde_json::to_string(&Question { sql: sql.to_owned() }).map_err(|error| self.broken(error))?;
        let before = self.processes.usage(&[]);
        let started = Instant::now();
        let asked = match &mut self.asks {
            Some(asks) => writeln!(asks, "{question}").and_then(|()| asks.flush()),
            None => Ok(()),
        };
        asked.map_err(|error| self.broken(error))?;
        let reply = self.hear()?;
        let wall = started.elapsed().as_secs_f64();
        Ok((wall, self.processes.usage(&[]).cpu_since(&before), reply))
    }

    fn hear<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        match self.says.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line).map_err(|error| self.broken(format!("it said {line:?}: {error}"))),
            Err(RecvTimeoutError::Timeout) => Err(self.broken(format!("it said nothing for {PATIENCE:?}"))),
            Err(RecvTimeoutError::Disconnected) => Err(self.broken("it ended")),
        }
    }

    fn broken(&self, why: impl std::fmt::Display) -> BenchError {
        BenchError::Peer { peer: self.name.clone(), why: why.to_string() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the wish that it ends.
        self.asks = None;
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        tracing::warn!(peer = self.name, "it did not end by itself, and is killed");
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!(peer = self.name, %error, "it can't be killed");
        }
    }
}

/// The lines of a program's output, as they come.
fn lines(output: Option<impl std::io::Read + Send + 'static>) -> Receiver<String> {
    let (say, says) = channel();
    std::thread::spawn(move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
            // Either end may be gone first.
            if line.map_or(true, |line| say.send(line).is_err()) {
                return;
            }
        }
    });
    says
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    fn peer(script: &str) -> Result<Peer> {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("volley-peer-{}-{}", std::process::id(), script.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("peer");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = Data { suite: Suite::Tpch, folder: folder.clone(), tables: vec![] };
        let started = Peer::start(&program, &data, 2);
        std::fs::remove_dir_all(&folder).unwrap();
        started
    }

    #[test]
    fn a_peer_is_asked_and_answers() {
        let script = r#"echo "{\"engine\": \"echo $3 $4 $6\", \"pids\": [$$]}"
read -r line; echo '{"rows": 3}'
read -r line; echo '{"error": "no such table"}'"#;
        let mut peer = peer(script).unwrap();
        assert_eq!(peer.engine(), "echo --suite tpch 2");
        let (wall, cpu, reply) = peer.measure("SELECT 1").unwrap();
        assert!(wall > 0.0 && cpu.is_some());
        assert_eq!(reply, Reply::Rows(3));
        assert_eq!(peer.measure("SELECT\n2").unwrap().2, Reply::Error("no such table".into()));
        let ended = peer.measure("SELECT 3").unwrap_err().to_string();
        assert!(ended.starts_with("peer: "), "{ended}");
    }

    #[test]
    fn nonsense_is_named() {
        let error = peer("echo hello").unwrap_err().to_string();
        assert!(error.contains("it said \"hello\""), "{error}");
    }
}
