//! Statements: text or plan in, a result that waits to be read out. Whatever a statement changes is changed when this is done.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use volley_proto::client::Statement as Request;
use volley_proto::{Failure, JobId, JobOwner, Speculation, TraceContext};
use volley_sql::options::{Results as ResultsOption, VolleyOptions, set_option};
use volley_sql::statement::{Immediate, Statement, classify, parse, parse_one, plan_with_state};

use super::boundary;
use super::info::Accepted;
use super::service::FlightSql;
use super::substrait;
use crate::driver::Inbox;
use crate::jobs::{Job, NewJob};
use crate::planning::{Draft, Work};
use crate::results::Source;
use crate::service::status;
use crate::sessions::Session;
use crate::state::Event;

/// Bytes of a statement's text that reports keep.
const REPORTED_BYTES: usize = 16 << 10;

/// Longest plan of a DataFrame that is accepted, with the rows in it.
const MOST_PLAN_BYTES: usize = 32 << 20;

/// One statement and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The session.
    pub(super) session: Arc<Session>,
    /// What is asked.
    pub(super) request: Request,
    /// Its parameters.
    pub(super) parameters: Option<ParamValues>,
    /// The trace that it belongs to.
    pub(super) trace: TraceContext,
}

/// Why a call gave no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// It failed, in this job if it came that far.
    Failed(Failure, Option<JobId>),
    /// It is a write that is decided, and that is completed without the client: to run it again would write everything twice.
    Unfinished(String),
}

/// What a call gives.
pub(super) type CallResult<T> = Result<T, CallError>;

impl From<(Failure, Option<JobId>)> for CallError {
    fn from((failure, job): (Failure, Option<JobId>)) -> Self {
        Self::Failed(failure, job)
    }
}

impl CallError {
    /// What the client gets. `FAILED_PRECONDITION` is the code of what must not be tried again as it is.
    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Failed(failure, job) => status::of_failure(&failure, job),
            Self::Unfinished(message) => status::new(Code::FailedPrecondition, message),
        }
    }
}

impl FlightSql {
    /// A call of a request's session.
    pub(super) fn call(&self, request: Request, parameters: Option<ParamValues>, metadata: &MetadataMap) -> Call {
        Call { session: self.sessions.of(metadata), request, parameters, trace: trace(metadata) }
    }

    /// Runs a statement as far as its result can be read; for everything but queries this is to the end.
    pub(super) async fn run(&self, call: Call) -> Result<Accepted, Status> {
        self.try_run(call).await.map_err(CallError::into_status)
    }

    async fn try_run(&self, call: Call) -> CallResult<Accepted> {
        let (statement, state) = self.understand(&call).await.map_err(|failure| (failure, None))?;
        match statement {
            Statement::Query(plan) => self.query(&call, state, plan).await,
            Statement::Write(write) => {
                let (id, count) = self.write(&call, state, write).await?;
                let (schema, batches) = super::writes::count_result(count).map_err(|failure| (failure, Some(id)))?;
                Ok(self.answer(id, schema, batches, Some(count)).map_err(|failure| (failure, Some(id)))?)
            }
            Statement::Explain(explain) => self.explain(&call, state, explain).await,
            Statement::Immediate(immediate) => Ok(self.immediate(&call, immediate).await.map_err(|failure| (failure, None))?),
        }
    }

    /// What a call asks for, and the session's state that it is asked in. Has no side effect.
    pub(super) async fn understand(&self, call: &Call) -> Result<(Statement, SessionState), Failure> {
        let context = call.session.context.clone();
        let (request, parameters) = (call.request.clone(), call.parameters.clone());
        let limit = planning_limit(&call.session.options());
        let most = self.max_statement_bytes;
        self.planning
            .run(limit, async move || match request {
                Request::Sql(sql) => {
                    check_length(sql.len(), most)?;
                    let state = context.state();
                    let statement = plan_with_state(&context, &state, &parse_one(&sql)?, parameters.as_ref()).await?;
                    Ok((statement, state))
                }
                Request::Plan(sent) => {
                    check_plan_length(sent.plan.len())?;
                    let mut state = context.state();
                    for (name, value) in &sent.settings {
                        set_option(state.config_mut().options_mut(), name, value)
                            .map_err(|error| volley_sql::diagnostics::failure_of(&error))?;
                    }
                    let plan = volley_sql::codec::decode_logical_plan(&sent.plan, &state).await;
                    let plan = plan.map_err(|error| volley_sql::diagnostics::failure_of(&error))?;
                    let statement = classify(&context, plan).await?;
                    Ok((statement, state))
                }
                Request::Substrait(sent) => {
                    check_plan_length(sent.len())?;
                    let state = context.state();
                    let plan = substrait::decode(&sent, &state).await?;
                    let statement = classify(&context, plan).await?;
                    Ok((statement, state))
                }
            })
            .await?
    }

