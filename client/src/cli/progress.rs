//! How far a long statement is, in one line on standard error that is drawn over and over.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;
use volley_proto::JobId;
use volley_proto::wire::client::v1::{JobReport, JobState, StageReport};

use super::admin::human_bytes;
use super::terminal;
use crate::flight::FlightClient;

/// What ends sooner is not worth a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the scheduler is asked.
const PAUSE: Duration = Duration::from_millis(250);
const BAR: usize = 20;
/// Tasks that must have ended before a rest is estimated from them.
const MEASURED: u32 = 3;
/// Jobs among which that of a statement is looked for.
const RECENT: u32 = 20;

/// The line. It goes before anything else is written to the terminal.
#[derive(Debug)]
pub(super) struct Progress {
    is_on: bool,
    started: Instant,
    is_drawn: Cell<bool>,
    is_over: Cell<bool>,
}

/// Which job is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Job(JobId),
    /// The job of a statement whose answer has not come yet.
    Statement(&'a str),
}

impl Progress {
    /// A line that is shown where standard error is a terminal, if it is wanted.
    pub(super) fn new(is_wanted: bool) -> Self {
        let is_on = is_wanted && io::stderr().is_terminal() && !terminal::is_dumb();
        Self { is_on, started: Instant::now(), is_drawn: Cell::new(false), is_over: Cell::new(false) }
    }

    /// Shows how far a job is, until it is no longer polled.
    pub(super) async fn follow(&self, client: &FlightClient, of: Of<'_>) -> Infallible {
        if !self.is_on {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.started + PATIENCE).await;
        let mut job = match of {
            Of::Job(job) => Some(job),
            Of::Statement(_) => None,
        };
        while !self.is_over.get() {
            if let (None, Of::Statement(statement)) = (job, of) {
                job = find(client, statement).await;
            }
            if let Some(job) = job
                && let Ok(report) = client.job(job).await
            {
                self.draw(&line(&report, terminal::size().0, terminal::is_unicode()));
            }
            tokio::time::sleep(PAUSE).await;
        }
        std::future::pending().await
    }

    fn draw(&self, line: &str) {
        // Between the question and the answer it may have been told to be gone.
        if !self.is_over.get() {
            self.is_drawn.set(true);
            write(&format!("\r{line}\u{1b}[K"));
        }
    }

    /// Takes the line away for good.
    pub(super) fn end(&self) {
        self.is_over.set(true);
        if self.is_drawn.replace(false) {
            write("\r\u{1b}[K");
        }
    }
}

