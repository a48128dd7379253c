//! The line protocol: one line of JSON says that a peer is ready, then each line with a query gets one line with its answer.

use std::io::{BufRead, Write};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The first line that a peer prints, once it can take queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Name, version, and the settings that are not the engine's defaults.
    pub engine: String,
    /// All processes whose CPU time counts.
    pub pids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Request {
    sql: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Rows(usize),
    Error(String),
}

/// Says that the peer is ready and answers queries until the input ends.
///
/// `run` takes all rows of a query and returns how many they are. What it fails with is an answer, and the next query is taken.
pub fn serve(ready: &Ready, input: impl BufRead, mut output: impl Write, mut run: impl FnMut(&str) -> Result<usize>) -> Result<()> {
    print(&mut output, ready)?;
    for line in input.lines() {
        let line = line.context("can't read a query")?;
        if line.trim().is_empty() {
            continue;
        }
        let rows = serde_json::from_str::<Request>(&line).context("a query is a line {\"sql\": \"...\"}").and_then(|query| run(&query.sql));
        let answer = match rows {
            Ok(rows) => Answer::Rows(rows),
            // With its causes, all on one line: JSON escapes line breaks.
            Err(error) => Answer::Error(format!("{error:#}")),
        };
        print(&mut output, &answer)?;
    }
    Ok(())
}

fn print(output: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    // Whoever waits for the line gets it at once.
    output.write_all(&line).and_then(|()| output.flush()).context("can't write an answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gets_one_answer_and_an_error_does_not_end_the_session() -> Result<()> {
        let ready = Ready { engine: "Test 1".into(), pids: vec![1, 2] };
        let input = "{\"sql\": \"SELECT 1\"}\n\n{\"sql\": \"wrong\"}\nnot JSON\n{\"sql\": \"SELECT\\n22\"}";
        let mut output = Vec::new();
        let run = |sql: &str| match sql.strip_prefix("SELECT") {
            Some(rest) => Ok(rest.trim().parse()?),
            None => Err(anyhow::anyhow!("second\nline").context("first")),
        };
        serve(&ready, input.as_bytes(), &mut output, run)?;

        let output = String::from_utf8(output)?;
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[0], r#"{"engine":"Test 1","pids":[1,2]}"#);
        assert_eq!(lines[1], r#"{"rows":1}"#);
        assert_eq!(lines[2], r#"{"error":"first: second\nline"}"#);
        assert!(lines[3].starts_with(r#"{"error":"a query is a line"#), "{}", lines[3]);
        assert_eq!(lines[4], r#"{"rows":22}"#);
        assert_eq!(lines.len(), 5);
        Ok(())
    }
}
