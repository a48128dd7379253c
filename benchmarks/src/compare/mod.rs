//! `volley-bench compare`: two result files, or two engines in alternating pairs.
//!
//! A ratio is the second against the first: below 1 the second is faster. Pairs alternate because a machine's speed drifts: both of
//! a pair see the same drift.

mod choice;
mod contestant;
mod engines;
mod files;
mod peer;
mod processes;
mod serve;

use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::machine::Machine;
use crate::report::say;
use crate::results::{geometric_mean, median, write_json};

pub use choice::{EngineChoice, Shape};
pub use engines::{EnginesRequest, compare_engines};
pub use files::compare_files;
pub use serve::serve_peer;

/// Two engines side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first, to which ratios relate.
    pub first: String,
    /// The second.
    pub second: String,
    /// Where, when, and by which command it was compared.
    pub machine: Machine,
    /// Each query.
    pub queries: Vec<Pairs>,
    /// Over all queries: wall time of the second against the first.
    pub wall: Option<Ratio>,
    /// Over all queries: CPU time.
    pub cpu: Option<Ratio>,
}

/// One query's pairs of measurements.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pairs {
    /// The query's number.
    pub query: usize,
    /// Wall seconds of first and second.
    pub wall: Vec<(f64, f64)>,
    /// CPU seconds of first and second, where they are known.
    pub cpu: Vec<(f64, f64)>,
    /// Why there are no more pairs: the query failed on one of them, or they had other numbers of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A ratio of the second to the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Geometric mean over the queries of their median ratios.
    pub geometric_mean: f64,
    /// The sum of the queries' medians of the second against that of the first.
    pub total: f64,
    /// The least of the queries' medians.
    pub least: f64,
    /// The greatest of the queries' medians.
    pub greatest: f64,
    /// The least of the geometric means over the queries, each of one round of pairs.
    pub least_round: f64,
    /// The greatest of them.
    pub greatest_round: f64,
}

impl Comparison {
    fn new(first: String, second: String, queries: Vec<Pairs>) -> Self {
        let wall = Ratio::of(queries.iter().map(|pairs| pairs.wall.as_slice()));
        let cpu = Ratio::of(queries.iter().map(|pairs| pairs.cpu.as_slice()));
        Self { first, second, machine: Machine::here(), queries, wall, cpu }
    }

    /// Prints it, and writes it as JSON where asked.
    pub fn publish(&self, json: Option<&Path>) -> Result<()> {
        say(&format!("first:  {}", self.first));
        say(&format!("second: {}", self.second));
        say(&self.machine.summary());
        say(&self.machine.command);
        for pairs in &self.queries {
            say(&pairs.line());
        }
        for (name, ratio) in [("wall", self.wall), ("cpu", self.cpu)] {
            if let Some(Ratio { geometric_mean, total, least, greatest, least_round, greatest_round }) = ratio {
                say(&format!(
                    "{name} second/first: geometric mean {geometric_mean:.3}, total {total:.3} (rounds {least_round:.3} to {greatest_round:.3}, queries {least:.3} to {greatest:.3})"
                ));
            }
        }
        json.map_or(Ok(()), |path| write_json(self, path))
    }
}

impl Pairs {
    fn line(&self) -> String {
        let mut line = format!("{:<4}", format!("q{}", self.query));
        for (name, pairs) in [("wall", &self.wall), ("cpu", &self.cpu)] {
            let side = |of: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(of).collect::<Vec<_>>());
            let ratios = ratios(pairs);
            let (Some(first), Some(second), Some(ratio)) = (side(|pair| pair.0), side(|pair| pair.1), median(&ratios)) else { continue };
            let (least, greatest) = spread(&ratios);
            line.push_str(&format!("  {name} {first:>8.3} s {second:>8.3} s  ratio {ratio:.3} ({least:.3}-{greatest:.3})"));
        }
        if let Some(problem) = &self.problem {
            line.push_str("  ");
            line.push_str(problem.lines().next().unwrap_or_default());
        }
        line
    }
}

impl Ratio {
    fn of<'a>(queries: impl Iterator<Item = &'a [(f64, f64)]> + Clone) -> Option<Self> {
        let medians: Vec<_> = queries.clone().filter_map(|pairs| median(&ratios(pairs))).collect();
        let geometric_mean = geometric_mean(&medians)?;
        let side = |of: fn(&(f64, f64)) -> f64| {
            let of_query = |pairs: &'a [(f64, f64)]| median(&pairs.iter().map(of).collect::<Vec<_>>());
            queries.clone().filter_map(of_query).sum::<f64>()
        };
        let total = side(|pair| pair.1) / side(|pair| pair.0);
        let rounds = queries.clone().map(<[_]>::len).filter(|count| *count > 0).min()?;
        let of_round = |round: usize| {
            let ratios: Vec<_> = queries.clone().filter_map(|pairs| pairs.get(round)).map(|(first, second)| second / first).collect();
            crate::results::geometric_mean(&ratios)
        };
        let (least_round, greatest_round) = spread(&(0..rounds).filter_map(of_round).collect::<Vec<_>>());
        let (least, greatest) = spread(&medians);
        Some(Self { geometric_mean, total, least, greatest, least_round, greatest_round })
    }
}

fn ratios(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs.iter().filter(|(first, second)| *first > 0.0 && *second > 0.0).map(|(first, second)| second / first).collect()
}

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(*value), greatest.max(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_of_rounds() {
        let pairs = |query, wall: &[(f64, f64)]| Pairs { query, wall: wall.to_vec(), ..Pairs::default() };
        let queries = vec![pairs(1, &[(1.0, 2.0), (1.0, 2.0), (1.0, 8.0)]), pairs(2, &[(2.0, 1.0), (2.0, 1.0), (2.0, 4.0)])];
        let comparison = Comparison::new("a".into(), "b".into(), queries);
        let wall = comparison.wall.unwrap();
        assert!((wall.geometric_mean - 1.0).abs() < 1e-12);
        assert_eq!((wall.least, wall.greatest, wall.total), (0.5, 2.0, 1.0));
        assert!((wall.least_round - 1.0).abs() < 1e-12);
        assert!((wall.greatest_round - 4.0).abs() < 1e-12);
        assert_eq!(comparison.cpu, None);
        assert_eq!(comparison.queries[0].line(), "q1    wall    1.000 s    2.000 s  ratio 2.000 (2.000-8.000)");
    }
}
