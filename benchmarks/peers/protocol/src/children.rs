//! Child processes: this very program in another role, for as long as its parent lives.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a child may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The children of this process. They end when this value is dropped, and when this process dies.
#[derive(Debug, Default)]
pub struct Children(Vec<Child>);

impl Children {
    /// Starts this program with other arguments.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        let program = std::env::current_exe().context("can't find this program")?;
        // Standard output is the protocol's alone; the pipe to standard input is what ties a child's life to ours.
        let child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(std::io::stderr()).spawn();
        self.0.push(child.with_context(|| format!("can't start {arguments:?}"))?);
        Ok(())
    }

    /// This process and its children.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(std::process::id()).chain(self.0.iter().map(Child::id)).collect()
    }

    /// Waits until `ready` is true. Fails if a child ends before, or when it takes too long.
    pub fn wait(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !ready() {
            for child in &mut self.0 {
                if let Some(status) = child.try_wait()? {
                    bail!("a child ended ({status}) before {what} was ready");
                }
            }
            if started.elapsed() > PATIENCE {
                bail!("{what} is not ready after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            if let Err(error) = child.wait() {
                eprintln!("can't wait for process {}: {error}", child.id());
            }
        }
    }
}

/// Ends this process when its parent closes the pipe, which it also does by dying.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let mut nothing = [0];
        while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
        std::process::exit(0);
    });
}

/// A port on loopback that is free now. The children are told theirs, so that nobody has to ask them.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("can't find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether somebody listens on a port of loopback.
pub fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}
