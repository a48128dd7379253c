//! What a run measured, as it is kept in JSON.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Result};
use crate::machine::Machine;
use crate::suite::Suite;
use crate::usage::ProcessPeak;

/// The results of `volley-bench run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The suite.
    pub suite: Suite,
    /// Its scale factor.
    pub scale: f64,
    /// What ran the queries.
    pub engine: String,
    /// Settings beyond the defaults.
    pub settings: Vec<(String, String)>,
    /// Where, when, and by which command.
    pub machine: Machine,
    /// One entry for each query, in the order in which they ran.
    pub queries: Vec<QueryResult>,
}

/// What was measured of one query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryResult {
    /// Its number.
    pub query: usize,
    /// Wall time of each iteration.
    pub seconds: Vec<f64>,
    /// CPU time of each iteration, where it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_seconds: Vec<f64>,
    /// Rows of the answer.
    pub rows: usize,
    /// Peak of resident memory of the process that had most, where it is known.
    pub peak_memory_bytes: Option<u64>,
    /// The peak of each process, where it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessPeak>,
    /// Stages of the last iteration's job.
    pub stages: usize,
    /// Their tasks.
    pub tasks: u64,
    /// Exchanged between tasks in one process.
    pub exchange_local_bytes: u64,
    /// Exchanged over Flight.
    pub exchange_flight_bytes: u64,
    /// Spilled to disk.
    pub spilled_bytes: u64,
    /// Sealed tasks that were run again because their output was lost.
    pub reruns: u32,
    /// Whether the answer is right; `None` if that was not asked.
    pub right: Option<bool>,
    /// Why it failed or is wrong.
    pub problem: Option<String>,
}

impl QueryResult {
    /// Least wall time.
    pub fn min_seconds(&self) -> Option<f64> {
        self.seconds.iter().copied().min_by(f64::total_cmp)
    }

    /// Median wall time.
    pub fn median_seconds(&self) -> Option<f64> {
        median(&self.seconds)
    }

    /// Median CPU time.
    pub fn median_cpu_seconds(&self) -> Option<f64> {
        median(&self.cpu_seconds)
    }

    /// Whether it ran, and gave the right answer if that was asked.
    pub fn is_fine(&self) -> bool {
        self.problem.is_none() && self.right != Some(false)
    }
}

impl Results {
    /// Reads a file that [`Results::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(BenchError::file(path))?;
        serde_json::from_str(&text).map_err(|error| BenchError::Usage(format!("{} is no result of a run: {error}", path.display())))
    }

    /// Writes them as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(self, path)
    }
}

/// Writes anything as JSON.
pub(crate) fn write_json(value: &impl Serialize, path: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| BenchError::Usage(error.to_string()))?;
    text.push('\n');
    fs::write(path, text).map_err(BenchError::file(path))
}

/// The middle value; the mean of the two in the middle of an even number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((sorted[middle - 1] + upper) / 2.0) }
}

/// The value below which a share of the others is: 0 gives the least, 1 the greatest.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().checked_sub(1)? as f64 * share).round() as usize;
    sorted.get(place).copied()
}

/// The geometric mean of ratios.
pub(crate) fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (logarithms / ratios.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_and_means() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.0), Some(1.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 1.0), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