fn write(text: &str) {
    let mut terminal = io::stderr().lock();
    // A terminal that is gone shows no progress.
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

/// The newest job of a statement that has not ended.
async fn find(client: &FlightClient, statement: &str) -> Option<JobId> {
    let jobs = client.jobs(RECENT).await.ok()?;
    jobs.iter().find(|job| is_open(job) && job.statement.trim() == statement.trim()).map(|job| JobId(job.job))
}

fn is_open(job: &JobReport) -> bool {
    matches!(job.state(), JobState::Queued | JobState::Planning | JobState::Running)
}

/// How far a job is that has not ended.
pub(super) fn describe(job: &JobReport) -> Option<String> {
    is_open(job).then(|| line(job, usize::MAX, terminal::is_unicode()))
}

/// What is said of a job, in less than `width` characters.
fn line(job: &JobReport, width: usize, unicode: bool) -> String {
    let elapsed = job.elapsed_ns as f64 / 1e9;
    let mut text = match job.state() {
        JobState::Queued => format!("queued {elapsed:.0} s"),
        JobState::Planning => format!("planning {elapsed:.0} s"),
        _ => running(job, elapsed, unicode),
    };
    if let Some((end, _)) = text.char_indices().nth(width.saturating_sub(1)) {
        text.truncate(end);
    }
    text
}

fn running(job: &JobReport, elapsed: f64, unicode: bool) -> String {
    let stages = &job.stages;
    let sum = |of: fn(&StageReport) -> u64| stages.iter().map(of).sum::<u64>();
    let (tasks, done) = (sum(|stage| stage.tasks.into()), sum(|stage| stage.tasks_done.into()));
    let complete = stages.iter().filter(|stage| stage.tasks_done == stage.tasks).count();
    let fraction = if tasks == 0 { 0.0 } else { done as f64 / tasks as f64 };
    let mut parts = vec![];
    // What a task has done is known when it has ended: a bar before that would stand still.
    if done > 0 {
        parts.push(format!("{} {:>3.0} %", bar(fraction, unicode), (fraction * 100.0).floor()));
    }
    parts.push(format!("stages {complete}/{}", stages.len()));
    parts.push(format!("tasks {done}/{tasks} ({} running)", sum(|stage| stage.tasks_running.into())));
    let (rows, bytes) = (sum(|stage| stage.rows), sum(|stage| stage.bytes));
    if rows > 0 {
        parts.push(format!("{} rows", short(rows)));
        parts.push(human_bytes(bytes));
    }
    let rest = left(stages).map(|left| format!(", about {} left", time(left))).unwrap_or_default();
    parts.push(format!("{}{rest}", time(elapsed)));
    parts.join("  ")
}

/// The seconds that are left, from what the tasks took that have ended; `None` where too few have.
///
/// A task of a stage of which none has ended is taken to last as long as others did. What runs is taken to be half done.
fn left(stages: &[StageReport]) -> Option<f64> {
    let slot_ns = |stage: &StageReport| (stage.cpu_ns + stage.wait_ns) as f64;
    let done: u32 = stages.iter().map(|stage| stage.tasks_done).sum();
    let tasks: u32 = stages.iter().map(|stage| stage.tasks).sum();
    let running: u32 = stages.iter().map(|stage| stage.tasks_running).sum();
    if done < MEASURED || done * 20 < tasks || running == 0 {
        return None;
    }
    let usual = stages.iter().map(slot_ns).sum::<f64>() / f64::from(done);
    let rest = |stage: &StageReport| {
        let each = if stage.tasks_done > 0 { slot_ns(stage) / f64::from(stage.tasks_done) } else { usual };
        let tasks = f64::from(stage.tasks.saturating_sub(stage.tasks_done)) - f64::from(stage.tasks_running) / 2.0;
        each * tasks.max(0.0)
    };
    Some(stages.iter().map(rest).sum::<f64>() / 1e9 / f64::from(running))
}

fn bar(fraction: f64, unicode: bool) -> String {
    let (full, empty) = if unicode { ("█", "░") } else { ("#", ".") };
    let filled = ((fraction * BAR as f64) as usize).min(BAR);
    format!("{}{}", full.repeat(filled), empty.repeat(BAR - filled))
}

/// `12 s`, `3 min 05 s`, `2 h 10 min`.
fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `950`, `1.2k`, `30.1M`.
fn short(count: u64) -> String {
    let (divisor, unit) = match count {
        0..1_000 => return count.to_string(),
        1_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    format!("{:.1}{unit}", count as f64 / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(tasks: u32, running: u32, done: u32, seconds_each: u64) -> StageReport {
        StageReport {
            tasks,
            tasks_running: running,
            tasks_done: done,
            cpu_ns: u64::from(done) * seconds_each * 1_000_000_000,
            rows: 1000 * u64::from(done),
            bytes: 2048 * u64::from(done),
            ..Default::default()
        }
    }

    fn job(state: JobState, stages: Vec<StageReport>) -> JobReport {
        JobReport { state: state.into(), elapsed_ns: 12_400_000_000, stages, ..Default::default() }
    }

    #[test]
    fn a_line_says_how_far_it_is() {
        let running = job(JobState::Running, vec![stage(8, 0, 8, 2), stage(8, 2, 2, 3), stage(1, 0, 0, 0)]);
        let expected = "###########.........  58 %  stages 1/3  tasks 10/17 (2 running)  10.0k rows  20.0 KiB  12 s, about 9 s left";
        assert_eq!(line(&running, 200, false), expected);
        assert_eq!(line(&running, 30, false), &expected[..29]);
        let first = job(JobState::Running, vec![stage(8, 2, 0, 2)]);
        assert_eq!(line(&first, 200, false), "stages 0/1  tasks 0/8 (2 running)  12 s");
        assert_eq!(line(&job(JobState::Queued, vec![]), 80, false), "queued 12 s");
        assert_eq!(line(&job(JobState::Planning, vec![]), 80, false), "planning 12 s");
    }

    #[test]
    fn nothing_is_estimated_from_nothing() {
        assert_eq!(left(&[stage(8, 2, 0, 0)]), None);
        assert_eq!(left(&[stage(8, 2, 2, 1)]), None, "too few have ended");
        assert_eq!(left(&[stage(1000, 2, 10, 1)]), None, "too small a part has");
        assert_eq!(left(&[stage(8, 0, 4, 1)]), None, "nothing runs");
        assert_eq!(left(&[stage(8, 2, 4, 2)]), Some(3.0), "one task waits, two are half done");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([short(950), short(1_200), short(30_100_000), short(7_000_000_000)], ["950", "1.2k", "30.1M", "7.0G"]);
        assert_eq!([time(12.4), time(185.0), time(7800.0)], ["12 s", "3 min 05 s", "2 h 10 min"]);
    }
}
