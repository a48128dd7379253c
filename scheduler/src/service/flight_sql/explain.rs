//! EXPLAIN shows the stages that a statement would run as, EXPLAIN ANALYZE runs it and shows what was measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::StringArray;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SessionState;
use volley_proto::{Failure, StageId};
use volley_sql::diagnostics::failure_of;
use volley_sql::explain::{JobMeasures, StageMeasures, explain, explain_analyze, explain_json};
use volley_sql::graph::StageGraph;
use volley_sql::planner::{plan_job, plan_write};
use volley_sql::statement::{ExplainFormat, ExplainStatement, Statement, explain_schema};

use super::info::Accepted;
use super::service::FlightSql;
use super::statements::{Call, CallResult, CancelOnDrop, planning_limit};
use crate::jobs::Job;
use crate::perform::shape;
use crate::planning::{Work, named};
use crate::state::{Event, JobSummary};

/// A line of an explanation: what it shows, and the text.
type Line = (&'static str, String);

impl FlightSql {
    /// Explains a statement.
    pub(super) async fn explain(&self, call: &Call, state: SessionState, explain: ExplainStatement) -> CallResult<Accepted> {
        let ExplainStatement { statement, analyze, verbose, format } = explain;
        let mut lines: Vec<Line> = Vec::new();
        let mut statement = *statement;
        if verbose {
            let shown = self.logical_plan(call, statement).await.map_err(|failure| (failure, None))?;
            statement = shown.0;
            lines.extend(shown.1.map(|text| ("logical_plan", text)));
        }
        let id = match (statement, analyze) {
            (Statement::Query(plan), true) => {
                let job = self.submit(call, state, Work::Query(plan), false).await.map_err(|failure| (failure, None))?;
                let guard = CancelOnDrop::new(&self.inbox, job.id);
                let text = guard.over(self.measure(call, &job, format)).await.map_err(|failure| (failure, Some(job.id)))?;
                lines.push(("analyzed_plan", text));
                job.id
            }
            (Statement::Write(_), true) => {
                return Err((Failure::query("EXPLAIN ANALYZE would write: analyze the query alone, or leave out ANALYZE"), None).into());
            }
            (statement, _) => {
                lines.push(("distributed_plan", self.stages(call, state, statement, format).await.map_err(|failure| (failure, None))?));
                self.job_ids.next().map_err(|error| (Failure::internal(error.to_string()), None))?
            }
        };
        let kinds: StringArray = lines.iter().map(|(kind, _)| Some(*kind)).collect();
        let texts: StringArray = lines.iter().map(|(_, text)| Some(text.as_str())).collect();
        let schema = explain_schema();
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(kinds), Arc::new(texts)]);
        let batch = batch.map_err(|error| (Failure::internal(error.to_string()), Some(id)))?;
        Ok(self.answer(id, schema, vec![batch], None).map_err(|failure| (failure, Some(id)))?)
    }

    /// The stages that a statement would run as on the cluster of this moment.
    async fn stages(&self, call: &Call, state: SessionState, statement: Statement, format: ExplainFormat) -> Result<String, Failure> {
        let cluster = self.inbox.ask(shape).await.map_err(|closed| Failure::cancelled(closed.to_string()))?;
        let limit = planning_limit(&call.session.options());
        self.planning
            .run(limit, async move || {
                let (graph, plan) = match statement {
                    Statement::Write(write) => (plan_write(&state, &write.input, write.target.spec("explain"), cluster).await, write.input),
                    Statement::Query(plan) => (plan_job(&state, &plan, cluster).await, plan),
                    Statement::Explain(_) | Statement::Immediate(_) => return Err(Failure::internal("it has no stages")),
                };
                match graph {
                    Ok(graph) => show(&graph, format),
                    Err(error) => Err(failure_of(&named(&state, &plan, error).await)),
                }
            })
            .await?
    }

    /// The text of a query's plan. Showing it recurses as deep as it nests, so that it takes a planning thread.
    async fn logical_plan(&self, call: &Call, statement: Statement) -> Result<(Statement, Option<String>), Failure> {
        let shown = async move || {
            let text = if let Statement::Query(plan) = &statement { Some(plan.display_indent().to_string()) } else { None };
            (statement, text)
        };
        self.planning.run(planning_limit(&call.session.options()), shown).await
    }

    /// Runs a job, lets its rows go, and shows what was measured.
    async fn measure(&self, call: &Call, job: &Arc<Job>, format: ExplainFormat) -> Result<String, Failure> {
        job.wait_sealed().await?;
        let planned = job.plan().ok_or_else(|| Failure::internal("the plan is gone"))?;
        let id = job.id;
        let summary = self.inbox.ask(move |cluster| cluster.job(id)).await.map_err(|closed| Failure::cancelled(closed.to_string()))?;
        self.inbox.send(Event::ResultClosed { job: id });
        let timings = job.timings();
        let measured = measures(job, summary.as_ref());
        let graph = planned.graph.clone().ok_or_else(|| Failure::internal("the plan is gone"))?;
        let shown = async move || match format {
            ExplainFormat::Text => {
                let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
                let (elapsed, planning) = (seconds(timings.elapsed_ns), seconds(timings.planning_ns));
                Ok(format!("job {id}: {elapsed:.3}s, of which planning {planning:.3}s\n{}", explain_analyze(&graph, &measured)))
            }
            ExplainFormat::Json => {
                let job = JobMeasures { job: id.to_string(), elapsed_ns: timings.elapsed_ns, planning_ns: timings.planning_ns };
                explain_json(&graph, Some(&job), &measured).map_err(|error| Failure::internal(error.to_string()))
            }
        };
        self.planning.run(planning_limit(&call.session.options()), shown).await?
    }
}

fn show(graph: &StageGraph, format: ExplainFormat) -> Result<String, Failure> {
    match format {
        ExplainFormat::Text => Ok(explain(graph)),
        ExplainFormat::Json => explain_json(graph, None, &BTreeMap::new()).map_err(|error| Failure::internal(error.to_string())),
    }
}

/// What the stages of a job measured: the machine counts tasks and rows, the tasks' reports have the rest.
fn measures(job: &Job, summary: Option<&JobSummary>) -> BTreeMap<StageId, StageMeasures> {
    let measures = job.measures().into_iter().enumerate().map(|(index, measure)| {
        let stage = StageId(index as u32);
        let counted = summary.and_then(|summary| summary.stages.iter().find(|counted| counted.stage == stage));
        let measures = StageMeasures {
            tasks: counted.map_or(0, |counted| counted.tasks),
            attempts: counted.map_or(0, |counted| counted.attempts as u32),
            rows: counted.map_or(0, |counted| counted.rows),
            bytes: counted.map_or(0, |counted| counted.bytes),
            cpu_ns: measure.cpu_ns,
            elapsed_ns: measure.elapsed_ns,
            ended_ns: job.ended_ns(&measure),
            task_rows: measure.rows.ends(),
            task_elapsed_ns: measure.took_ns.ends(),
            waiting_ns: measure.wait_ns(),
            operators_spilled_bytes: measure.operators_spilled_bytes(),
            exchange_spilled_bytes: measure.exchange_spilled_bytes,
            exchange_local_bytes: measure.exchange_local_bytes,
            exchange_flight_bytes: measure.exchange_flight_bytes,
            operators: (0..).zip(measure.operators).collect(),
        };
        (stage, measures)
    });
    measures.collect()
}
