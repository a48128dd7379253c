//! `volley sql`: statements from flags, files, standard input or a prompt, one after the other on one session.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{ArgMatches, CommandFactory};
use futures::StreamExt;
use volley_proto::JobId;

use super::args::{Cli, SqlArgs};
use super::exit::Exit;
use super::interrupt::interrupted;
use super::output::{ResultWriter, Stdout};
use super::{complain, failed, say, script, shell};
#[cfg(feature = "cluster")]
use crate::embedded::{EmbeddedCluster, EmbeddedOptions};
use crate::error::{ClientError, Result};
use crate::flight::{Execution, FlightClient};

/// How long an interrupted statement may take to end before the program leaves it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);

/// How a statement ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its rows are written.
    Done { rows: usize, columns: usize, elapsed: Duration, job: Option<JobId> },
    /// Ctrl-C stopped it.
    Interrupted,
    /// Nobody reads standard output any more.
    ReaderLeft,
}

/// A session on a cluster, which may be one of our own.
pub(crate) struct Session {
    client: FlightClient,
    #[cfg(feature = "cluster")]
    embedded: Option<EmbeddedCluster>,
    pub(crate) writer: ResultWriter<Stdout>,
}

/// Runs `volley sql`.
pub(crate) async fn run(args: SqlArgs) -> Exit {
    let script = match given_script(&args) {
        Ok(script) => script,
        Err(message) => {
            complain(&message);
            return Exit::Usage;
        }
    };
    let mut session = tokio::select! {
        session = Session::open(&args) => match session {
            Ok(session) => session,
            Err(error) => return failed(&error),
        },
        () = interrupted() => return Exit::Interrupted,
    };
    let exit = match script {
        Some(script) => session.run_script(&script).await,
        None => shell::run(&mut session).await,
    };
    tokio::select! {
        closed = session.close() => closed.map_or_else(|error| failed(&error), |()| exit),
        () = interrupted() => Exit::Interrupted,
    }
}

/// Statements, and the file that they come from.
struct Script {
    name: Option<String>,
    text: String,
}

/// The texts of `-c`, `-f` or standard input; `None` for a prompt.
fn given_script(args: &SqlArgs) -> Result<Option<Vec<Script>>, String> {
    if args.commands.is_empty() && args.files.is_empty() {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(None);
        }
        return Ok(Some(vec![Script { name: None, text: read(Path::new("-"))? }]));
    }
    // The order between -c and -f is known to the matches alone.
    let matches = Cli::command().get_matches();
    let matches = matches.subcommand_matches("sql").unwrap_or(&matches);
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

fn read(file: &Path) -> Result<String, String> {
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

impl Session {
    #[cfg(feature = "cluster")]
    async fn open(args: &SqlArgs) -> Result<Self> {
        let writer = ResultWriter::new(args.format, Stdout::default());
        if let Some(url) = &args.cluster {
            return Ok(Self { client: FlightClient::connect(url).await?, embedded: None, writer });
        }
        let cluster = EmbeddedCluster::start(&embedded_options(args)).await?;
        say(&format!("embedded cluster: {cluster}"));
        Ok(Self { client: FlightClient::connect(cluster.url()).await?, embedded: Some(cluster), writer })
    }

    #[cfg(not(feature = "cluster"))]
    async fn open(args: &SqlArgs) -> Result<Self> {
        let none = || ClientError::Cluster("this build has no embedded cluster: name a scheduler with --cluster URL".into());
        let client = FlightClient::connect(args.cluster.as_ref().ok_or_else(none)?).await?;
        Ok(Self { client, writer: ResultWriter::new(args.format, Stdout::default()) })
    }

    async fn close(self) -> Result<()> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.embedded {
            drop(self.client);
            return cluster.shutdown().await;
        }
        // The session ends with the connection in any case: that the scheduler is gone already is no failure.
        let _ = self.client.close().await;
        Ok(())
    }

    async fn run_script(&mut self, scripts: &[Script]) -> Exit {
        for script in scripts {
            for statement in script::statements(&script.text) {
                match self.run(statement.text).await {
                    Ok(Outcome::Done { .. }) => {}
                    Ok(Outcome::Interrupted) => return Exit::Interrupted,
                    Ok(Outcome::ReaderLeft) => return Exit::Ok,
                    Err(ClientError::Query { code, message }) => {
                        let message = statement.relocate(&message, script.name.as_deref());
                        return failed(&ClientError::Query { code, message });
                    }
                    Err(error) => return failed(&error),
                }
            }
        }
        Exit::Ok
    }

    /// Runs a statement and writes its rows. Ctrl-C cancels it, and waits for the cluster's word that it has ended.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<Outcome> {
        let started = Instant::now();
        let execution = tokio::select! {
            execution = self.client.execute(statement) => execution?,
            // Dropping the request resets it, which cancels the statement.
            () = interrupted() => return Ok(Outcome::Interrupted),
        };
        let written = tokio::select! {
            written = write_rows(&self.client, &execution, &mut self.writer) => Some(written),
            () = interrupted() => None,
        };
        let Some(written) = written else {
            return self.interrupt(&execution).await;
        };
        if self.writer.out().reader_left() {
            self.client.cancel(&execution).await?;
            return Ok(Outcome::ReaderLeft);
        }
        let columns = execution.schema.fields().len();
        Ok(Outcome::Done { rows: written?, columns, elapsed: started.elapsed(), job: execution.job() })
    }

    async fn interrupt(&self, execution: &Execution) -> Result<Outcome> {
        tokio::select! {
            // A statement that ended in the meantime can't be cancelled, and need not.
            _ = self.client.cancel(execution) => {}
            _ = tokio::time::sleep(CANCEL_PATIENCE) => complain("the cluster did not confirm that the statement was cancelled"),
            () = interrupted() => {}
        }
        Ok(Outcome::Interrupted)
    }
}

async fn write_rows(client: &FlightClient, execution: &Execution, writer: &mut ResultWriter<Stdout>) -> Result<usize> {
    let mut rows = client.fetch(execution).await?;
    let mut result = writer.begin(execution.schema.clone());
    while let Some(batch) = rows.next().await {
        result.write(&batch?)?;
    }
    Ok(result.finish()?)
}

#[cfg(feature = "cluster")]
fn embedded_options(args: &SqlArgs) -> EmbeddedOptions {
    EmbeddedOptions {
        executors: usize::from(args.executors).try_into().ok(),
        slots: args.slots.and_then(|slots| usize::from(slots).try_into().ok()),
        memory_bytes: args.memory,
        state_dir: args.state_dir.clone(),
        ..EmbeddedOptions::default()
    }
}
