//! What was typed on the command line or set in the environment.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io, thread};

use volley_proto::ExecutorId;
use volley_sql::parse_bytes;

use super::{Config, ConfigError, DRAIN_GRACE, ORPHAN_GRACE};
use crate::memory::memory_limit;
use crate::work_dir::create_in;

/// Share of the process's memory limit that is used when `--memory` is not given, in per cent.
const DEFAULT_MEMORY_PERCENT: u64 = 70;
/// Less than this holds no batch of a few columns for each slot.
const MIN_MEMORY: usize = 16 << 20;

/// Flags of `volley executor`; each may be set by its `VOLLEY_` variable instead.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the scheduler, such as http://127.0.0.1:50050; repeat it, or separate by commas, for several
    #[arg(long, env = "VOLLEY_SCHEDULER", value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:50050")]
    pub scheduler: Vec<String>,

    /// Address on which outputs are served to other executors; port 0 for any free port
    #[arg(long, env = "VOLLEY_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:50061")]
    pub listen: String,

    /// Address at which other executors reach this one; the address it listens on where not given
    #[arg(long, env = "VOLLEY_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// Compute threads; the cores of this host where not given
    #[arg(long, env = "VOLLEY_SLOTS", value_name = "N")]
    pub slots: Option<String>,

    /// Memory for operators, exchange outputs and network buffers together, such as 4GiB; 70 % of the limit of the control
    /// group or host where not given
    #[arg(long, env = "VOLLEY_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,

    /// Folder for what does not fit into memory; a folder of its own is made in it and removed at the end
    #[arg(long, env = "VOLLEY_WORK_DIR", value_name = "DIR", default_value_os_t = default_work_dir())]
    pub work_dir: PathBuf,

    /// Name of this executor; its advertised address where not given
    #[arg(long, env = "VOLLEY_ID", value_name = "NAME")]
    pub id: Option<String>,

    /// Seconds for which tasks and outputs are kept while no scheduler can be reached
    #[arg(long, env = "VOLLEY_ORPHAN_GRACE", value_name = "SECONDS", default_value_t = ORPHAN_GRACE.as_secs())]
    pub orphan_grace: u64,

    /// Seconds for which running tasks may go on after SIGTERM
    #[arg(long, env = "VOLLEY_DRAIN_GRACE", value_name = "SECONDS", default_value_t = DRAIN_GRACE.as_secs())]
    pub drain_grace: u64,
}

fn default_work_dir() -> PathBuf {
    std::env::temp_dir().join("volley")
}

impl Args {
    /// Checks every setting.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let schedulers = self.scheduler.iter().map(|url| scheduler_url(url)).collect::<Result<_, _>>()?;
        let listen = listen_address(&self.listen)?;
        let advertise = self.advertise.map(advertised).transpose()?;
        if advertise.is_none() && listen.ip().is_unspecified() {
            let problem = "other executors can't reach this address: name one with --advertise HOST:PORT".into();
            return Err(ConfigError { flag: "listen", value: self.listen, problem });
        }
        let id = self.id.map(executor_id).transpose()?;
        let slots = slots(self.slots.as_deref())?;
        let memory_bytes = memory(self.memory.as_deref())?;
        writable(&self.work_dir)?;
        Ok(Config {
            id,
            schedulers,
            listen,
            advertise,
            slots,
            memory_bytes,
            work_dir: self.work_dir,
            orphan_grace: Duration::from_secs(self.orphan_grace),
            drain_grace: Duration::from_secs(self.drain_grace),
        })
    }
}

fn wrong(flag: &'static str, value: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError { flag, value: value.into(), problem: problem.into() }
}

fn scheduler_url(text: &str) -> Result<String, ConfigError> {
    let text = text.trim().trim_end_matches('/');
    let expected = "expected a URL such as http://127.0.0.1:50050";
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: tonic::codegen::http::Uri = url.parse().map_err(|error| wrong("scheduler", text, format!("{error}; {expected}")))?;
    match (uri.scheme_str(), uri.port_u16(), uri.path()) {
        (Some("http"), Some(_), "" | "/") => Ok(url),
        (Some("http"), None, _) => Err(wrong("scheduler", text, format!("it names no port; {expected}"))),
        _ => Err(wrong("scheduler", text, expected)),
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let resolved =
        text.to_socket_addrs().map_err(|error| wrong("listen", text, format!("{error}; expected HOST:PORT such as 127.0.0.1:50061")))?;
    let mut addresses: Vec<_> = resolved.collect();
    // A name such as localhost may stand for both families: 4 is what others will most likely dial.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next().ok_or_else(|| wrong("listen", text, "this name has no address"))
}

fn advertised(text: String) -> Result<String, ConfigError> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port != 0) => Ok(text),
        _ => Err(wrong("advertise", text, "expected HOST:PORT such as 10.0.0.5:50061")),
    }
}

fn executor_id(text: String) -> Result<ExecutorId, ConfigError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']');
    if text.is_empty() || text.len() > 128 || !text.chars().all(fine) {
        return Err(wrong("id", text, "expected 1 to 128 letters, digits or any of -_.:[]"));
    }
    Ok(ExecutorId::new(text))
}

fn slots(text: Option<&str>) -> Result<NonZeroUsize, ConfigError> {
    let Some(text) = text else {
        return thread::available_parallelism()
            .map_err(|error| wrong("slots", "", format!("the number of cores can't be read ({error}): give a number")));
    };
    let expected = "expected a whole number from 1 to 4096";
    let slots = text.trim().parse().map_err(|_| wrong("slots", text, expected))?;
    NonZeroUsize::new(slots).filter(|slots| slots.get() <= 4096).ok_or_else(|| wrong("slots", text, expected))
}

fn memory(text: Option<&str>) -> Result<usize, ConfigError> {
    let Some(text) = text else {
        let limit = memory_limit().ok_or_else(|| wrong("memory", "", "the limit of this host can't be read: give a size such as 4GiB"))?;
        return Ok(usize::try_from(limit / 100 * DEFAULT_MEMORY_PERCENT).unwrap_or(usize::MAX));
    };
    parse_memory(text).map_err(|problem| wrong("memory", text, problem))
}

/// Reads the memory of an executor: a size, and enough to run something.
pub fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    let bytes = usize::try_from(bytes).map_err(|_| "more than this machine can address")?;
    if bytes < MIN_MEMORY { Err("too little to run anything: at least 16MiB".into()) } else { Ok(bytes) }
}

/// Proves that the directory can be made and a file written in it, and leaves both as they were: an executor that does not start for
/// another reason leaves nothing behind.
fn writable(dir: &Path) -> Result<(), ConfigError> {
    let refused = |what: &str, error: io::Error| wrong("work-dir", dir.display().to_string(), format!("{what}: {error}"));
    let missing: Vec<&Path> = dir.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists()).collect();
    let probed = fs::create_dir_all(dir).map_err(|error| refused("this folder can't be made", error)).and_then(|()| {
        let probe = format!(".probe-{}", std::process::id());
        let mut file = create_in(dir, &probe).map_err(|error| refused("this folder can't be written to", error))?;
        let written = file.write_all(b"volley").map_err(|error| refused("this folder can't be written to", error));
        let removed = fs::remove_file(dir.join(&probe)).map_err(|error| refused("a file in this folder can't be removed", error));
        written.and(removed)
    });
    for made in missing {
        // One that another process uses already stays.
        let _ = fs::remove_dir(made);
    }
    probed
}
