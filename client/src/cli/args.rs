//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use volley_proto::JobId;

use super::output::Format;

const EXAMPLES: &str = "\
Examples:
  volley sql -c 'SELECT count(*) FROM tpch.sf1.lineitem'
  volley sql --cluster http://scheduler:50050 -f report.sql --format csv > report.csv
  volley jobs --cluster http://scheduler:50050

Exit codes: 0 all went well, 1 a statement failed, 2 wrong usage, 3 no connection, 130 Ctrl-C.
VOLLEY_LOG=info (or debug, or a module: volley_scheduler=debug) writes a log to standard error.";

const SQL_EXAMPLES: &str = "\
Examples:
  volley sql                                      a prompt, on a cluster inside this process
  volley sql -c 'SELECT 1 AS one'
  volley sql -c \"CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'data/t.parquet'\" -c 'SELECT count(*) FROM t'
  volley sql -f setup.sql -f report.sql --format csv > report.csv
  echo 'SELECT 1;' | volley sql --format ndjson
  volley sql --state-dir tables                   tables that the next run has too
  volley sql --executors 2 --slots 4              two executors of four threads each
  volley sql --cluster http://scheduler:50050     a prompt on a cluster elsewhere

Statements run in the order in which -c and -f are given; the first that fails ends the run with exit code 1.
Without -c and -f, statements are read from standard input, or typed at a prompt if that is a terminal.";

#[cfg(feature = "cluster")]
const SCHEDULER_EXAMPLES: &str = "\
Examples:
  volley scheduler
  volley scheduler --listen 0.0.0.0:50050 --http 0.0.0.0:8080 --state-dir /var/lib/volley
  volley executor --scheduler http://127.0.0.1:50050      an executor for it
  volley sql --cluster http://127.0.0.1:50050             a prompt on it";

#[cfg(feature = "cluster")]
const EXECUTOR_EXAMPLES: &str = "\
Examples:
  volley executor
  volley executor --scheduler http://scheduler:50050 --listen 0.0.0.0:50061 --advertise node7:50061
  volley executor --slots 4 --memory 16GiB --work-dir /mnt/nvme/volley";

const JOBS_EXAMPLES: &str = "\
Examples:
  volley jobs
  volley jobs --limit 5 --format json --cluster http://scheduler:50050";

const JOB_EXAMPLES: &str = "\
Examples:
  volley job j7
  volley job j7 --format json";

const HEALTH_EXAMPLES: &str = "\
Examples:
  volley health                                   the scheduler or executor that runs here
  volley health --ready                           whether a scheduler here leads and has an executor
  volley health http://scheduler:8080             a scheduler elsewhere, by its --http
  volley health grpc://node7:50061                an executor elsewhere, by its --listen

Without a URL it asks a scheduler at $VOLLEY_HTTP (127.0.0.1:8080), and where none listens there,
an executor at $VOLLEY_LISTEN (127.0.0.1:50061): the variables that set their --http and --listen.
Exit codes: 0 well, 1 not well or no answer, 2 wrong usage.";

/// A distributed SQL engine: shell, scheduler and executor in one program
#[derive(Debug, Parser)]
#[command(name = "volley", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run SQL, on a cluster inside this process or on one elsewhere
    #[command(after_help = SQL_EXAMPLES)]
    Sql(SqlArgs),
    /// Run a scheduler: the address that clients and executors connect to
    #[cfg(feature = "cluster")]
    #[command(after_help = SCHEDULER_EXAMPLES)]
    Scheduler(volley_scheduler::config::SchedulerArgs),
    /// Run an executor: it does the work that a scheduler hands out
    #[cfg(feature = "cluster")]
    #[command(after_help = EXECUTOR_EXAMPLES)]
    Executor(volley_executor::Args),
    /// List jobs, the newest first
    #[command(after_help = JOBS_EXAMPLES)]
    Jobs(JobsArgs),
    /// Show what a job does or did: its stages, tasks, rows and bytes
    #[command(after_help = JOB_EXAMPLES)]
    Job(JobArgs),
    /// Cancel a job
    Cancel(CancelArgs),
    /// List executors
    Executors(ExecutorsArgs),
    /// Tell whether a scheduler or an executor is well, for health checks
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(HealthArgs),
}

/// Flags of `volley sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// Statements to run, separated by semicolons; may be repeated
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub(crate) commands: Vec<String>,
    /// File of statements to run, - for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Scheduler to connect to, or several of which one leads, separated by commas; without it, a cluster is started inside this process
    #[arg(long, value_name = "URL", env = "VOLLEY_CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// Executors of the cluster inside this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "cluster")]
    pub(crate) executors: u16,
    /// Compute threads of each of these executors; all cores, shared evenly, where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), conflicts_with = "cluster")]
    pub(crate) slots: Option<u16>,
    /// Memory of each of these executors, such as 4GiB; 70 % of this machine's, shared evenly, where not given
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "cluster")]
    pub(crate) memory: Option<usize>,
    /// Directory in which that cluster keeps tables, so that the next run has them; without it they end with the run
    #[arg(long, value_name = "DIR", conflicts_with = "cluster")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How results are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// Where a running cluster is.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Scheduler to ask, or several of which one leads, separated by commas
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50050", env = "VOLLEY_CLUSTER")]
    pub(crate) cluster: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// Flags of `volley jobs`.
#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// At most so many; 0 for all that the scheduler remembers
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: u32,
}

/// Flags of `volley job`.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job, such as j7
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Flags of `volley cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The job, such as j7
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    /// Scheduler to ask, or several of which one leads, separated by commas
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50050", env = "VOLLEY_CLUSTER")]
    pub(crate) cluster: String,
}

/// Flags of `volley executors`.
#[derive(Debug, Args)]
pub(crate) struct ExecutorsArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Flags of `volley health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Scheduler (http://HOST:PORT) or executor (grpc://HOST:PORT) to ask; whichever runs on this host where not given
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Ask a scheduler whether it leads and has an executor, rather than whether it lives
    #[arg(long)]
    pub(crate) ready: bool,
    /// How long the answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) timeout: u64,
}

#[cfg(feature = "cluster")]
fn size(text: &str) -> Result<usize, String> {
    volley_executor::config::parse_memory(text)
}

#[cfg(not(feature = "cluster"))]
fn size(_: &str) -> Result<usize, String> {
    Err("this build has no embedded cluster".to_owned())
}
