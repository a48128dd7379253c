//! The `volley` program: arguments in, exit code out.
//!
//! Results go to standard output and nothing else does; messages, the log and prompts go to standard error. Exit codes: 0 all
//! went well, 1 a statement failed, 2 wrong usage, 3 no connection, 130 Ctrl-C.

mod admin;
mod args;
#[cfg(feature = "cluster")]
mod daemon;
mod exit;
mod health;
mod interrupt;
mod output;
mod script;
mod shell;
mod sql;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use exit::Exit;

use crate::error::ClientError;

/// What recurses over statements and plans has threads of its own; this is for what is left of them here, which is dropped if nothing else.
const STACK_BYTES: usize = 16 << 20;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
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
    let exit = runtime.block_on(run(cli.command));
    // A blocking read of the terminal must not keep the process alive.
    runtime.shutdown_background();
    exit.into()
}

async fn run(command: Command) -> Exit {
    let result = match command {
        Command::Sql(args) => return sql::run(args).await,
        #[cfg(feature = "cluster")]
        Command::Scheduler(args) => return daemon::scheduler(args).await,
        #[cfg(feature = "cluster")]
        Command::Executor(args) => return daemon::executor(args).await,
        Command::Jobs(args) => admin::jobs(&args).await,
        Command::Job(args) => admin::job(&args).await,
        Command::Cancel(args) => admin::cancel(&args).await,
        Command::Executors(args) => admin::executors(&args).await,
        Command::Health(args) => return health::run(&args).await,
    };
    match result {
        Ok(()) => Exit::Ok,
        Err(error) => failed(&error),
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
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}

/// One message on standard error.
#[expect(clippy::print_stderr, reason = "the place where the program speaks to its user")]
fn say(message: &str) {
    eprintln!("{message}");
}

fn complain(message: &str) {
    say(&format!("error: {message}"));
}

/// Says what went wrong; gives the exit code for it.
fn failed(error: &ClientError) -> Exit {
    complain(&error.to_string());
    error.into()
}
