//! Two engines in one process, measured in alternating pairs.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use volley_client::EmbeddedOptions;

use super::{Comparison, Pairs};
use crate::baseline::Baseline;
use crate::data::Data;
use crate::engine::{Engine, Place};
use crate::error::{BenchError, Result};
use crate::report::say;
use crate::suite::{Query, Suite};
use crate::usage::Processes;

/// An engine by its name: `datafusion`, `volley`, or `volley-2x1` for two executors of one slot whose plans are always cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineChoice {
    /// Plain DataFusion.
    DataFusion,
    /// The embedded cluster as it starts by default, with as many slots as threads are asked for.
    Volley,
    /// An embedded cluster of some executors of some slots, with `volley.fit = 'never'`.
    Cluster {
        /// Executors.
        executors: NonZeroUsize,
        /// Slots of each.
        slots: NonZeroUsize,
    },
}

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

enum Contestant {
    DataFusion(Baseline),
    Volley(Box<Engine>),
}

/// Runs every query on both engines in turn, after a run of each that does not count.
pub async fn compare_engines(request: &EnginesRequest) -> Result<Comparison> {
    let data = Data::find(request.suite, &request.data)?;
    let first = Contestant::open(request.engines.0, request, &data).await?;
    let second = Contestant::open(request.engines.1, request, &data).await?;
    let mut queries = Vec::new();
    for query in &request.queries {
        let sql = query.sql(request.scale);
        let mut pairs = Pairs { query: query.number, ..Pairs::default() };
        first.measure(&sql).await?;
        second.measure(&sql).await?;
        for round in 0..request.pairs.max(1) {
            // Each engine goes first in every other pair.
            let (one, two) = if round % 2 == 0 {
                let one = first.measure(&sql).await?;
                (one, second.measure(&sql).await?)
            } else {
                let two = second.measure(&sql).await?;
                (first.measure(&sql).await?, two)
            };
            pairs.wall.push((one.0, two.0));
            if let (Some(one), Some(two)) = (one.1, two.1) {
                pairs.cpu.push((one, two));
            }
        }
        say(&pairs.line());
        queries.push(pairs);
    }
    let name = |choice, contestant: &Contestant| match contestant {
        Contestant::DataFusion(_) => format!("{choice}, {} threads", request.threads),
        Contestant::Volley(engine) => format!("{choice}, {}", engine.description()),
    };
    let names = (name(request.engines.0, &first), name(request.engines.1, &second));
    first.close().await?;
    second.close().await?;
    Ok(Comparison::new(names.0, names.1, queries))
}

impl Contestant {
    async fn open(choice: EngineChoice, request: &EnginesRequest, data: &Data) -> Result<Self> {
        let mut settings = request.settings.clone();
        let options = match choice {
            EngineChoice::DataFusion => return Ok(Self::DataFusion(Baseline::open(data, request.threads.get()).await?)),
            EngineChoice::Volley => {
                EmbeddedOptions { executors: None, slots: Some(request.threads), memory_bytes: request.memory_bytes, ..Default::default() }
            }
            EngineChoice::Cluster { executors, slots } => {
                settings.insert(0, ("volley.fit".into(), "never".into()));
                EmbeddedOptions { executors: Some(executors), slots: Some(slots), memory_bytes: request.memory_bytes, ..Default::default() }
            }
        };
        let engine = Engine::open(&Place::Embedded(options), &settings, data).await?;
        Ok(Self::Volley(Box::new(engine)))
    }

    /// Wall and CPU seconds of a query.
    async fn measure(&self, sql: &str) -> Result<(f64, Option<f64>)> {
        let before = Processes::This.usage(&[]);
        let started = Instant::now();
        let wall = match self {
            Self::DataFusion(baseline) => {
                baseline.answer(sql).await?;
                started.elapsed()
            }
            Self::Volley(engine) => engine.run(sql).await?.elapsed,
        };
        Ok((wall.as_secs_f64(), Processes::This.usage(&[]).cpu_since(&before)))
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::DataFusion(_) => Ok(()),
            Self::Volley(engine) => engine.close().await,
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataFusion => f.write_str("datafusion"),
            Self::Volley => f.write_str("volley"),
            Self::Cluster { executors, slots } => write!(f, "volley-{executors}x{slots}"),
        }
    }
}

impl FromStr for EngineChoice {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || BenchError::Usage(format!("'{text}' is none of the engines datafusion, volley and volley-NxM (such as volley-2x1)"));
        match text {
            "datafusion" => Ok(Self::DataFusion),
            "volley" => Ok(Self::Volley),
            _ => {
                let (executors, slots) = text.strip_prefix("volley-").and_then(|size| size.split_once('x')).ok_or_else(wrong)?;
                Ok(Self::Cluster { executors: executors.parse().map_err(|_| wrong())?, slots: slots.parse().map_err(|_| wrong())? })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named() {
        for name in ["datafusion", "volley", "volley-2x1"] {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        for name in ["spark", "volley-", "volley-0x1", "volley-2"] {
            assert!(name.parse::<EngineChoice>().is_err(), "{name}");
        }
    }
}
