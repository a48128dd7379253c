//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use volley_proto::JobId;

use super::output::{Format, PagerUse};
use super::terminal::Colour;

const EXAMPLES: &str = "\
Examples:
  volley sql -c 'SELECT count(*) FROM tpch.sf1.lineitem'
  volley sql --cluster http://scheduler:50050 -f report.sql --format csv > report.csv
  volley jobs --cluster http://scheduler:50050

Exit codes: 0 all went well, 1 a statement failed, 2 wrong usage, 3 no connection, 4 some statements of --keep-going failed, 130 Ctrl-C.
VOLLEY_LOG=info (or debug, or a module: volley_scheduler=debug) writes a log to standard error.";

const SQL_EXAMPLES: &str = "\
Examples:
  volley sql                                      a prompt, on a cluster inside this process
  volley sql -c 'SELECT 1 AS one'
  volley sql -c \"CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'data/t.parquet'\" -c 'SELECT count(*) FROM t'
  volley sql -f setup.sql -f report.sql --format csv > report.csv
  echo 'SELECT 1;' | volley sql --format ndjson
  volley sql -c 'SELECT * FROM tpch.sf1.orders' --format parquet --output orders.parquet
  volley sql --set volley.fit=never -c 'EXPLAIN SELECT count(*) FROM tpch.sf1.orders'
  volley sql --state-dir tables                   tables that the next run has too
  volley sql --executors 2 --slots 4              two executors of four threads each
  volley sql --cluster http://scheduler:50050     a prompt on a cluster elsewhere

Statements run in the order in which -c and -f are given; the first that fails ends the run with exit code 1.
Without -c and -f, statements are read from standard input, or typed at a prompt if that is a terminal.
At the prompt \\? lists its commands. Settings are also read from ~/.config/volley/config.toml: see volley config.
VOLLEY_PAGER names the pager, VOLLEY_HISTORY the file of what was typed, VOLLEY_CONFIG the file of settings.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  volley config
  VOLLEY_FORMAT=json volley config
  VOLLEY_CONFIG=./volley.toml volley config

A file of settings, by default ~/.config/volley/config.toml ($XDG_CONFIG_HOME/volley/config.toml); every line may be left out:
  cluster = \"http://scheduler:50050\"    # a scheduler, rather than a cluster inside the process
  format = \"table\"                      # or vertical, csv, tsv, json, ndjson, markdown
  timing = true                         # tell the time of each statement
  rows = 40                             # most rows of a table on a terminal, 0 for all
  pager = \"auto\"                        # or always, never
  pager_command = \"less -S\"
  color = \"auto\"                        # or always, never
  progress = true
  history = true
  history_file = \"~/.volley_history\"
  [settings]                            # options of every session
  volley.fit = \"never\"
  [embedded]                            # the cluster inside the process
  slots = 4
  memory = \"8GiB\"
Flags go before variables, variables before the file.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  volley completions bash > ~/.local/share/bash-completion/completions/volley
  volley completions zsh > ~/.zfunc/_volley              # with fpath+=~/.zfunc before compinit
  volley completions fish > ~/.config/fish/completions/volley.fish";

const CANCEL_EXAMPLES: &str = "\
Examples:
  volley cancel j7
  volley cancel j7 --format json
  volley cancel j7 --cluster http://scheduler:50050";

const EXECUTORS_EXAMPLES: &str = "\
Examples:
  volley executors
  volley executors --format json --cluster http://scheduler:50050";

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
    Scheduler(super::daemon::SchedulerArgs),
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
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel(CancelArgs),
    /// List executors
    #[command(after_help = EXECUTORS_EXAMPLES)]
    Executors(ExecutorsArgs),
    /// Show which settings of the shell hold, and where each comes from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Print a script that completes this command line in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
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
    /// Write results to a file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Go on after a statement that failed; exit code 4 then
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Say nothing but results and errors
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) display: DisplayArgs,
    #[command(flatten)]
    pub(crate) embedded: EmbeddedArgs,
}

/// What the cluster inside this process is made of.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Cluster inside this process")]
pub(crate) struct EmbeddedArgs {
    /// Start one even where VOLLEY_CLUSTER or the file of settings names a scheduler
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Number of executors; 1 where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) executors: Option<u16>,
    /// Compute threads of each executor; all cores, shared evenly, where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) slots: Option<u16>,
    /// Memory of each executor, such as 4GiB; 70 % of this machine's, shared evenly, where not given
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<usize>,
    /// Directory in which it keeps tables, so that the next run has them; without it they end with the run
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// How results and messages look.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Display")]
pub(crate) struct DisplayArgs {
    /// How results are written; table where not given
    #[arg(long, value_enum, value_name = "FORMAT", env = "VOLLEY_FORMAT")]
    pub(crate) format: Option<Format>,
    /// Tell the rows and the time of each statement, on standard error; at the prompt where not given
    #[arg(long, value_name = "BOOL", env = "VOLLEY_TIMING", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) timing: Option<bool>,
    /// Most rows of a table on a terminal, the first and the last ones; 0 for all; 40 where not given
    #[arg(long, value_name = "N", env = "VOLLEY_ROWS")]
    pub(crate) rows: Option<usize>,
    /// When results on a terminal go through a pager; auto where not given
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) pager: Option<PagerUse>,
    /// When there are colours; auto where not given
    #[arg(long, value_enum, value_name = "WHEN", env = "VOLLEY_COLOR")]
    pub(crate) color: Option<Colour>,
    /// Show how far long statements are, on standard error if that is a terminal; true where not given
    #[arg(long, value_name = "BOOL", env = "VOLLEY_PROGRESS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) progress: Option<bool>,
    /// Keep nothing of what is typed
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Option of the session that is set when it begins; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
}

/// Flags of `volley config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Scheduler to connect to
    #[arg(long, value_name = "URL", env = "VOLLEY_CLUSTER")]
    pub(crate) cluster: Option<String>,
    #[command(flatten)]
    pub(crate) display: DisplayArgs,
}

/// Flags of `volley completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Where a running cluster is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Scheduler to ask, or several of which one leads, separated by commas; http://127.0.0.1:50050 where not given
    #[arg(long, value_name = "URL", env = "VOLLEY_CLUSTER")]
    pub(crate) cluster: Option<String>,
}

impl PlaceArgs {
    /// The scheduler's address: the one that is given, that of the file of settings, or the usual one.
    pub(crate) fn url(&self, file: &super::config::File) -> String {
        self.cluster.clone().or_else(|| file.cluster.clone()).unwrap_or_else(|| "http://127.0.0.1:50050".into())
    }
}

/// Which running cluster, and how its answer is written.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
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
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
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

/// `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as volley.fit=never")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(feature = "cluster")]
pub(crate) fn size(text: &str) -> Result<usize, String> {
    volley_executor::config::parse_memory(text)
}

#[cfg(not(feature = "cluster"))]
pub(crate) fn size(_: &str) -> Result<usize, String> {
    Err("this build has no embedded cluster".to_owned())
}
