//! The command line of `volley-bench`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use volley_client::EmbeddedOptions;

use crate::compare::{EngineChoice, EnginesRequest, compare_engines, compare_files, serve_peer};
use crate::engine::Place;
use crate::error::{BenchError, Result};
use crate::floor::serve_floor;
use crate::generate::{Generate, generate};
use crate::latency::latency;
use crate::run::{RunRequest, run};
use crate::suite::{Query, Selection, Suite};
use crate::usage::Processes;
use crate::verify::Columns;

const EXAMPLES: &str = "\
Examples:
  volley-bench gen tpch --scale 1 --out data/tpch-1
  volley-bench run --suite tpch --data data/tpch-1 --verify
  volley-bench run --suite tpch --data data/tpch-1 --executors 2 --slots 1 --set volley.fit=never --json run.json
  volley-bench run --suite tpch --data data/tpch-1 --cluster http://127.0.0.1:50050 --pids 4711,4712
  volley-bench compare first.json second.json
  volley-bench compare --engines datafusion,volley-2x1 --suite tpch --data data/tpch-1 --pairs 5
  volley-bench compare --engines processes-2x1,peer=./other-build --suite tpch --data data/tpch-1
  volley-bench latency --sql 'SELECT 1'

Exit codes: 0 all queries ran (and were right), 1 one did not (or was wrong), 2 wrong usage.";

/// Benchmarks for Volley: data, queries, measurements, comparisons
#[derive(Debug, Parser)]
#[command(name = "volley-bench", version, after_help = EXAMPLES, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a suite's tables as Parquet files
    Gen(GenArgs),
    /// Run a suite's queries, measure them, and check the answers
    Run(RunArgs),
    /// Compare two result files, or two engines in alternating pairs
    Compare(CompareArgs),
    /// Be an engine for a `compare` of another build: a script that runs this and passes its arguments on is its peer=PROGRAM
    Peer(PeerArgs),
    /// Measure small statements, one after the other over one connection
    Latency(LatencyArgs),
    /// Serve a canned answer over Flight SQL: what a client measures against it is the floor for every engine
    Floor(FloorArgs),
}

#[derive(Debug, Args)]
struct GenArgs {
    /// Suite
    #[arg(value_enum)]
    suite: Suite,
    /// Scale factor: about so many gigabytes of text
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Files of each table; small tables may get fewer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    files_per_table: u32,
    /// Replace files that are there already
    #[arg(long)]
    force: bool,
}

