//! A session of `volley sql`: runs statements and commands, writes what they give, says how it went.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use volley_proto::JobId;

use super::admin::human_bytes;
use super::config::Settings;
use super::exit::Exit;
use super::interrupt::interrupted;
use super::output::{Out, PagerUse, ResultWriter, Screen, Written};
use super::progress::{Of, Progress};
use super::script::{Item, Statement};
use super::shell::{Command, Names};
use super::{complain, failed, say, script, terminal};
#[cfg(feature = "cluster")]
use crate::embedded::EmbeddedCluster;
use crate::error::{ClientError, Result};
use crate::flight::{Execution, FlightClient};
use crate::report::JobSummary;

/// How long an interrupted statement may take to end before the program leaves it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);
/// A statement of which more is told than its time.
const LONG: Duration = Duration::from_secs(1);
/// Lines of a screen that are not for a table's rows: its frame, its header, what is said below it, the prompt.
const AROUND_ROWS: usize = 8;
/// A table has at least so many rows, however low the screen is.
const LEAST_ROWS: usize = 10;

/// How a statement ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its rows are written.
    Done { written: Written, elapsed: Duration, job: Option<JobId> },
    /// Ctrl-C stopped it.
    Interrupted,
    /// Nobody reads the result any more.
    ReaderLeft,
}

/// What follows on a statement or a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one.
    Go,
    /// None of those after it, for this reason.
    Stop(Exit),
    /// Nothing at all: the user wants to leave.
    Leave,
}

/// A client of a cluster, which may be one of our own.
pub(crate) struct Connection {
    pub(crate) client: FlightClient,
    #[cfg(feature = "cluster")]
    pub(crate) embedded: Option<EmbeddedCluster>,
}

impl Connection {
    /// What it is connected to, in a line.
    pub(crate) fn place(&self) -> String {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.embedded {
            return format!("embedded cluster: {cluster}, at {}", cluster.url());
        }
        format!("connected to {}", self.client.url())
    }

    /// Ends the session, and the cluster if it is our own.
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
}

/// What runs statements and commands one after the other.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) writer: ResultWriter<Out>,
    pub(crate) settings: Settings,
    pub(crate) manner: Manner,
    /// How many files that read one another are open.
    pub(crate) depth: usize,
    /// The names that can be completed, which statements change.
    pub(crate) names: Option<Names>,
    /// What was run last, and what an editor has made of it.
    pub(crate) last: String,
    pub(crate) draft: Option<String>,
}

/// How a session treats its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Whether somebody types at a prompt.
    pub(crate) is_interactive: bool,
    /// Says nothing but results and errors.
    pub(crate) is_quiet: bool,
    /// Goes on after a statement that failed.
    pub(crate) keeps_going: bool,
}

impl Session {
    /// A session with its options set.
    pub(crate) async fn open(connection: Connection, writer: ResultWriter<Out>, settings: Settings, manner: Manner) -> Result<Self> {
        let names = manner.is_interactive.then(|| Names::new(connection.client.clone()));
        let session = Self { connection, writer, settings, manner, depth: 0, names, last: String::new(), draft: None };
        match session.set_options().await {
            Ok(()) => Ok(session),
            Err(error) => {
                // The cluster is not to be torn down in the middle of something; that it ends is no news.
                let _ = session.close().await;
                Err(error)
            }
        }
    }

    /// Sets the options of the file of settings and of `--set`.
    async fn set_options(&self) -> Result<()> {
        for (name, value) in &self.settings.settings {
            self.connection.client.execute(&format!("SET {name} = '{}'", value.replace('\'', "''"))).await?;
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn close(self) -> Result<()> {
        self.connection.close().await
    }

    /// Runs what a text holds, statements and commands, as long as all goes well or it is told to go on.
    pub(crate) fn run_text<'a>(&'a mut self, text: &'a str, name: Option<&'a str>) -> LocalBoxFuture<'a, Next> {
        Box::pin(async move {
            let mut result = Next::Go;
            for item in script::items(text) {
                let next = match item {
                    Item::Command(line) => Command::obey(line, self).await,
                    Item::Statement(statement) => self.run_statement(&statement, name).await,
                };
                match next {
                    Next::Go => {}
                    Next::Stop(Exit::Failed | Exit::Partial) if self.manner.keeps_going => result = Next::Stop(Exit::Partial),
                    other => return other,
                }
            }
            result
        })
    }

