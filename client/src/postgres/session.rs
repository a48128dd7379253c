//! A connection's session at the scheduler, and what statements do in it.

use std::future::Future;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::catalog::{Catalog, Identity, may_be_for_catalog};
use super::error::{Refusal, Result, state};
use super::flight;
use super::running::{Batches, CancelOnDrop, Running};
use super::settings::{Effect, Settings, Wish, wish};
use super::statement::Statement;
use super::transaction::{Step, Transaction};
use crate::error::ClientError;
use crate::flight::{Execution, FlightClient};

/// Names of the zone that the engine knows by its offset.
const UTC: &[&str] = &["utc", "etc/utc", "gmt", "uct", "zulu", "z"];

/// What a statement gives.
pub(super) enum Answer {
    /// Rows, as they come.
    Rows(Box<Running>),
    /// Its completion alone.
    Done(String),
}

/// What a statement of the gateway's own is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
    Step(Step),
    Setting(Wish),
    /// To forget prepared statements: one, or all.
    Deallocate(Option<String>),
    /// To forget everything.
    DiscardAll,
    /// Nothing; this is its completion.
    Nothing(String),
}

/// A statement on the cluster, and what cancels it.
type Started = Result<(Execution, CancelOnDrop), ClientError>;

/// One session.
pub(super) struct Session {
    pub(super) client: FlightClient,
    pub(super) transaction: Transaction,
    /// Warnings for the client, ahead of the completion.
    pub(super) warnings: Vec<Refusal>,
    /// Settings that the client has to be told of.
    pub(super) changed: Vec<(&'static str, String)>,
    pub(super) settings: Arc<Mutex<Settings>>,
    identity: Identity,
    catalog: Option<Catalog>,
}

impl Session {
    pub(super) fn new(client: FlightClient, user: &str, pid: i32) -> Self {
        let settings = Arc::new(Mutex::new(Settings::new(user)));
        let identity = Identity { user: user.to_owned(), pid, settings: Arc::clone(&settings) };
        Self { client, transaction: Transaction::default(), warnings: vec![], changed: vec![], settings, identity, catalog: None }
    }

    /// What a statement is about if it is the gateway's own, `None` if it is for the catalog or the cluster.
    pub(super) fn own(statement: &Statement) -> Result<Option<Own>, Refusal> {
        if let Some(step) = Step::of(statement) {
            return Ok(Some(Own::Step(step)));
        }
        let second = statement.word(1);
        let unsupported =
            |what: &str, hint: &str| Err(Refusal::new(state::UNSUPPORTED, format!("{what} is not supported")).with_hint(hint));
        let own = match statement.word(0).as_str() {
            "SET" | "RESET" | "SHOW" => wish(statement).map(Own::Setting),
            "DISCARD" if second == "ALL" => Some(Own::DiscardAll),
            "DISCARD" => Some(Own::Nothing(format!("DISCARD {second}"))),
            "DEALLOCATE" => Some(Own::Deallocate(deallocated(statement))),
            "UNLISTEN" => Some(Own::Nothing("UNLISTEN".into())),
            "CLOSE" if second == "ALL" => Some(Own::Nothing("CLOSE CURSOR ALL".into())),
            "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => {
                return unsupported("a cursor in SQL", "rows can be fetched in parts through the extended protocol");
            }
            "LISTEN" | "NOTIFY" => return unsupported("LISTEN and NOTIFY", "there are no channels"),
            "COPY" if statement.has_word("STDIN") || statement.has_word("STDOUT") => {
                return unsupported("COPY through the connection", "COPY ... TO 'file' and CREATE EXTERNAL TABLE work with files");
            }
            _ => None,
        };
        Ok(own)
    }

