//! Jobs and executors of a running cluster.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use serde::Serialize;
use volley_proto::JobId;

use super::args::{CancelArgs, ExecutorsArgs, JobArgs, JobsArgs};
use super::config::File;
use super::output::{Format, Out, ResultWriter};
use super::{progress, say};
use crate::error::{ClientError, Result};
use crate::flight::FlightClient;
use crate::report::{ExecutorSummary, JobSummary, job_state};

/// Characters of a statement shown in a list.
const STATEMENT_CHARS: usize = 60;

/// `volley jobs`.
pub(crate) async fn jobs(args: &JobsArgs, file: &File) -> Result<()> {
    let client = FlightClient::connect(&args.cluster.place.url(file)).await?;
    show_jobs(&client, args.limit, args.cluster.format, &mut Out::stdout(None)).await
}

/// `volley job`.
pub(crate) async fn job(args: &JobArgs, file: &File) -> Result<()> {
    let client = FlightClient::connect(&args.cluster.place.url(file)).await?;
    show_job(&client, args.job, args.cluster.format, &mut Out::stdout(None)).await
}

/// `volley cancel`.
pub(crate) async fn cancel(args: &CancelArgs, file: &File) -> Result<()> {
    let client = FlightClient::connect(&args.cluster.place.url(file)).await?;
    cancel_job(&client, args.job, args.cluster.format, &mut Out::stdout(None)).await
}

/// `volley executors`.
pub(crate) async fn executors(args: &ExecutorsArgs, file: &File) -> Result<()> {
    let client = FlightClient::connect(&args.cluster.place.url(file)).await?;
    show_executors(&client, args.cluster.format, &mut Out::stdout(None)).await
}

/// Lists the newest jobs; 0 for all.
pub(crate) async fn show_jobs(client: &FlightClient, limit: u32, format: Format, out: &mut Out) -> Result<()> {
    let jobs: Vec<JobSummary> = client.jobs(limit).await?.into_iter().map(JobSummary::from).collect();
    print(format, out, &jobs, || job_rows(&jobs))
}

/// Shows a job and its stages.
pub(crate) async fn show_job(client: &FlightClient, job: JobId, format: Format, out: &mut Out) -> Result<()> {
    let report = client.job(job).await?;
    let progress = progress::describe(&report).map(|progress| format!("{progress}\n")).unwrap_or_default();
    let job = JobSummary::from(report);
    if matches!(format, Format::Json | Format::Ndjson) {
        return write_out(out, format, &json(format, &job)?);
    }
    let stages = stage_rows(&job)?;
    if format != Format::Table {
        return write_rows(out, format, &stages);
    }
    let plan = plan(&job);
    let text = written(out, format, &stages)?;
    write_out(out, format, &format!("{}{progress}{}{plan}", job_header(&job), String::from_utf8_lossy(&text)))
}

/// Cancels a job and says how it stands.
pub(crate) async fn cancel_job(client: &FlightClient, job: JobId, format: Format, out: &mut Out) -> Result<()> {
    let state = job_state(client.cancel_job(job).await?);
    match format {
        Format::Table | Format::Vertical => {
            say(&format!("{job} is {state}"));
            Ok(())
        }
        Format::Json | Format::Ndjson => {
            write_out(out, format, &json(format, &serde_json::json!({ "job": job.to_string(), "state": state }))?)
        }
        format => {
            let [job, state] = [job.to_string(), state.to_owned()].map(|text| formatted(std::iter::once(text)));
            write_rows(out, format, &rows(vec![("job", job), ("state", state)])?)
        }
    }
}

/// Lists executors.
pub(crate) async fn show_executors(client: &FlightClient, format: Format, out: &mut Out) -> Result<()> {
    let executors: Vec<ExecutorSummary> = client.executors().await?.into_iter().map(ExecutorSummary::from).collect();
    print(format, out, &executors, || executor_rows(&executors))
}

/// Structures as JSON, rows in the other formats.
fn print<T: Serialize>(format: Format, out: &mut Out, items: &[T], rows: impl Fn() -> Result<RecordBatch>) -> Result<()> {
    match format {
        Format::Json => write_out(out, format, &json(format, &items)?),
        Format::Ndjson => write_out(out, format, &items.iter().map(|item| json(format, item)).collect::<Result<String>>()?),
        format => write_rows(out, format, &rows()?),
    }
}

fn json(format: Format, item: &impl Serialize) -> Result<String> {
    let text = if format == Format::Json { serde_json::to_string_pretty(item) } else { serde_json::to_string(item) };
    text.map(|text| text + "\n").map_err(|error| ClientError::Local(error.to_string()))
}

fn write_rows(out: &mut Out, format: Format, rows: &RecordBatch) -> Result<()> {
    let bytes = written(out, format, rows)?;
    write_all(out, format, &bytes)
}

/// Rows as they are written there: a table fits on a terminal.
fn written(out: &Out, format: Format, rows: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = ResultWriter::new(format, &mut bytes);
    writer.screen = out.screen();
    writer.write(rows)?;
    Ok(bytes)
}

fn write_out(out: &mut Out, format: Format, text: &str) -> Result<()> {
    write_all(out, format, text.as_bytes())
}