/// Which queries of which tables.
#[derive(Debug, Args)]
struct SuiteArgs {
    /// Suite
    #[arg(long, value_enum, default_value_t = Suite::Tpch)]
    suite: Suite,
    /// Folder that `gen` wrote
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Scale factor of the data
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Queries, such as 1,5-9; all where not given
    #[arg(long, value_name = "LIST")]
    queries: Option<Selection>,
    /// Setting of the session, such as volley.fit=never; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Memory of each embedded executor, such as 3GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<usize>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    suite: SuiteArgs,
    /// Runs of each query
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    iterations: u32,
    /// Scheduler to connect to; without it, a cluster is started inside this process
    #[arg(long, value_name = "URL", conflicts_with_all = ["executors", "slots", "memory"])]
    cluster: Option<String>,
    /// Processes of that cluster on this machine, whose CPU time and memory are measured; without them executors say what they use
    #[arg(long, value_name = "PID,...", value_delimiter = ',', requires = "cluster")]
    pids: Vec<u32>,
    /// Executors of the cluster inside this process
    #[arg(long, value_name = "N")]
    executors: Option<NonZeroUsize>,
    /// Compute threads of each of these executors
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// Compare every answer with plain DataFusion's on the same files
    #[arg(long)]
    verify: bool,
    /// Folder of published answers (q01.csv, separated by |) to compare with
    #[arg(long, value_name = "DIR")]
    answers: Option<PathBuf>,
    /// Leave addresses and comments out of that comparison: free text, which generators of the same numbers fill differently
    #[arg(long, requires = "answers")]
    without_text: bool,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Two files that `run --json` wrote
    #[arg(value_name = "RESULTS", num_args = 2, required_unless_present = "engines", conflicts_with = "engines")]
    files: Vec<PathBuf>,
    /// Two engines: datafusion, volley, volley-NxM for N executors of M slots whose plans are always cut, processes-NxM for the same as
    /// processes, peer=PROGRAM for another engine or build
    #[arg(long, value_name = "ENGINE,ENGINE", value_delimiter = ',', value_parser = engine, requires = "data")]
    engines: Vec<EngineChoice>,
    /// Suite
    #[arg(long, value_enum, default_value_t = Suite::Tpch)]
    suite: Suite,
    /// Folder that `gen` wrote
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Scale factor of the data
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Queries, such as 1,5-9; all where not given
    #[arg(long, value_name = "LIST")]
    queries: Option<Selection>,
    /// Pairs of runs of each query
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Threads of plain DataFusion and slots of the default cluster; all cores where not given
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Setting of the clusters' sessions, such as volley.fit=never; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Memory of each executor, such as 3GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<usize>,
    /// Write the comparison to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PeerArgs {
    /// Which engine, as in `compare`
    #[arg(long, value_name = "ENGINE", value_parser = engine, default_value = "volley")]
    engine: EngineChoice,
    #[command(flatten)]
    suite: SuiteArgs,
    /// Threads of plain DataFusion and slots of the default cluster; all cores where not given
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
struct LatencyArgs {
    /// Scheduler to connect to, or the server of `floor`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50050")]
    cluster: String,
    /// Statement to run
    #[arg(long, value_name = "SQL", default_value = "SELECT 1")]
    sql: String,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

#[derive(Debug, Args)]
struct FloorArgs {
    /// Address to serve on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50099")]
    listen: SocketAddr,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("VOLLEY_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("volley-io").build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&BenchError::Usage(format!("can't start threads: {error}"))),
    };
    match runtime.block_on(execute(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the place where the program speaks to its user")]
fn failed(error: &BenchError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(if matches!(error, BenchError::Usage(_)) { 2 } else { 1 })
}

async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Gen(args) => {
            let wanted = Generate {
                suite: args.suite,
                scale: args.scale,
                out: args.out,
                files_per_table: args.files_per_table as usize,
                force: args.force,
                threads: cores().get(),
            };
            tokio::task::block_in_place(|| generate(&wanted))
        }
        Command::Run(args) => run(&run_request(args)?).await.map(drop),
        Command::Compare(args) => compare(args).await,
        Command::Peer(args) => serve_peer(&peer_request(args)?).await,
        Command::Latency(args) => latency(&args.cluster, &args.sql, args.count as usize).await,
        Command::Floor(args) => serve_floor(args.listen).await,
    }
}

fn run_request(args: RunArgs) -> Result<RunRequest> {
    let SuiteArgs { suite, data, scale, queries, settings, memory } = args.suite;
    let (place, processes) = match args.cluster {
        Some(url) => (Place::At(url), if args.pids.is_empty() { Processes::Executors } else { Processes::Others(args.pids) }),
        None => {
            let options = EmbeddedOptions { executors: args.executors, slots: args.slots, memory_bytes: memory, ..Default::default() };
            (Place::Embedded(options), Processes::This)
        }
    };
    Ok(RunRequest {
        suite,
        data,
        scale,
        queries: chosen(suite, queries)?,
        iterations: args.iterations as usize,
        place,
        settings,
        processes,
        verify: args.verify,
        answers: args.answers,
        columns: if args.without_text { Columns::WithoutText } else { Columns::All },
        json: args.json,
    })
}

fn peer_request(args: PeerArgs) -> Result<EnginesRequest> {
    let SuiteArgs { suite, data, scale, queries, settings, memory } = args.suite;
    Ok(EnginesRequest {
        suite,
        data,
        scale,
        queries: chosen(suite, queries)?,
        engines: (args.engine.clone(), args.engine),
        pairs: 1,
        threads: args.threads.unwrap_or_else(cores),
        settings,
        memory_bytes: memory,
    })
}

async fn compare(args: CompareArgs) -> Result<()> {
    let comparison = match (args.files.as_slice(), args.engines.as_slice(), args.data) {
        ([first, second], _, _) => compare_files(first, second)?,
        (_, [first, second], Some(data)) => {
            let request = EnginesRequest {
                suite: args.suite,
                data,
                scale: args.scale,
                queries: chosen(args.suite, args.queries)?,
                engines: (first.clone(), second.clone()),
                pairs: args.pairs as usize,
                threads: args.threads.unwrap_or_else(cores),
                settings: args.settings,
                memory_bytes: args.memory,
            };
            compare_engines(&request).await?
        }
        _ => return Err(BenchError::Usage("two result files, or --engines with two engines and --data".into())),
    };
    comparison.publish(args.json.as_deref())
}

fn chosen(suite: Suite, selection: Option<Selection>) -> Result<Vec<Query>> {
    match selection {
        Some(selection) => selection.of(suite).map_err(BenchError::Usage),
        None => Ok(suite.queries().collect()),
    }
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn scale(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is not a scale factor such as 0.1, 1 or 10");
    let scale: f64 = text.parse().map_err(|_| wrong())?;
    if (0.001..=100_000.0).contains(&scale) { Ok(scale) } else { Err(wrong()) }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not NAME=VALUE such as volley.fit=never"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = volley_executor::config::parse_bytes(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| "more than this machine can address".to_owned())
}

fn engine(text: &str) -> Result<EngineChoice, String> {
    text.parse().map_err(|error: BenchError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_sizes_and_queries_are_read() {
        let line = "volley-bench run --data d --set volley.fit=never --set a=b --queries 1,3-4 --slots 1 --memory 3GiB --verify";
        let Command::Run(args) = parse(line).unwrap().command else { panic!("not a run") };
        let request = run_request(args).unwrap();
        assert_eq!(request.settings, [("volley.fit".into(), "never".into()), ("a".into(), "b".into())]);
        assert_eq!(request.queries.iter().map(|query| query.number).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(request.verify);
        let Place::Embedded(options) = request.place else { panic!("not embedded") };
        assert_eq!((options.slots, options.memory_bytes), (NonZeroUsize::new(1), Some(3 << 30)));
    }

    #[test]
    fn engines_are_a_pair() {
        let line = "volley-bench compare --engines datafusion,volley-2x1 --data d --pairs 3";
        let Command::Compare(args) = parse(line).unwrap().command else { panic!("not a comparison") };
        assert_eq!(args.engines.iter().map(ToString::to_string).collect::<Vec<_>>(), ["datafusion", "volley-2x1"]);
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        for (line, message) in [
            ("volley-bench gen tpch --out d --scale x", "'x' is not a scale factor such as 0.1, 1 or 10"),
            ("volley-bench run --data d --set fit", "'fit' is not NAME=VALUE such as volley.fit=never"),
            ("volley-bench run --data d --pids 1", "--cluster <URL>"),
            ("volley-bench compare --engines datafusion,spark --data d", "'spark' is none of the engines"),
            ("volley-bench compare one.json", "2 values"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
