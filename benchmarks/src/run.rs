//! `volley-bench run`: the queries of a suite on a cluster, measured, and checked where asked.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::baseline::Baseline;
use crate::data::Data;
use crate::engine::{Engine, Place, Run};
use crate::error::{BenchError, Result};
use crate::machine::Machine;
use crate::report::{query_line, say};
use crate::results::{QueryResult, Results};
use crate::suite::{Query, Suite};
use crate::usage::Processes;
use crate::verify::{Columns, PublishedAnswer, Verdict, compare, contained, matches_published};

/// Partitions, and threads, of the plain DataFusion that gives the right answers.
const VERIFY_PARTITIONS: usize = 2;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The suite.
    pub suite: Suite,
    /// Where its tables are.
    pub data: PathBuf,
    /// Their scale factor.
    pub scale: f64,
    /// Which queries.
    pub queries: Vec<Query>,
    /// How often each.
    pub iterations: usize,
    /// On which cluster.
    pub place: Place,
    /// Settings beyond the defaults.
    pub settings: Vec<(String, String)>,
    /// The processes whose CPU time and memory count.
    pub processes: Processes,
    /// Whether answers are compared with plain DataFusion's.
    pub verify: bool,
    /// Folder of published answers to compare with.
    pub answers: Option<PathBuf>,
    /// Which columns of those count.
    pub columns: Columns,
    /// Where results are written as JSON.
    pub json: Option<PathBuf>,
}

/// Answers known to be right.
struct Truth {
    baseline: Option<Baseline>,
    published: HashMap<usize, PublishedAnswer>,
    columns: Columns,
}

/// Runs all queries; an error at the end if one failed or was wrong.
pub async fn run(request: &RunRequest) -> Result<Results> {
    let data = Data::find(request.suite, &request.data)?;
    let truth = Truth::load(request, &data).await?;
    let engine = Engine::open(&request.place, &request.settings, &data).await?;
    let mut results = Results {
        suite: request.suite,
        scale: request.scale,
        engine: engine.description().to_owned(),
        settings: request.settings.clone(),
        machine: Machine::here(),
        queries: Vec::new(),
    };
    say(&format!("{} at scale {} on {}", results.suite, results.scale, results.engine));
    say(&results.machine.summary());
    say(&results.machine.command);
    for query in &request.queries {
        let result = measure(&engine, query, request, &truth).await;
        say(&query_line(&result));
        results.queries.push(result);
    }
    engine.close().await?;
    if let Some(path) = &request.json {
        results.write(path)?;
    }
    conclude(&results, truth.is_asked())?;
    Ok(results)
}

/// `22 of 22 right`, or without answers to compare with, `22 of 22 ran`.
fn conclude(results: &Results, asked: bool) -> Result<()> {
    let all = results.queries.len();
    let right = results.queries.iter().filter(|query| query.is_fine()).count();
    let empty: Vec<_> =
        results.queries.iter().filter(|query| query.is_fine() && query.rows == 0).map(|query| query.query.to_string()).collect();
    let total: f64 = results.queries.iter().filter_map(QueryResult::median_seconds).sum();
    say(&format!("sum of medians {total:.3} s"));
    if !empty.is_empty() {
        say(&format!("empty answers: {}", empty.join(", ")));
    }
    say(&format!("{right} of {all} {}", if asked { "right" } else { "ran" }));
    if right == all { Ok(()) } else { Err(BenchError::NotAllRight { right, all }) }
}

async fn measure(engine: &Engine, query: &Query, request: &RunRequest, truth: &Truth) -> QueryResult {
    let mut result = QueryResult { query: query.number, ..QueryResult::default() };
    let sql = query.sql(request.scale);
    let mut last = None;
    request.processes.reset_peak();
    let mut used = engine.usage(&request.processes).await;
    for _ in 0..request.iterations.max(1) {
        match engine.run(&sql).await {
            Ok(run) => {
                result.seconds.push(run.elapsed.as_secs_f64());
                let now = engine.usage(&request.processes).await;
                result.cpu_seconds.extend(now.cpu_since(&used));
                used = now;
                last = Some(run);
            }
            Err(error) => {
                result.problem = Some(error.to_string());
                return result;
            }
        }
    }
    result.peak_memory_bytes = used.peaks.iter().map(|peak| peak.peak_bytes).max();
    result.processes = used.peaks;
    if let Some(run) = last {
        describe(&mut result, &run);
        if truth.is_asked() {
            let wrong = truth.check(query, &sql, &run).await.err();
            result.right = Some(wrong.is_none());
            result.problem = wrong;
        }
    }
    result
}

fn describe(result: &mut QueryResult, run: &Run) {
    result.rows = run.answer.rows();
    if let Some(job) = &run.job {
        result.stages = job.stages.len();
        result.tasks = job.tasks();
        result.exchange_local_bytes = job.exchange_local_bytes();
        result.exchange_flight_bytes = job.exchange_flight_bytes();
        result.spilled_bytes = job.spilled_bytes();
        result.reruns = job.stages.iter().map(|stage| stage.reruns).sum();
    }
}

impl Truth {
    async fn load(request: &RunRequest, data: &Data) -> Result<Self> {
        let baseline = if request.verify { Some(Baseline::open(data, VERIFY_PARTITIONS).await?) } else { None };
        let mut published = HashMap::new();
        if let Some(folder) = &request.answers {
            for query in &request.queries {
                let path = folder.join(format!("q{:02}.csv", query.number));
                let text = fs::read_to_string(&path).map_err(BenchError::file(&path))?;
                published.insert(query.number, PublishedAnswer::parse(&text));
            }
        }
        Ok(Self { baseline, published, columns: request.columns })
    }

    fn is_asked(&self) -> bool {
        self.baseline.is_some() || !self.published.is_empty()
    }

    /// Nothing if the answer is right, else why it is not.
    async fn check(&self, query: &Query, sql: &str, run: &Run) -> Result<(), String> {
        if let Some(baseline) = &self.baseline {
            let failed = |error: BenchError| format!("plain DataFusion: {error}");
            let expected = baseline.answer(sql).await.map_err(failed)?;
            let order = baseline.order(sql).await.map_err(failed)?;
            if let Verdict::MayTie { .. } = compare(&expected, &run.answer, &order).map_err(|difference| difference.to_string())? {
                let all = baseline.unlimited_answer(sql).await.map_err(failed)?;
                contained(&all, &run.answer).map_err(|difference| format!("not among the rows without LIMIT: {difference}"))?;
            }
        }
        match self.published.get(&query.number) {
            Some(published) => {
                matches_published(published, &run.answer, self.columns).map_err(|difference| format!("published answer: {difference}"))
            }
            None => Ok(()),
        }
    }
}