/// Writes a whole answer; a reader that went away is no failure.
pub(crate) fn write_all(out: &mut Out, format: Format, bytes: &[u8]) -> Result<()> {
    out.begin(format).map_err(ClientError::Local)?;
    match out.write_all(bytes).and_then(|()| out.end()) {
        Err(error) if !out.reader_left() => Err(ClientError::Local(format!("standard output: {error}"))),
        _ => Ok(()),
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn formatted(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn numbers(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

fn large_numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    RecordBatch::try_from_iter(columns).map_err(ClientError::from)
}

fn first_line(statement: &str) -> String {
    let mut line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(STATEMENT_CHARS) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}

fn job_rows(jobs: &[JobSummary]) -> Result<RecordBatch> {
    rows(vec![
        ("job", texts(jobs.iter().map(|job| job.job.as_str()))),
        ("state", texts(jobs.iter().map(|job| job.state))),
        ("seconds", formatted(jobs.iter().map(|job| format!("{:.3}", job.elapsed_s)))),
        ("rows", large_numbers(jobs.iter().map(|job| job.result_rows))),
        ("statement", formatted(jobs.iter().map(|job| first_line(&job.statement)))),
        ("error", formatted(jobs.iter().map(|job| first_line(&job.error)))),
    ])
}

fn executor_rows(executors: &[ExecutorSummary]) -> Result<RecordBatch> {
    rows(vec![
        ("executor", texts(executors.iter().map(|executor| executor.executor.as_str()))),
        ("state", texts(executors.iter().map(|executor| executor.state))),
        ("address", texts(executors.iter().map(|executor| executor.address.as_str()))),
        ("slots", numbers(executors.iter().map(|executor| executor.slots))),
        ("busy", numbers(executors.iter().map(|executor| executor.busy_slots))),
        ("memory", formatted(executors.iter().map(|executor| human_bytes(executor.memory_bytes)))),
        ("used", formatted(executors.iter().map(|executor| human_bytes(executor.memory_used_bytes)))),
        ("held", formatted(executors.iter().map(|executor| human_bytes(executor.store_bytes)))),
        ("spilled", formatted(executors.iter().map(|executor| human_bytes(executor.spilled_bytes)))),
        ("peak", formatted(executors.iter().map(|executor| human_bytes(executor.peak_resident_bytes)))),
        ("cpu s", formatted(executors.iter().map(|executor| format!("{:.1}", executor.cpu_s)))),
    ])
}

fn stage_rows(job: &JobSummary) -> Result<RecordBatch> {
    let stages = &job.stages;
    rows(vec![
        ("stage", texts(stages.iter().map(|stage| stage.stage.as_str()))),
        ("inputs", formatted(stages.iter().map(|stage| stage.inputs.join(" ")))),
        ("output", texts(stages.iter().map(|stage| stage.output.as_str()))),
        ("tasks", formatted(stages.iter().map(|stage| format!("{}/{}", stage.tasks_done, stage.tasks)))),
        ("attempts", numbers(stages.iter().map(|stage| stage.attempts))),
        ("failed", numbers(stages.iter().map(|stage| stage.attempts_failed))),
        ("reruns", numbers(stages.iter().map(|stage| stage.reruns))),
        ("raced", numbers(stages.iter().map(|stage| stage.raced))),
        ("rows", large_numbers(stages.iter().map(|stage| stage.rows))),
        ("bytes", formatted(stages.iter().map(|stage| human_bytes(stage.bytes)))),
        ("cpu s", formatted(stages.iter().map(|stage| format!("{:.3}", stage.cpu_s)))),
        ("wait s", formatted(stages.iter().map(|stage| format!("{:.3}", stage.wait_s)))),
        ("local", formatted(stages.iter().map(|stage| human_bytes(stage.exchange_local_bytes)))),
        ("flight", formatted(stages.iter().map(|stage| human_bytes(stage.exchange_flight_bytes)))),
        ("spilled", formatted(stages.iter().map(|stage| human_bytes(stage.spilled_bytes)))),
    ])
}

fn job_header(job: &JobSummary) -> String {
    let mut text = format!("{} {} in {:.3} s", job.job, job.state, job.elapsed_s);
    // Writing to a string can't fail.
    let _ = write!(text, " (queued {:.3} s, planning {:.3} s), {} rows", job.queued_s, job.planning_s, job.result_rows);
    if !job.error.is_empty() {
        let _ = write!(text, "\nerror: {}", job.error);
    }
    let _ = writeln!(text, "\n{}", job.statement.trim());
    text
}

/// The operators of each stage with what they measured, as far as the stage has run.
fn plan(job: &JobSummary) -> String {
    let mut text = String::new();
    for stage in job.stages.iter().rev().filter(|stage| !stage.operators.is_empty()) {
        // Writing to a string can't fail.
        let _ = writeln!(text, "\n{} ({})", stage.stage, stage.output);
        if !stage.adapted.is_empty() {
            let _ = writeln!(text, "  adapted: {}", stage.adapted);
        }
        for operator in &stage.operators {
            let indent = "  ".repeat(operator.depth as usize + 1);
            let rows = operator.metrics.get("output_rows").map(|rows| format!("  [{rows} rows]")).unwrap_or_default();
            let _ = writeln!(text, "{indent}{}{rows}", operator.detail);
        }
    }
    text
}

/// `1.5 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (u64::MAX, "16384.0 PiB")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn long_statements_are_cut_to_one_line() {
        assert_eq!(first_line("SELECT\n  1"), "SELECT 1");
        let long = first_line(&"ä ".repeat(100));
        assert_eq!(long.chars().count(), STATEMENT_CHARS + 3);
        assert!(long.ends_with("..."));
    }
}
