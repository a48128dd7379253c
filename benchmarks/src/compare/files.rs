//! Two result files.

use std::path::Path;

use super::{Comparison, Pairs};
use crate::error::{BenchError, Result};
use crate::results::{QueryResult, Results};

/// Compares the queries that both files have: iteration with iteration.
pub fn compare_files(first: &Path, second: &Path) -> Result<Comparison> {
    let (one, two) = (Results::read(first)?, Results::read(second)?);
    if (one.suite, one.scale) != (two.suite, two.scale) {
        let described = |results: &Results| format!("{} at scale {}", results.suite, results.scale);
        return Err(BenchError::Usage(format!(
            "{} is of {}, {} of {}",
            first.display(),
            described(&one),
            second.display(),
            described(&two)
        )));
    }
    let queries = one.queries.iter().filter_map(|left| {
        let right = two.queries.iter().find(|right| right.query == left.query)?;
        (left.is_fine() && right.is_fine()).then(|| pairs(left, right))
    });
    let name = |path: &Path, results: &Results| format!("{} ({})", path.display(), results.engine);
    Ok(Comparison::new(name(first, &one), name(second, &two), queries.collect()))
}

fn pairs(left: &QueryResult, right: &QueryResult) -> Pairs {
    let zip = |left: &[f64], right: &[f64]| left.iter().copied().zip(right.iter().copied()).collect();
    Pairs { query: left.query, wall: zip(&left.seconds, &right.seconds), cpu: zip(&left.cpu_seconds, &right.cpu_seconds), problem: None }
}
