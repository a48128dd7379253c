//! The loop of questions and answers.

use std::io::{BufRead, Write};
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Runtime;

use crate::error::{PeerError, Result};
use crate::message::{Hello, Question, Reply};

/// An engine with the tables of a suite.
pub trait Engine: Send + Sync + 'static {
    /// Runs a statement until all of its rows are in this process, and counts them. An error is one of the statement, not of the peer.
    fn run(&self, sql: &str) -> impl Future<Output = Result<usize, String>> + Send;
}

/// Answers the questions of standard input until it ends.
pub fn serve_stdio(runtime: &Runtime, engine: impl Engine, hello: &Hello) -> Result<()> {
    serve(runtime, engine, hello, std::io::stdin().lock(), std::io::stdout().lock())
}

/// Says what the engine is, and then answers questions until they end.
pub fn serve(runtime: &Runtime, engine: impl Engine, hello: &Hello, questions: impl BufRead, mut answers: impl Write) -> Result<()> {
    let engine = Arc::new(engine);
    write_line(&mut answers, hello)?;
    for line in questions.lines() {
        let line = line.map_err(PeerError::at("reading a question"))?;
        let reply = match serde_json::from_str(&line) {
            Ok(Question { sql }) => answer(runtime, &engine, sql),
            Err(error) => Reply::Error(format!("{line:?} is no question: {error}")),
        };
        write_line(&mut answers, &reply)?;
    }
    Ok(())
}

/// Queries run on the runtime's own threads, whose number is the engine's; the caller's thread only waits.
fn answer<E: Engine>(runtime: &Runtime, engine: &Arc<E>, sql: String) -> Reply {
    let engine = Arc::clone(engine);
    match runtime.block_on(runtime.spawn(async move { engine.run(&sql).await })) {
        Ok(Ok(rows)) => Reply::Rows(rows),
        Ok(Err(why)) => Reply::Error(why),
        Err(panic) => Reply::Error(format!("the engine did not end well: {panic}")),
    }
}

fn write_line(output: &mut impl Write, message: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(message).map_err(PeerError::at("encoding an answer"))?;
    writeln!(output, "{line}").and_then(|()| output.flush()).map_err(PeerError::at("writing an answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has as many rows as the statement has letters.
    struct Letters;

    impl Engine for Letters {
        async fn run(&self, sql: &str) -> Result<usize, String> {
            match sql {
                "" => Err("nothing to count".into()),
                "panic" => panic!("as it was asked to"),
                _ => Ok(sql.len()),
            }
        }
    }

    #[test]
    fn each_question_has_a_line_for_an_answer() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let hello = Hello { engine: "letters".into(), pids: vec![7] };
        let questions = "{\"sql\": \"SELECT\\n1\"}\n{\"sql\": \"\"}\nsql?\n{\"sql\": \"panic\"}\n{\"sql\": \"SELECT 10\"}\n";
        let mut answers = Vec::new();
        serve(&runtime, Letters, &hello, questions.as_bytes(), &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let lines: Vec<_> = answers.lines().collect();
        assert_eq!(lines[..3], [r#"{"engine":"letters","pids":[7]}"#, r#"{"rows":8}"#, r#"{"error":"nothing to count"}"#]);
        assert!(lines[3].starts_with(r#"{"error":"\"sql?\" is no question: "#), "{}", lines[3]);
        assert!(lines[4].contains("did not end well"), "{}", lines[4]);
        assert_eq!(lines[5..], [r#"{"rows":9}"#]);
    }
}
