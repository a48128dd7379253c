//! The `volley` program: arguments in, exit code out.
//!
//! Results go to standard output and nothing else does; messages, the log and prompts go to standard error. Exit codes: 0 all
//! went well, 1 a statement failed, 2 wrong usage, 3 no connection, 4 some statements of `--keep-going` failed, 130 Ctrl-C.

mod admin;
mod args;
mod config;
#[cfg(feature = "cluster")]
mod daemon;
mod exit;
mod health;
mod interrupt;
mod output;
mod progress;
mod script;
mod session;
mod shell;
mod sql;
mod terminal;

use std::io;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use exit::Exit;
use output::{Format, Out};
use terminal::Colour;

use crate::error::ClientError;

/// What recurses over statements and plans has threads of its own; this is for what is left of them here, which is dropped if nothing else.
const STACK_BYTES: usize = 16 << 20;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Err(message) = start_log() {
        complain(&message);
        return Exit::Usage.into();
    }
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("volley-io").thread_stack_size(STACK_BYTES).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&format!("can't start threads: {error}"));
                return Exit::Failed.into();
            }
        };
    let matches = matches.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default();
    let exit = runtime.block_on(run(cli.command, matches));
    // A blocking read of the terminal must not keep the process alive.
    runtime.shutdown_background();
    exit.into()
}

async fn run(command: Command, matches: ArgMatches) -> Exit {
    let file = match read_config(&command) {
        Ok(file) => file,
        Err(message) => {
            complain(&message);
            return Exit::Usage;
        }
    };
    let result = match command {
        Command::Sql(args) => return sql::run(args, &matches, &file).await,
        #[cfg(feature = "cluster")]
        Command::Scheduler(args) => return daemon::scheduler(args).await,
        #[cfg(feature = "cluster")]
        Command::Executor(args) => return daemon::executor(args).await,
        Command::Jobs(args) => admin::jobs(&args, &file).await,
        Command::Job(args) => admin::job(&args, &file).await,
        Command::Cancel(args) => admin::cancel(&args, &file).await,
        Command::Executors(args) => admin::executors(&args, &file).await,
        Command::Config(args) => config::show(&args, &file, &matches),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "volley", &mut script);
            admin::write_all(&mut Out::stdout(None), Format::None, &script)
        }
        Command::Health(args) => return health::run(&args).await,
    };
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => failed(&error),
    }
}

/// The file of settings, for the commands that go by it.
fn read_config(command: &Command) -> Result<config::File, String> {
    match command {
        Command::Sql(_) | Command::Jobs(_) | Command::Job(_) | Command::Cancel(_) | Command::Executors(_) | Command::Config(_) => {
            config::read_file()
        }
        _ => Ok(config::File::default()),
    }
}

/// Warnings only, unless `VOLLEY_LOG` says otherwise.
fn start_log() -> Result<(), String> {
    let filter = match std::env::var("VOLLEY_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives)
            .map_err(|error| format!("VOLLEY_LOG is '{directives}': {error}; expected a level such as info, or module=level"))?,
        Err(_) => EnvFilter::new("warn"),
    };
    // In a file, colours would be noise.
    let colours = Colour::Auto.is_on(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr).init();
    Ok(())
}

/// Whether messages have colours; as the terminal says where nobody has said yet.
static COLOUR: OnceLock<Colour> = OnceLock::new();

/// One message on standard error.
#[expect(clippy::print_stderr, reason = "the place where the program speaks to its user")]
fn say(message: &str) {
    eprintln!("{message}");
}

fn complain(message: &str) {
    if COLOUR.get().copied().unwrap_or_default().is_on(&io::stderr()) {
        say(&terminal::painted_error(message));
    } else {
        say(&format!("error: {message}"));
    }
}

/// Says what went wrong; gives the exit code for it.
fn failed(error: &ClientError) -> Exit {
    complain(&error.to_string());
    error.into()
}
