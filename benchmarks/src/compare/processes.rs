//! A cluster of processes on this machine, of the `volley` that lies beside this program.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use volley_client::FlightClient;

use super::choice::Shape;
use crate::error::{BenchError, Result};

const START: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A scheduler and executors, killed when dropped. What they keep is in a folder that goes with them.
#[derive(Debug)]
pub(crate) struct VolleyProcesses {
    children: Vec<Child>,
    address: String,
    folder: PathBuf,
}

impl VolleyProcesses {
    /// Starts them, and waits until all executors are there.
    pub(crate) async fn start(shape: Shape, memory_bytes: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe().map_err(BenchError::file("this program"))?.with_file_name("volley");
        let folder = std::env::temp_dir().join(format!("volley-bench-{}-{shape}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(BenchError::file(&folder))?;
        let address = free_address()?;
        let mut processes = Self { children: vec![], address, folder };
        let (address, state) = (processes.address.clone(), processes.folder.join("state"));
        processes.run(&program, "scheduler", |command| {
            command.args(["--listen", &address, "--http", "127.0.0.1:0", "--state-dir"]).arg(&state);
        })?;
        for number in 0..shape.executors.get() {
            let (listen, work) = (free_address()?, processes.folder.join(format!("work{number}")));
            let url = processes.url();
            processes.run(&program, "executor", |command| {
                command.args(["--scheduler", &url, "--listen", &listen, "--slots", &shape.slots.to_string(), "--work-dir"]).arg(&work);
                if let Some(bytes) = memory_bytes {
                    command.args(["--memory", &bytes.to_string()]);
                }
            })?;
        }
        processes.ready(shape.executors.get()).await?;
        Ok(processes)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whose CPU time counts: theirs, and this process's, which takes the rows.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).chain([std::process::id()]).collect()
    }

    fn run(&mut self, program: &Path, role: &str, arguments: impl FnOnce(&mut Command)) -> Result<()> {
        let log = self.folder.join(format!("{role}{}.log", self.children.len()));
        let file = std::fs::File::create(&log).map_err(BenchError::file(&log))?;
        let mut command = Command::new(program);
        command.arg(role).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        arguments(&mut command);
        self.children.push(command.spawn().map_err(BenchError::file(program))?);
        Ok(())
    }

    /// What they said, while their logs are there.
    fn said(&self) -> String {
        let logs = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>().join(" ")
    }

    async fn ready(&mut self, executors: usize) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let live = match FlightClient::connect(&self.url()).await {
                Ok(client) => client.executors().await.map_or(0, |executors| executors.len()),
                Err(_) => 0,
            };
            if live == executors {
                return Ok(());
            }
            if Instant::now() > deadline || self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None))) {
                let why = format!("{live} of {executors} executors are there; the processes said: {}", self.said());
                return Err(BenchError::Usage(why));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

impl Drop for VolleyProcesses {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                tracing::warn!(id = child.id(), %error, "a process of the cluster can't be ended");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "the folder of the cluster can't be removed");
        }
    }
}

/// An address of the loopback interface whose port nobody has at this moment.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::file("a free port"))?;
    Ok(listener.local_addr().map_err(BenchError::file("a free port"))?.to_string())
}
