//! A cluster of processes: a scheduler and two executors.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Mutex;
use volley_client::FlightClient;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes; they are killed when this is dropped.
pub(crate) struct Processes {
    url: String,
    scheduler: Child,
    executors: Vec<Child>,
    folder: TempDir,
}

static SHARED: Mutex<Weak<Processes>> = Mutex::const_new(Weak::new());

impl Processes {
    /// The processes that several tests share: those that run already, or new ones.
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    /// New processes, in a folder of their own.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let scheduler = scheduler(&url, &folder.path().join("state"));
        let mut processes = Self { url: url.clone(), scheduler, executors: vec![], folder };
        for executor in ["one", "two"] {
            let work = processes.folder.path().join(executor);
            let place = ["executor", "--scheduler", &url, "--listen", "127.0.0.1:0", "--work-dir", text(&work)];
            processes.executors.push(spawn(&[&place[..], &["--slots", "2", "--memory", "256MiB"]].concat()));
        }
        processes.ready().await;
        processes
    }

    /// Where the scheduler answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The scheduler's state, with the warehouse in it.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Kills the scheduler, and starts it again on the same state.
    pub(crate) async fn restart_scheduler(&mut self) {
        self.scheduler.kill().unwrap();
        self.scheduler.wait().unwrap();
        self.scheduler = scheduler(&self.url, &self.state());
        self.ready().await;
    }

    /// Waits until both executors take tasks.
    async fn ready(&self) {
        let client = self.connect().await;
        let registered = async {
            while client.executors().await.unwrap().len() < self.executors.len() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, registered).await.unwrap_or_else(|_| panic!("executors did not register"));
    }

    /// A session, as soon as the scheduler answers.
    pub(crate) async fn connect(&self) -> FlightClient {
        let connected = async {
            loop {
                match FlightClient::connect(&self.url).await {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.unwrap_or_else(|_| panic!("the scheduler does not answer"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.executors.iter_mut().chain([&mut self.scheduler]) {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn scheduler(url: &str, state: &Path) -> Child {
    let listen = url.trim_start_matches("http://");
    spawn(&["scheduler", "--listen", listen, "--http", "127.0.0.1:0", "--state-dir", text(state)])
}

fn spawn(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_volley")).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
