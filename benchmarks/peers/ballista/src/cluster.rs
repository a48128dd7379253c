//! The scheduler and the executors as child processes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peer_protocol::{Child, PeerError, Result};
use tempfile::TempDir;

use crate::{executor, scheduler};

/// How long all executors may take to be there.
const START: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// The part of the machine's memory that all executors together may take: an executor that is alone on its machine takes as much.
const MEMORY: f64 = 0.7;

/// A running cluster. It ends, and its folder goes, when this is dropped.
pub(crate) struct Cluster {
    // The executors go before their folder does.
    children: Vec<Child>,
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// Starts the processes, and waits until all executors are there. Their folders are in a new one below `work_dir`.
    pub(crate) fn start(executors: usize, work_dir: Option<&Path>) -> Result<Self> {
        let parent = work_dir.map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new().prefix("peer-ballista-").tempdir_in(&parent);
        let folder = folder.map_err(PeerError::at(format!("a folder in {}", parent.display())))?;
        let leader = Child::start(scheduler::ROLE, ["--executors".to_owned(), executors.to_string()])?;
        let port = leader.said().parse::<u16>().map_err(PeerError::at(format!("the scheduler's port {:?}", leader.said())))?;
        let mut cluster = Self { children: vec![leader], folder, port };
        let memory = (MEMORY / executors as f64).to_string();
        for number in 0..executors {
            let work_dir = cluster.folder.path().join(number.to_string()).display().to_string();
            let port = port.to_string();
            let arguments = ["--scheduler", &port, "--work-dir", &work_dir, "--memory", &memory];
            cluster.children.push(Child::start(executor::ROLE, arguments)?);
        }
        cluster.wait()?;
        Ok(cluster)
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("df://127.0.0.1:{}", self.port)
    }

    /// The scheduler's process and those of the executors.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(Child::id)
    }

    /// Where the executors' folders are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            self.children.iter_mut().try_for_each(Child::still_runs)?;
            let ready = ready(self.port);
            match ready {
                Ok(true) => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(ASK_AGAIN),
                Ok(false) => return Err(PeerError::new("the cluster", format!("not all executors are there after {START:?}"))),
                Err(error) => return Err(PeerError::new("asking the scheduler whether it is ready", error.to_string())),
            }
        }
    }
}

/// What the scheduler says to a load balancer: yes as soon as it has as many executors as it was told to wait for.
fn ready(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