    /// Runs a statement and says how it went.
    async fn run_statement(&mut self, statement: &Statement<'_>, script: Option<&str>) -> Next {
        match self.run(statement.text).await {
            Ok(Outcome::Done { written, elapsed, job }) => {
                self.tell(written, elapsed, job).await;
                if let Some(names) = &self.names
                    && changes_names(statement.text)
                {
                    names.forget();
                }
                Next::Go
            }
            Ok(Outcome::Interrupted) => {
                if self.manner.is_interactive {
                    say("cancelled");
                }
                Next::Stop(Exit::Interrupted)
            }
            Ok(Outcome::ReaderLeft) => Next::Stop(Exit::Ok),
            Err(ClientError::Query { code, message }) => {
                let message = statement.relocate(&message, script);
                Next::Stop(failed(&ClientError::Query { code, message }))
            }
            Err(error) => Next::Stop(failed(&error)),
        }
    }

    /// Runs a statement of the shell's own, for a command.
    pub(crate) async fn run_own(&mut self, statement: &str) -> Next {
        match script::items(statement).as_slice() {
            [Item::Statement(statement)] => self.run_statement(statement, None).await,
            _ => Next::Go,
        }
    }

    /// Says how much a statement gave and how long it took, to people.
    async fn tell(&mut self, written: Written, elapsed: Duration, job: Option<JobId>) {
        let is_timed = self.settings.timing.unwrap_or(self.manner.is_interactive);
        let is_for_people = self.writer.out().is_terminal() && self.writer.format.is_for_people() && written.columns > 0;
        if self.manner.is_quiet || !(is_timed || self.manner.is_interactive || is_for_people) {
            return;
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let mut text = match written {
            Written { columns: 0, .. } => "done".to_owned(),
            Written { rows, rows_hidden: 0, .. } => format!("{rows} row{}", plural(rows)),
            Written { rows, rows_hidden, .. } => format!("{rows} rows ({} shown)", rows - rows_hidden),
        };
        if written.columns_hidden > 0 {
            text += &format!(", {} columns ({} shown)", written.columns, written.columns - written.columns_hidden);
        }
        if is_timed {
            text += &format!(" in {:.3} s", elapsed.as_secs_f64());
            text += &job.map(|job| format!(", {job}")).unwrap_or_default();
            if let Some(job) = job.filter(|_| elapsed >= LONG) {
                text += &self.effort(job).await.unwrap_or_default();
            }
        }
        say(&text);
    }

    /// What a job that took long has done: worth one more question.
    async fn effort(&self, job: JobId) -> Option<String> {
        let job = JobSummary::from(self.connection.client.job(job).await.ok()?);
        let operators = job.stages.iter().flat_map(|stage| &stage.operators);
        let read: u64 = operators.filter_map(|operator| operator.metrics.get("bytes_scanned")).sum();
        let read = if read > 0 { format!(", {} read", human_bytes(read)) } else { String::new() };
        let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (stages, tasks) = (counted(job.stages.len() as u64, "stage"), counted(job.tasks(), "task"));
        (!job.stages.is_empty()).then(|| format!(": {stages}, {tasks}{read}"))
    }

    /// Runs a statement and writes its rows. Ctrl-C cancels it, and waits for the cluster's word that it has ended.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<Outcome> {
        self.writer.out().restart();
        let progress = Progress::new(self.settings.progress);
        let outcome = self.run_with(statement, &progress).await;
        progress.end();
        let ended = self.writer.out().end();
        match outcome {
            Ok(Outcome::Done { .. }) if self.writer.out().reader_left() => Ok(Outcome::ReaderLeft),
            Ok(Outcome::Done { .. }) => ended.map_err(|error| ClientError::Local(format!("the result: {error}"))).and(outcome),
            outcome => outcome,
        }
    }

