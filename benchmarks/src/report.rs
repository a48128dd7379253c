//! What benchmarks print.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::results::QueryResult;

/// Prints a line to standard output. That nobody reads it is no reason to stop measuring.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// One query's measurements in a line.
pub(crate) fn query_line(result: &QueryResult) -> String {
    let mut line = format!("{:<4}", format!("q{}", result.query));
    // Writing to a string can't fail.
    if let (Some(min), Some(median)) = (result.min_seconds(), result.median_seconds()) {
        let _ = write!(line, " min {min:>8.3} s  median {median:>8.3} s  rows {:>6}", result.rows);
    }
    if let Some(cpu) = result.median_cpu_seconds() {
        let _ = write!(line, "  cpu {cpu:>7.2} s");
    }
    if let [first, others @ ..] = result.processes.as_slice() {
        // Process by process, in the order in which they are named in the JSON.
        let _ = write!(line, "  peak {:>9}", bytes(first.peak_bytes));
        others.iter().for_each(|other| {
            let _ = write!(line, " + {:>9}", bytes(other.peak_bytes));
        });
    }
    let _ = write!(line, "  stages {:>2}  tasks {:>3}", result.stages, result.tasks);
    let _ = write!(line, "  local {:>9}  flight {:>9}", bytes(result.exchange_local_bytes), bytes(result.exchange_flight_bytes));
    if result.spilled_bytes > 0 {
        let _ = write!(line, "  spilled {}", bytes(result.spilled_bytes));
    }
    if result.reruns > 0 {
        let _ = write!(line, "  reruns {}", result.reruns);
    }
    match (&result.problem, result.right) {
        (Some(problem), Some(_)) => {
            let _ = write!(line, "  WRONG: {problem}");
        }
        (Some(problem), None) => {
            let _ = write!(line, "  FAILED: {problem}");
        }
        (None, Some(true)) => line.push_str("  right"),
        (None, _) => {}
    }
    line
}

/// `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", value / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", value / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", value / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::ProcessPeak;

    #[test]
    fn a_line_tells_what_was_measured_and_nothing_else() {
        let fine =
            QueryResult { query: 3, seconds: vec![0.25, 0.75], rows: 10, stages: 2, tasks: 5, right: Some(true), ..Default::default() };
        assert_eq!(
            query_line(&fine),
            "q3   min    0.250 s  median    0.500 s  rows     10  stages  2  tasks   5  local       0 B  flight       0 B  right"
        );
        let peak = |bytes| ProcessPeak { peak_bytes: bytes, ..Default::default() };
        let measured = QueryResult { processes: vec![peak(1 << 20), peak(3 << 20)], ..fine };
        assert!(query_line(&measured).contains("  peak   1.0 MiB +   3.0 MiB  stages"), "{}", query_line(&measured));
        let failed = QueryResult { query: 3, problem: Some("no table".into()), ..Default::default() };
        assert!(query_line(&failed).ends_with("  FAILED: no table"));
        let wrong = QueryResult { right: Some(false), ..failed };
        assert!(query_line(&wrong).ends_with("  WRONG: no table"));
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        for (count, text) in [(0, "0 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 30, "5.00 GiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
