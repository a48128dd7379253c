//! `volley-bench peer`: an engine behind the protocol of peers, so that two builds can be compared in alternating pairs.

use std::io::{BufRead, Write};

use super::EnginesRequest;
use super::contestant::Contestant;
use super::peer::{Hello, Question, Reply};
use crate::data::Data;
use crate::error::{BenchError, Result};

/// Serves `request`'s first engine to whoever started this program, until its input ends.
pub async fn serve_peer(request: &EnginesRequest) -> Result<()> {
    let data = Data::find(request.suite, &request.data)?;
    let mut contestant = Contestant::open(&request.engines.0, request, &data).await?;
    let pids = match &contestant {
        Contestant::Processes(_, processes) => processes.ids(),
        _ => vec![std::process::id()],
    };
    let engine = format!("{}, {}", request.engines.0, contestant.description());
    answer(&Hello { engine, pids })?;
    while let Some(line) = tokio::task::block_in_place(|| std::io::stdin().lock().lines().next()) {
        let line = line.map_err(BenchError::file("standard input"))?;
        let Question { sql } =
            serde_json::from_str(&line).map_err(|error| BenchError::Usage(format!("{line:?} is not {{\"sql\": \"..\"}}: {error}")))?;
        answer(&match contestant.measure(&sql).await?.rows {
            Ok(rows) => Reply::Rows(rows),
            Err(why) => Reply::Error(why),
        })?;
    }
    contestant.close().await
}

fn answer(what: &impl serde::Serialize) -> Result<()> {
    let line = serde_json::to_string(what).map_err(|error| BenchError::Usage(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(BenchError::file("standard output"))
}