    async fn run_with(&mut self, statement: &str, progress: &Progress) -> Result<Outcome> {
        let started = Instant::now();
        let execution = tokio::select! {
            execution = self.connection.client.execute(statement) => execution?,
            // Dropping the request resets it, which cancels the statement.
            () = interrupted() => return Ok(Outcome::Interrupted),
            never = progress.follow(&self.connection.client, Of::Statement(statement)) => match never {},
        };
        let format = self.writer.format;
        if !execution.schema.fields().is_empty()
            && let Err(message) = self.writer.out().begin(format)
        {
            self.interrupt(&execution).await?;
            return Err(ClientError::Local(message));
        }
        self.writer.screen = self.screen();
        let client = &self.connection.client;
        let follow = async {
            match execution.job() {
                Some(job) => progress.follow(client, Of::Job(job)).await,
                None => std::future::pending().await,
            }
        };
        let written = tokio::select! {
            written = write_rows(client, &execution, &mut self.writer, progress) => Some(written),
            () = interrupted() => None,
            never = follow => match never {},
        };
        let Some(written) = written else {
            progress.end();
            return self.interrupt(&execution).await;
        };
        if self.writer.out().reader_left() {
            self.interrupt(&execution).await?;
            return Ok(Outcome::ReaderLeft);
        }
        let (written, at) = written?;
        Ok(Outcome::Done { written, elapsed: at.duration_since(started), job: execution.job() })
    }

    /// What a table must fit on; `None` where it is not for a screen.
    fn screen(&mut self) -> Option<Screen> {
        let screen = self.writer.out().screen()?;
        if self.settings.pager == PagerUse::Always {
            return Some(Screen { width: 0, ..screen });
        }
        let rows = match self.settings.rows {
            0 => 0,
            most => most.min(terminal::size().1.saturating_sub(AROUND_ROWS).max(LEAST_ROWS)),
        };
        Some(Screen { rows, ..screen })
    }

    async fn interrupt(&self, execution: &Execution) -> Result<Outcome> {
        tokio::select! {
            // A statement that ended in the meantime can't be cancelled, and need not.
            _ = self.connection.client.cancel(execution) => {}
            _ = tokio::time::sleep(CANCEL_PATIENCE) => complain("the cluster did not confirm that the statement was cancelled"),
            () = interrupted() => {}
        }
        Ok(Outcome::Interrupted)
    }
}

/// Writes the rows of a statement; says when all of them were there, for a pager takes as long as its user.
async fn write_rows(
    client: &FlightClient,
    execution: &Execution,
    writer: &mut ResultWriter<Out>,
    progress: &Progress,
) -> Result<(Written, Instant)> {
    let mut rows = client.fetch(execution).await?;
    let is_terminal = writer.out().is_terminal();
    let mut result = writer.begin(execution.schema.clone())?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if is_terminal && result.is_streamed() {
            progress.end();
        }
        result.write(&batch)?;
    }
    progress.end();
    let complete = Instant::now();
    Ok((result.finish()?, complete))
}

/// Whether a statement may change which tables there are, or how they are called here.
fn changes_names(statement: &str) -> bool {
    let word = statement.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
    ["create", "drop", "alter", "use", "set", "reset"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::changes_names;

    #[test]
    fn names_change_with_some_statements_alone() {
        for statement in ["CREATE TABLE t AS SELECT 1", " drop view v", "USE tpch.sf1", "SET datafusion.catalog.default_schema = 'sf1'"] {
            assert!(changes_names(statement), "{statement}");
        }
        for statement in ["SELECT 1", "INSERT INTO t VALUES (1)", "(SELECT 1)", ""] {
            assert!(!changes_names(statement), "{statement}");
        }
    }
}
