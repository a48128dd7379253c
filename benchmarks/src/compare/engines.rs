//! Two engines, measured in alternating pairs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::choice::EngineChoice;
use super::contestant::{Contestant, Measured};
use super::{Comparison, Pairs};
use crate::data::Data;
use crate::error::Result;
use crate::report::say;
use crate::suite::{Query, Suite};

/// What is to be compared.
#[derive(Debug, Clone)]
pub struct EnginesRequest {
    /// The suite.
    pub suite: Suite,
    /// Where its tables are.
    pub data: PathBuf,
    /// Their scale factor.
    pub scale: f64,
    /// Which queries.
    pub queries: Vec<Query>,
    /// The first engine, to which ratios relate, and the second.
    pub engines: (EngineChoice, EngineChoice),
    /// Pairs of each query.
    pub pairs: usize,
    /// Threads of plain DataFusion, and slots of the default cluster.
    pub threads: NonZeroUsize,
    /// Settings of the clusters beyond the defaults.
    pub settings: Vec<(String, String)>,
    /// Memory of each executor.
    pub memory_bytes: Option<usize>,
}

/// Runs every query on both engines in turn, after a run of each that does not count. A query that fails on one of them has no ratio.
pub async fn compare_engines(request: &EnginesRequest) -> Result<Comparison> {
    let data = Data::find(request.suite, &request.data)?;
    let mut first = Contestant::open(&request.engines.0, request, &data).await?;
    let mut second = Contestant::open(&request.engines.1, request, &data).await?;
    let mut queries = Vec::new();
    for query in &request.queries {
        let pairs = alternate(query, request, &mut first, &mut second).await?;
        say(&pairs.line());
        queries.push(pairs);
    }
    let names = (format!("{}, {}", request.engines.0, first.description()), format!("{}, {}", request.engines.1, second.description()));
    first.close().await?;
    second.close().await?;
    Ok(Comparison::new(names.0, names.1, queries))
}

async fn alternate(query: &Query, request: &EnginesRequest, first: &mut Contestant, second: &mut Contestant) -> Result<Pairs> {
    let sql = query.sql(request.scale);
    let mut pairs = Pairs { query: query.number, ..Pairs::default() };
    pairs.problem = problem(&first.measure(&sql).await?, &second.measure(&sql).await?);
    for round in 0..request.pairs.max(1) {
        if pairs.problem.is_some() {
            break;
        }
        // Each engine goes first in every other pair.
        let (one, two) = if round % 2 == 0 {
            let one = first.measure(&sql).await?;
            (one, second.measure(&sql).await?)
        } else {
            let two = second.measure(&sql).await?;
            (first.measure(&sql).await?, two)
        };
        pairs.problem = problem(&one, &two);
        if pairs.problem.is_none() {
            pairs.wall.push((one.wall, two.wall));
            pairs.cpu.extend(one.cpu.zip(two.cpu));
        }
    }
    Ok(pairs)
}

/// Why two runs can't be compared.
fn problem(first: &Measured, second: &Measured) -> Option<String> {
    match (&first.rows, &second.rows) {
        (Ok(one), Ok(two)) if one == two => None,
        (Ok(one), Ok(two)) => Some(format!("{one} rows of the first, {two} of the second")),
        (Err(why), _) => Some(format!("the first failed: {why}")),
        (_, Err(why)) => Some(format!("the second failed: {why}")),
    }
}
