//! Settings of a scheduler process: what was typed ([`SchedulerArgs`]) becomes what is meant ([`Config`]) before anything starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;
use volley_sql::options::Results;
use volley_sql::parse_duration;
use volley_sql::statement::MAX_STATEMENT_BYTES;

use crate::store::{EtcdLocation, LocationError};

/// The value of `--state` for nothing that outlives the process.
const MEMORY: &str = "memory";
// Not a doc comment, in which brackets are links.
const STATE_HELP: &str = "Keep that in etcd instead, so that of several schedulers with the same state one leads and the others stand by: \
                          etcd://HOST:PORT[,HOST:PORT..][/PREFIX]; or in memory, and nothing outlives a restart: memory";

/// Flags of `volley scheduler`. Each is also a variable, `VOLLEY_` and the flag's name.
#[derive(Debug, Clone, clap::Args)]
pub struct SchedulerArgs {
    /// Address for clients (Flight SQL) and executors
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50050", env = "VOLLEY_LISTEN")]
    pub listen: SocketAddr,

    /// Address for /healthz and /readyz
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", env = "VOLLEY_HTTP")]
    pub http: SocketAddr,

    /// Directory for what must outlive a restart: tables, job ids, the journal
    #[arg(long, value_name = "DIR", default_value = "volley-state", env = "VOLLEY_STATE_DIR")]
    pub state_dir: PathBuf,

    /// Where that is kept instead: in etcd
    #[arg(long, value_name = "WHERE", env = "VOLLEY_STATE", hide_env_values = true, help = STATE_HELP)]
    pub state: Option<String>,

    /// How long a leader may not be heard of by etcd until another scheduler takes over
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, env = "VOLLEY_LEADER_TIMEOUT")]
    pub leader_timeout: Duration,

    /// Where tables made by CREATE TABLE keep their files: a directory or URL that the scheduler and every executor can write to
    /// [default: warehouse in the state directory]
    #[arg(long, value_name = "URL", env = "VOLLEY_WAREHOUSE")]
    pub warehouse: Option<String>,

    /// How long a result waits for its client
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, env = "VOLLEY_RESULT_EXPIRY")]
    pub result_expiry: Duration,

    /// How long a session lives without a request
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration, env = "VOLLEY_SESSION_EXPIRY")]
    pub session_expiry: Duration,

    /// Who may connect, a line NAME:HASH each: a password as `htpasswd -B` writes it, or sha256: and the SHA-256 of a bearer token.
    /// Without it everybody may
    #[arg(long, value_name = "FILE", env = "VOLLEY_USERS")]
    pub users: Option<PathBuf>,

    /// How long planning one statement may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration, env = "VOLLEY_PLANNING_TIMEOUT")]
    pub planning_timeout: Duration,

    /// Longest statement that is accepted, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Config::DEFAULT_STATEMENT_BYTES, env = "VOLLEY_MAX_STATEMENT_BYTES")]
    pub max_statement_bytes: usize,

    /// How long a task runs at least before a second attempt may run beside it, where others of its stage are twice as fast; 0s for never
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, env = "VOLLEY_STRAGGLER_AFTER")]
    pub straggler_after: Duration,

    /// Ended jobs whose reports are kept, also over a restart
    #[arg(long, value_name = "N", default_value_t = 200, env = "VOLLEY_JOB_REPORTS")]
    pub job_reports: usize,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// In memory: gone with the process.
    Memory,
    /// In a directory.
    Directory(PathBuf),
    /// In etcd.
    Etcd(EtcdLocation),
}