    async fn query(&self, call: &Call, state: SessionState, plan: LogicalPlan) -> CallResult<Accepted> {
        let plan = boundary::for_client(&state, plan).map_err(|error| (volley_sql::diagnostics::failure_of(&error), None))?;
        let job = self.submit(call, state, Work::Query(plan), true).await.map_err(|failure| (failure, None))?;
        let guard = CancelOnDrop::new(&self.inbox, job.id);
        let planned = job.wait_planned().await.map_err(|failure| (failure, Some(job.id)))?;
        // Its client may ask any later scheduler for it, so it has to be known there; while this is written, the job runs.
        if !planned.is_small {
            job.wait_written().await;
        }
        guard.disarm();
        self.results.add(job.id, Source::Job(Arc::clone(&job)));
        Ok(Accepted { id: job.id, schema: Arc::clone(&planned.schema), written: None })
    }

    async fn immediate(&self, call: &Call, immediate: Immediate) -> Result<Accepted, Failure> {
        let session = Arc::clone(&call.session);
        let of_session =
            matches!(immediate, Immediate::Set { .. } | Immediate::Reset { .. } | Immediate::Use { .. } | Immediate::Session { .. })
                || matches!(&immediate, Immediate::Ddl(ddl) if ddl.is_of_session());
        if of_session && !session.keyed {
            return Err(without_session());
        }
        let context = session.context.clone();
        let limit = planning_limit(&session.options());
        let is_update = immediate.is_update();
        let result = self.planning.run(limit, async move || immediate.run(&context).await).await??;
        if is_update {
            self.sessions.keep(&session).await;
        }
        let id = self.job_ids.next().map_err(|error| Failure::internal(error.to_string()))?;
        let written = result.is_update.then_some(0);
        self.answer(id, result.schema, result.batches, written)
    }

    /// Keeps rows that are known already until they are read.
    pub(super) fn answer(
        &self,
        id: JobId,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        written: Option<u64>,
    ) -> Result<Accepted, Failure> {
        let schema = Arc::new(boundary::plain_schema(&schema));
        let plain = |batch: RecordBatch| to_schema(&batch, &schema);
        let batches: Result<Vec<_>, _> = batches.into_iter().map(plain).collect();
        let batches = batches.map_err(|error| Failure::internal(error.to_string()))?;
        self.results.add(id, Source::Batches { schema: Arc::clone(&schema), batches: batches.into() });
        Ok(Accepted { id, schema, written })
    }

    /// Runs a statement for its effect: the number of rows written.
    pub(super) async fn update(&self, call: Call) -> Result<i64, Status> {
        let accepted = self.run(call).await?;
        self.results.close(accepted.id);
        Ok(accepted.written.map_or(-1, |rows| rows.try_into().unwrap_or(i64::MAX)))
    }

    /// Runs the statements of a text one after the other, for their effects.
    pub(super) async fn update_script(&self, script: &str, metadata: &MetadataMap) -> Result<i64, Status> {
        let failed = |failure: Failure| status::of_failure(&failure, None);
        check_length(script.len(), self.max_statement_bytes).map_err(failed)?;
        let limit = planning_limit(&self.sessions.of(metadata).options());
        let text = script.to_owned();
        let parsed = self.planning.run(limit, async move || parse(&text)).await.map_err(failed)?;
        let statements = parsed.map_err(|error| failed(error.into()))?;
        let mut total = None;
        for statement in statements {
            let rows = self.update(self.call(Request::Sql(statement.text().to_owned()), None, metadata)).await?;
            total = Some(total.unwrap_or(0) + rows.max(0));
        }
        total.ok_or_else(|| Status::invalid_argument("the text holds no statement"))
    }

    /// Hands a job to the machine; `lasting`: its client gets a ticket.
    pub(super) async fn submit(&self, call: &Call, state: SessionState, work: Work, lasting: bool) -> Result<Arc<Job>, Failure> {
        let id = self.job_ids.next().map_err(|error| Failure::internal(error.to_string()))?;
        self.submit_as(id, call, state, work, lasting);
        self.jobs.get(id).ok_or_else(|| Failure::internal("the job is not known"))
    }