    /// Does what a statement of the gateway's own is about.
    pub(super) async fn run_own(&mut self, statement: &Statement, own: &Own) -> Result<Answer> {
        match own {
            Own::Step(step) => {
                let stepped = self.transaction.step(*step)?;
                self.warnings.extend(stepped.warning);
                return Ok(Answer::Done(stepped.tag.to_owned()));
            }
            _ => self.transaction.admit()?,
        }
        match own {
            Own::Setting(Wish::Set { name, value }) => self.set(name, value.as_deref()).await?,
            Own::Setting(Wish::ResetAll) => self.reset().await?,
            Own::DiscardAll => {
                self.reset().await?;
                return Ok(Answer::Done("DISCARD ALL".into()));
            }
            Own::Setting(Wish::Show { name }) => return self.show(name).map(Answer::Rows),
            Own::Nothing(tag) => return Ok(Answer::Done(tag.clone())),
            Own::Deallocate(_) => {
                return Ok(Answer::Done(if statement.has_word("ALL") { "DEALLOCATE ALL" } else { "DEALLOCATE" }.into()));
            }
            Own::Setting(Wish::Nothing) | Own::Step(_) => {}
        }
        Ok(Answer::Done(statement.word(0)))
    }

    /// Changes one of PostgreSQL's settings, to what it was at the start where no value is given.
    pub(super) async fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let (name, value, effect) = self.settings.lock().check(name, value)?;
        match effect {
            Effect::None => {}
            Effect::Schemas(schemas) => self.use_first(&schemas).await,
            Effect::TimeZone(zone) => self.set_time_zone(zone.as_deref()).await?,
            Effect::StatementTimeout { milliseconds } => {
                self.client.execute(&format!("SET volley.statement_timeout_ms = {milliseconds}")).await?;
            }
        }
        self.settings.lock().keep(name, value.clone());
        if Settings::is_reported(name) {
            self.changed.push((name, value));
        }
        Ok(())
    }

    /// Of schemas that there may be the first one counts; as in PostgreSQL it is no mistake to name one that there is not.
    async fn use_first(&self, schemas: &[String]) {
        for schema in schemas {
            if self.client.execute(&format!("USE \"{}\"", schema.replace('"', "\"\""))).await.is_ok() {
                return;
            }
        }
    }

    /// Moments with a zone have the session's, of which there always is one.
    pub(super) async fn set_time_zone(&self, zone: Option<&str>) -> Result<()> {
        let zone = match zone {
            Some(zone) if !UTC.contains(&zone.to_ascii_lowercase().as_str()) => zone.replace('\'', "''"),
            _ => "+00:00".to_owned(),
        };
        match self.client.execute(&format!("SET datafusion.execution.time_zone = '{zone}'")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal { state: state::BAD_PARAMETER, ..Refusal::from(error) }.into()),
        }
    }

    async fn reset(&mut self) -> Result<()> {
        for name in Settings::changeable() {
            let is_changed = {
                let settings = self.settings.lock();
                let (_, start, _) = settings.check(name, None)?;
                settings.get(name) != Some(start.as_str())
            };
            if is_changed {
                self.set(name, None).await?;
            }
        }
        Ok(())
    }

    fn show(&self, name: &str) -> Result<Box<Running>> {
        let value = self.settings.lock().get(name).map(str::to_owned);
        let schema = shown(name);
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec![value]))]).map_err(Refusal::from)?;
        let batches: Batches = futures::stream::iter([Ok(rows)]).boxed();
        Ok(Box::new(Running::new(schema, batches, CancelOnDrop::default())))
    }

    /// The catalog's plan of a statement, if it is for the catalog.
    pub(super) async fn catalog_plan(&mut self, statement: &Statement) -> Result<Option<LogicalPlan>> {
        if !may_be_for_catalog(statement) {
            return Ok(None);
        }
        let name = flight::setting(&self.client, "datafusion.catalog.default_catalog").await?.unwrap_or_default();
        if self.catalog.as_ref().is_none_or(|catalog| catalog.name() != name) {
            self.catalog = Some(Catalog::new(&name, self.identity.clone())?);
        }
        match &mut self.catalog {
            Some(catalog) => Ok(catalog.plan(&self.client, &statement.text).await?),
            None => Ok(None),
        }
    }

    /// The rows of a plan over the catalog.
    pub(super) async fn run_catalog(&self, plan: LogicalPlan, parameters: Vec<ScalarValue>) -> Result<Answer> {
        let catalog = self.catalog.as_ref().ok_or_else(|| Refusal::new(state::INTERNAL, "the copy of the catalog is gone"))?;
        let rows = catalog.run(plan, parameters).await?;
        let schema = rows.schema();
        let batches: Batches = rows.map_err(Refusal::from).boxed();
        Ok(Answer::Rows(Box::new(Running::new(schema, batches, CancelOnDrop::default()))))
    }

    /// Runs a statement on the cluster.
    pub(super) async fn run_cluster(&mut self, statement: &Statement) -> Result<Answer> {
        let (client, text) = (self.client.clone(), statement.text.clone());
        self.run_started(statement, async move { client.execute(&text).await }).await
    }

    /// What comes of a statement that `run` starts on the cluster.
    pub(super) async fn run_started(
        &mut self,
        statement: &Statement,
        run: impl Future<Output = crate::error::Result<Execution>> + Send + 'static,
    ) -> Result<Answer> {
        let started = if statement.is_query() { self.start_apart(run).await } else { self.start(run).await };
        let (execution, job) = started.map_err(|error| Refusal::from(error).within(&statement.text, statement.before))?;
        self.answer(statement, execution, job).await
    }

    /// Starts what runs to its end before it answers: whoever gives up waiting hangs up, and the scheduler cancels it.
    async fn start(&self, run: impl Future<Output = crate::error::Result<Execution>>) -> Started {
        let execution = run.await?;
        let job = CancelOnDrop::new(&self.client, &execution);
        Ok((execution, job))
    }

    /// Starts a query apart from who waits for it: its job is there as soon as it is planned, and whoever gives up waiting at that moment
    /// would leave a job that nobody knows.
    async fn start_apart(&self, run: impl Future<Output = crate::error::Result<Execution>> + Send + 'static) -> Started {
        let (sender, receiver) = oneshot::channel();
        let client = self.client.clone();
        tokio::spawn(async move {
            let started = run.await.map(|execution| {
                let job = CancelOnDrop::new(&client, &execution);
                (execution, job)
            });
            // Nobody may wait any more: then the job is cancelled here.
            drop(sender.send(started));
        });
        receiver.await.unwrap_or_else(|_| Err(ClientError::Local("the statement could not be started".into())))
    }

    /// What came of a statement on the cluster.
    async fn answer(&mut self, statement: &Statement, execution: Execution, job: CancelOnDrop) -> Result<Answer> {
        let schema = Arc::clone(&execution.schema);
        let is_write = statement.is_write();
        if is_write {
            self.transaction.write();
        }
        let batches = self.client.fetch(&execution).await?;
        if schema.fields().is_empty() || (is_write && is_count(&schema)) {
            let rows: Vec<RecordBatch> = batches.try_collect().await?;
            job.disarm();
            let counts =
                rows.iter().filter_map(|batch| batch.columns().first()?.as_primitive_opt::<UInt64Type>()).map(|column| column.values());
            let count = (!schema.fields().is_empty()).then(|| counts.flat_map(|values| values.iter()).sum());
            return Ok(Answer::Done(statement.tag(count)));
        }
        let batches: Batches = batches.map_err(Refusal::from).boxed();
        Ok(Answer::Rows(Box::new(Running::new(schema, batches, job))))
    }
}

/// The column of what SHOW gives.
pub(super) fn shown(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))
}

/// Whether rows are only the number of those that were written.
fn is_count(schema: &Schema) -> bool {
    matches!(schema.fields().iter().as_slice(), [field] if field.name() == "count" && *field.data_type() == DataType::UInt64)
}

/// The statement that is to be forgotten; `None` for all.
fn deallocated(statement: &Statement) -> Option<String> {
    let at = if statement.word(1) == "PREPARE" { 2 } else { 1 };
    if statement.word(at) == "ALL" {
        return None;
    }
    statement.lexemes.get(at).map(|lexeme| match &lexeme.token {
        datafusion::sql::sqlparser::tokenizer::Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    })
}
