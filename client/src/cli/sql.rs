//! `volley sql`: statements from flags, files, standard input or a prompt, one after the other on one session.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::args::SqlArgs;
use super::config::{File, Settings};
use super::exit::Exit;
use super::interrupt::interrupted;
use super::output::{Out, Pager, PagerUse, ResultWriter};
use super::session::{Connection, Manner, Next, Session};
use super::{COLOUR, complain, failed, say, shell};
#[cfg(feature = "cluster")]
use crate::embedded::{EmbeddedCluster, EmbeddedOptions};
#[cfg(not(feature = "cluster"))]
use crate::error::ClientError;
use crate::error::Result;
use crate::flight::FlightClient;

/// Runs `volley sql`.
pub(crate) async fn run(args: SqlArgs, matches: &ArgMatches, file: &File) -> Exit {
    let script = match check(&args, matches).and_then(|()| given_script(&args, matches)) {
        Ok(script) => script,
        Err(message) => return refuse(&message),
    };
    let settings = Settings::new(&args.display, file);
    let _ = COLOUR.set(settings.color);
    let mut out = Out::stdout(Some(Pager::new(settings.pager, settings.pager_command.as_deref())));
    if let Err(error) = out.redirect(args.output.as_deref()) {
        return refuse(&format!("can't write {}: {error}", args.output.unwrap_or_default().display()));
    }
    let writer = ResultWriter::new(settings.format, out);
    let manner = Manner { is_interactive: script.is_none(), is_quiet: args.quiet, keeps_going: args.keep_going };
    let opened = async { Session::open(connect(&args, file, manner).await?, writer, settings, manner).await };
    let mut session = tokio::select! {
        session = opened => match session {
            Ok(session) => session,
            Err(error) => return failed(&error),
        },
        () = interrupted() => return Exit::Interrupted,
    };
    let exit = match script {
        Some(script) => run_scripts(&mut session, &script).await,
        None => shell::run(&mut session).await,
    };
    tokio::select! {
        closed = session.close() => closed.map_or_else(|error| failed(&error), |()| exit),
        () = interrupted() => Exit::Interrupted,
    }
}

fn refuse(message: &str) -> Exit {
    complain(message);
    Exit::Usage
}

async fn run_scripts(session: &mut Session, scripts: &[Script]) -> Exit {
    let mut exit = Exit::Ok;
    for script in scripts {
        match session.run_text(&script.text, script.name.as_deref()).await {
            Next::Go => {}
            Next::Stop(Exit::Partial) => exit = Exit::Partial,
            Next::Stop(other) => return other,
            Next::Leave => break,
        }
    }
    exit
}

/// Flags that contradict one another. Variables and the file do not count: flags go before them.
fn check(args: &SqlArgs, matches: &ArgMatches) -> Result<(), String> {
    let embedded = ["embedded", "executors", "slots", "memory", "state_dir"];
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match embedded.iter().find(|id| given(id)) {
        Some(flag) if given(&"cluster") => {
            Err(format!("--cluster cannot be used with --{}: that is for a cluster inside this process", flag.replace('_', "-")))
        }
        _ if args.display.rows.is_some() && args.display.pager == Some(PagerUse::Always) => {
            Err("--rows cannot be used with --pager always, which shows all rows".into())
        }
        _ => Ok(()),
    }
}

/// Statements, and the file that they come from.
struct Script {
    name: Option<String>,
    text: String,
}

/// The texts of `-c`, `-f` or standard input; `None` for a prompt.
fn given_script(args: &SqlArgs, matches: &ArgMatches) -> Result<Option<Vec<Script>>, String> {
    if args.commands.is_empty() && args.files.is_empty() {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(None);
        }
        return Ok(Some(vec![Script { name: None, text: read(Path::new("-"))? }]));
    }
    // The order between -c and -f is known to the matches alone.
    let mut texts = Vec::new();
    for (at, command) in places(matches, "commands").zip(&args.commands) {
        texts.push((at, Script { name: None, text: command.clone() }));
    }
    for (at, file) in places(matches, "files").zip(&args.files) {
        texts.push((at, Script { name: Some(name_of(file)), text: read(file)? }));
    }
    texts.sort_by_key(|(at, _)| *at);
    Ok(Some(texts.into_iter().map(|(_, text)| text).collect()))
}

fn places<'a>(matches: &'a ArgMatches, id: &str) -> impl Iterator<Item = usize> + 'a {
    matches.indices_of(id).into_iter().flatten()
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let result = if file == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    result.map(|_| text).map_err(|error| format!("can't read {}: {error}", name_of(file)))
}

fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

#[cfg(feature = "cluster")]
async fn connect(args: &SqlArgs, file: &File, manner: Manner) -> Result<Connection> {
    let own = &args.embedded;
    let wants_own = own.embedded || own.executors.is_some() || own.slots.is_some() || own.memory.is_some() || own.state_dir.is_some();
    if let Some(url) = args.cluster.as_ref().or(file.cluster.as_ref()).filter(|_| !wants_own) {
        let connection = Connection { client: FlightClient::connect(url).await?, embedded: None };
        if manner.is_interactive && !manner.is_quiet {
            say(&connection.place());
        }
        return Ok(connection);
    }
    let count = |count: u16| usize::from(count).try_into().ok();
    let options = EmbeddedOptions {
        executors: own.executors.or(file.embedded.executors).and_then(count),
        slots: own.slots.or(file.embedded.slots).and_then(count),
        memory_bytes: own.memory.or(file.embedded.memory),
        state_dir: own.state_dir.clone().or_else(|| file.embedded.state_dir.clone()),
        ..EmbeddedOptions::default()
    };
    let cluster = EmbeddedCluster::start(&options).await?;
    if !manner.is_quiet {
        say(&format!("embedded cluster: {cluster} (--cluster http://HOST:50050 connects to another one)"));
    }
    Ok(Connection { client: FlightClient::connect(cluster.url()).await?, embedded: Some(cluster) })
}

#[cfg(not(feature = "cluster"))]
async fn connect(args: &SqlArgs, file: &File, _: Manner) -> Result<Connection> {
    let none = || ClientError::Cluster("this build has no embedded cluster: name a scheduler with --cluster URL".into());
    let url = args.cluster.as_ref().or(file.cluster.as_ref()).ok_or_else(none)?;
    Ok(Connection { client: FlightClient::connect(url).await? })
}