    /// Hands a job to the machine under an id that was reserved for it.
    pub(super) fn submit_as(&self, id: JobId, call: &Call, state: SessionState, work: Work, lasting: bool) {
        let options = VolleyOptions::of(state.config_options());
        // The rows of a write are the files that it staged: all of them or none.
        let eager = options.results == ResultsOption::Eager && matches!(work, Work::Query(_));
        let owner = owner(&call.session, &options, eager);
        let limit = planning_limit(&options);
        let new = NewJob { statement: text(&call.request), owner: owner.clone(), trace: call.trace.clone(), eager, lasting };
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        self.planning.keep(id, Draft { state, work, limit });
        self.jobs.add(Arc::new(Job::new(id, new, now_ms)));
        self.inbox.send(Event::JobSubmitted { job: id, owner });
    }
}

/// Cancels a job unless told that it is in good hands: a client that hangs up while it waits wants nothing any more.
#[derive(Debug)]
pub(super) struct CancelOnDrop {
    inbox: Option<Inbox>,
    job: JobId,
}

impl CancelOnDrop {
    /// Watches over a job.
    pub(super) fn new(inbox: &Inbox, job: JobId) -> Self {
        Self { inbox: Some(inbox.clone()), job }
    }

    /// Leaves it alone from now on.
    pub(super) fn disarm(mut self) {
        self.inbox = None;
    }

    /// Waits for something, and leaves the job alone once it has come.
    pub(super) async fn over<T>(self, work: impl Future<Output = T>) -> T {
        let done = work.await;
        self.disarm();
        done
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            inbox.send(Event::JobCancelled { job: self.job, reason: "the client went away".into() });
        }
    }
}

/// Whose work the jobs of a session are.
fn owner(session: &Session, options: &VolleyOptions, eager: bool) -> JobOwner {
    JobOwner {
        principal: session.principal.clone(),
        queue: options.queue.clone(),
        weight: options.weight.max(1),
        timeout_ms: options.statement_timeout(),
        memory_bytes: (options.memory_bytes > 0).then_some(options.memory_bytes),
        session: session.id.clone(),
        speculation: match (options.speculation, eager) {
            (false, _) => Speculation::Never,
            // Rows that were shown can't be taken back.
            (true, true) => Speculation::BelowRoot,
            (true, false) => Speculation::Always,
        },
    }
}

/// What a client is told that can't be told from others.
pub(super) fn without_session() -> Failure {
    Failure::query(
        "this connection has no session to change: let the client keep cookies (for ADBC, \
         adbc.flight.sql.rpc.with_cookie_middleware=true) or send a bearer token",
    )
}

/// How long planning a statement of this session may take.
pub(super) fn planning_limit(options: &VolleyOptions) -> Duration {
    Duration::from_millis(options.planning_timeout_ms)
}

fn check_length(bytes: usize, most: usize) -> Result<(), Failure> {
    if bytes <= most {
        return Ok(());
    }
    Err(Failure::query(format!(
        "the statement has {bytes} bytes, but the scheduler takes at most {most}: load such data from files instead"
    )))
}

/// A plan carries the rows of tables that its program holds, so that it may be longer than a text.
fn check_plan_length(bytes: usize) -> Result<(), Failure> {
    if bytes <= MOST_PLAN_BYTES {
        return Ok(());
    }
    Err(Failure::query(format!(
        "the plan has {bytes} bytes, but the scheduler takes at most {MOST_PLAN_BYTES}: write its rows to files and read those instead"
    )))
}

/// A request as reports show it.
fn text(request: &Request) -> String {
    match request {
        Request::Sql(sql) if sql.len() <= REPORTED_BYTES => sql.clone(),
        Request::Sql(sql) => {
            let end = (0..=REPORTED_BYTES).rev().find(|end| sql.is_char_boundary(*end)).unwrap_or(0);
            format!("{}...", &sql[..end])
        }
        Request::Plan(_) => "(a plan of a DataFrame)".into(),
        Request::Substrait(_) => "(a Substrait plan)".into(),
    }
}

fn trace(metadata: &MetadataMap) -> TraceContext {
    let header = |name| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    TraceContext { traceparent: header("traceparent"), tracestate: header("tracestate") }
}

/// A batch with the types of `schema`, which has its columns.
fn to_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns: Result<Vec<_>, _> = columns.map(|(column, field)| datafusion::arrow::compute::cast(column, field.data_type())).collect();
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options)
}