/// Settings of a scheduler, as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients and executors connect; port 0 for any free one.
    pub listen: SocketAddr,
    /// Where `/healthz` and `/readyz` are served; `None` for nowhere.
    pub http: Option<SocketAddr>,
    /// Where state is kept.
    pub state: StateLocation,
    /// How long a leader may not be heard of by etcd until another scheduler takes over, in whole seconds.
    pub leader_timeout: Duration,
    /// URL of the directory that managed tables are made in; `None` for no managed tables.
    pub warehouse: Option<String>,
    /// What `volley.results` is in a new session.
    pub results: Results,
    /// How long a result that nobody fetches is kept.
    pub result_expiry: Duration,
    /// After a reader of a result went away: how long until the job is cancelled, if it does not come back.
    pub result_grace: Duration,
    /// How long a result is kept after it was sent to its end: a client may not have received what was sent, and asks again when
    /// its connection ends or the scheduler dies. Results of jobs that were over before they were in the journal are not kept.
    pub result_linger: Duration,
    /// How long a session lives without a request.
    pub session_expiry: Duration,
    /// The file that says who may connect to Flight SQL; `None` for everybody.
    pub users: Option<PathBuf>,
    /// How long planning one statement may take.
    pub planning_timeout: Duration,
    /// Longest statement that is accepted, in bytes.
    pub max_statement_bytes: usize,
    /// How long a task runs at least before a second attempt may run beside it; zero for never.
    pub straggler_after: Duration,
    /// Ended jobs whose reports are kept.
    pub job_reports: usize,
    /// How often executors send a heartbeat.
    pub heartbeat_interval: Duration,
    /// How long an executor without a stream keeps its tasks and outputs.
    pub orphan_timeout: Duration,
    /// How long a shutdown waits for streams to end before it cuts them.
    pub shutdown_grace: Duration,
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {value}, but {expected}")]
pub struct ConfigError {
    /// The flag.
    pub setting: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Config {
    const DEFAULT_STATEMENT_BYTES: usize = 4 << 20;

    /// A scheduler inside another process: any free port of the loopback interface, state in memory, no HTTP.
    pub fn embedded() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            http: None,
            state: StateLocation::Memory,
            leader_timeout: Duration::from_secs(5),
            warehouse: None,
            results: Results::Sealed,
            result_expiry: Duration::from_secs(600),
            result_grace: Duration::from_secs(5),
            // Nothing is lost between two parts of one process.
            result_linger: Duration::ZERO,
            session_expiry: Duration::from_secs(3600),
            users: None,
            // Who starts it says in each session how long a statement may take.
            planning_timeout: Duration::from_secs(600),
            max_statement_bytes: Self::DEFAULT_STATEMENT_BYTES,
            // Executors of one process are equally fast.
            straggler_after: Duration::ZERO,
            job_reports: 200,
            heartbeat_interval: Duration::from_secs(1),
            orphan_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

impl SchedulerArgs {
    /// What the flags mean, or what is wrong with them.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let positive = |setting, time: Duration| {
            let expected = "it has to be longer than nothing";
            if time.is_zero() { Err(ConfigError { setting, value: "0".into(), expected }) } else { Ok(time) }
        };
        if self.max_statement_bytes < 1024 || self.max_statement_bytes > MAX_STATEMENT_BYTES {
            let expected = "it has to be at least 1024 and at most 16777216";
            return Err(ConfigError { setting: "--max-statement-bytes", value: self.max_statement_bytes.to_string(), expected });
        }
        if self.listen == self.http && self.listen.port() != 0 {
            let expected = "--listen has that address already: they need two";
            return Err(ConfigError { setting: "--http", value: self.http.to_string(), expected });
        }
        if self.leader_timeout < Duration::from_secs(2) {
            let (value, expected) = (format!("{:?}", self.leader_timeout), "it has to be 2s at least, the time that etcd needs itself");
            return Err(ConfigError { setting: "--leader-timeout", value, expected });
        }
        let (state, warehouse) = match (self.state, self.warehouse) {
            (Some(memory), warehouse) if memory == MEMORY => (StateLocation::Memory, warehouse.ok_or_else(no_warehouse)?),
            (Some(url), warehouse) => (etcd(&url)?, warehouse.ok_or_else(no_warehouse)?),
            (None, Some(warehouse)) => (StateLocation::Directory(self.state_dir), warehouse),
            (None, None) => {
                let warehouse = self.state_dir.join("warehouse").to_string_lossy().into_owned();
                (StateLocation::Directory(self.state_dir), warehouse)
            }
        };
        Ok(Config {
            listen: self.listen,
            http: Some(self.http),
            warehouse: Some(place_url(&warehouse)?),
            state,
            leader_timeout: self.leader_timeout,
            result_expiry: positive("--result-expiry", self.result_expiry)?,
            session_expiry: positive("--session-expiry", self.session_expiry)?,
            users: self.users,
            planning_timeout: positive("--planning-timeout", self.planning_timeout)?,
            max_statement_bytes: self.max_statement_bytes,
            straggler_after: self.straggler_after,
            job_reports: self.job_reports,
            result_linger: Duration::from_secs(2),
            ..Config::embedded()
        })
    }
}

fn etcd(url: &str) -> Result<StateLocation, ConfigError> {
    let expected = "it has to be etcd://HOST:PORT[,HOST:PORT..][/PREFIX] or memory; --state-dir names a directory";
    // What was typed may have a password in it.
    let shown = if url.contains('@') { "hidden".into() } else { url.to_owned() };
    url.parse().map(StateLocation::Etcd).map_err(|LocationError| ConfigError { setting: "--state", value: shown, expected })
}

/// A directory of one machine would not be there for the scheduler that takes over.
fn no_warehouse() -> ConfigError {
    let expected = "--state needs one that all schedulers and executors can write to";
    ConfigError { setting: "--warehouse", value: "not given".into(), expected }
}

/// The URL of a directory, ending in `/`.
pub fn directory_url(path: &Path) -> Result<String, ConfigError> {
    let wrong = || ConfigError { setting: "--warehouse", value: path.display().to_string(), expected: "it has to be a directory or a URL" };
    let absolute = std::path::absolute(path).map_err(|_| wrong())?;
    Ok(Url::from_directory_path(absolute).map_err(|()| wrong())?.into())
}

/// The URL of a place that is given as one, or as a path.
fn place_url(text: &str) -> Result<String, ConfigError> {
    match Url::parse(text) {
        Ok(url) => Ok(format!("{}/", url.as_str().trim_end_matches('/'))),
        Err(_) => directory_url(Path::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SchedulerArgs,
    }

    fn parse(flags: &[&str]) -> Result<SchedulerArgs, String> {
        let line = Line::try_parse_from(["scheduler"].iter().chain(flags));
        line.map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_settings() {
        let flags = ["--listen", "127.0.0.1:7", "--http", "127.0.0.1:8", "--state-dir", "d", "--result-expiry", "90s"];
        let config = parse(&flags).unwrap().validate().unwrap();
        assert_eq!(config.listen.port(), 7);
        assert_eq!(config.http.map(|http| http.port()), Some(8));
        assert_eq!(config.state, StateLocation::Directory("d".into()));
        assert_eq!(config.result_expiry, Duration::from_secs(90));
        let warehouse = config.warehouse.unwrap();
        assert!(warehouse.starts_with("file:///") && warehouse.ends_with("/d/warehouse/"), "{warehouse}");
        let etcd = parse(&["--state", "etcd://a:2379/p", "--warehouse", "s3://bucket"]).unwrap().validate().unwrap();
        assert_eq!(etcd.state, StateLocation::Etcd("etcd://a:2379/p".parse().unwrap()));
        let given = parse(&["--warehouse", "s3://bucket/tables"]).unwrap().validate().unwrap().warehouse;
        assert_eq!(given.as_deref(), Some("s3://bucket/tables/"));
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        let error = parse(&["--session-expiry", "10"]).unwrap_err();
        assert!(error.contains("'10' is not a time such as 500ms, 10s, 5m or 1h"), "{error}");
        let error = parse(&["--listen", "127.0.0.1:8080"]).unwrap().validate().unwrap_err();
        assert_eq!(error.to_string(), "--http is 127.0.0.1:8080, but --listen has that address already: they need two");
        let error = parse(&["--max-statement-bytes", "16777217"]).unwrap().validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--max-statement-bytes is 16777217, but it has to be at least 1024 and at most {MAX_STATEMENT_BYTES}")
        );
        let memory = parse(&["--state", "memory", "--warehouse", "w"]).unwrap().validate().unwrap();
        assert_eq!(memory.state, StateLocation::Memory);
        let error = parse(&["--state", "etcd://a:2379"]).unwrap().validate().unwrap_err();
        assert_eq!(error.to_string(), "--warehouse is not given, but --state needs one that all schedulers and executors can write to");
        let error = parse(&["--state", "etcd://ada:secret@a", "--warehouse", "w"]).unwrap().validate().unwrap_err();
        assert!(error.to_string().starts_with("--state is hidden, but it has to be etcd://HOST:PORT"), "{error}");
        let error = parse(&["--planning-timeout", "0s"]).unwrap().validate().unwrap_err();
        assert_eq!(error.setting, "--planning-timeout");
    }
}
