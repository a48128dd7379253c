//! Reads script lines. An event is written as `text::event` prints it; what is left out has a default.
//!
//! ```text
//! settings max_attempts=2 retention=job
//! 0 join e1 slots=2 memory=100 stream=3 running=j1/s0/t0/a0 held=j1/s0/t1/a0
//! 0 heartbeat e1 e2/i7
//! 0 broken e1            0 draining e1            0 left e1
//! 0 submit j1 weight=2 timeout=5000
//! 0 planned j1 replanning: s0 tasks=2 slots=1 parts=1 indeterminate; s1 tasks=1 <- s0 streaming all
//! 0 plan-failed j1 query: no such table
//! 0 replanned j1/s0 keep            0 replanned j1/s0: s0 tasks=2; s1 tasks=1 <- s0
//! 0 sealed j1/s0/t0/a0 by e1 rows=1,2            0 progress j1/s0/t0/a0 by e1 rows=7
//! 0 failed j1/s0/t0/a0 by e1 retry: disk on fire            0 cancelled j1/s0/t0/a0 by e1
//! 0 failed j1/s1/t0/a0 by e1 rerun j1/s0/t0/a0 on e2: gone
//! 0 launch-failed j1/s0/t0/a0 by e1 retry: no route
//! 0 delivered j1/s1/t0/a0            0 unreadable j1/s1/t0/a0 on e1 shown
//! 0 cancel j1 had enough            0 closed j1            0 tick            0 restored
//! 0 output-restored j1/s0/t0/a0 on e1 rows=1,2
//! status            deadline
//! ```

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use volley_proto::{
    AttemptId, Edge, ExecutorId, Failure, Incarnation, InputRead, JobOwner, PartitionStats, SessionId, Speculation, StageInput, StageShape,
    TaskMetrics, TaskOutcome, TaskReport,
};

use crate::machine::{Event, ExecutorHello, ExecutorLife, OutputRetention, Replanning, Settings, Timestamp};

/// What a line asks for.
pub(super) enum Line {
    Settings(Settings),
    Events(Timestamp, Vec<Event>),
    Status,
    Deadline,
}

/// Remembers the stream of each executor.
#[derive(Default)]
pub(super) struct Parser {
    streams: HashMap<String, u64>,
    last_stream: u64,
}

type Parsed<T> = Result<T, String>;

impl Parser {
    pub(super) fn parse(&mut self, line: &str) -> Parsed<Line> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "settings" => return settings(rest).map(Line::Settings),
            "status" => return Ok(Line::Status),
            "deadline" => return Ok(Line::Deadline),
            _ => {}
        }
        let millis: f64 = first.parse().map_err(|_| format!("'{first}' is not a moment in milliseconds"))?;
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        self.events(verb, rest).map(|events| Line::Events(Timestamp((millis * 1000.0).round() as u64), events))
    }

    fn events(&mut self, verb: &str, rest: &str) -> Parsed<Vec<Event>> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let event = match verb {
            "tick" => Event::Tick,
            "restored" => Event::Restored,
            "join" => Event::ExecutorJoined(self.hello(&words)?),
            "heartbeat" => {
                let beat = |name: &&str| Ok(Event::Heartbeat { executor: life(name)? });
                return words.iter().map(beat).collect();
            }
            "broken" => {
                let name = word(&words, 0)?;
                let stream = option(&words, "stream").transpose()?.or(self.streams.get(name).copied()).unwrap_or(0);
                Event::StreamBroken { executor: life(name)?, stream }
            }
            "draining" => Event::ExecutorDraining { executor: life(word(&words, 0)?)? },
            "left" => Event::ExecutorLeft { executor: life(word(&words, 0)?)? },
            "submit" => submitted(&words)?,
            "planned" => planned(rest)?,
            "plan-failed" => {
                let (job, failure) = rest.split_once(' ').ok_or("a failure is missing")?;
                Event::PlanFailed { job: id(job)?, failure: self::failure(failure)? }
            }
            "replanned" => replanned(rest)?,
            "cancel" => {
                let (job, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Event::JobCancelled { job: id(job)?, reason: reason.into() }
            }
            "progress" | "sealed" | "failed" | "cancelled" => reported(verb, rest, &words)?,
            "launch-failed" => {
                let executor = life(word(&words, 2)?)?;
                Event::LaunchFailed { attempt: id(word(&words, 0)?)?, executor, failure: failure(&words[3..].join(" "))? }
            }
            "delivered" => Event::ResultDelivered { attempt: id(word(&words, 0)?)? },
            "unreadable" => Event::ResultFetchFailed {
                attempt: id(word(&words, 0)?)?,
                executor: life(word(&words, 2)?)?,
                partly_shown: words.contains(&"shown"),
            },
            "numbers-given" => {
                let below = word(&words, 1)?.strip_prefix("below=").ok_or("numbers-given needs below=N")?;
                Event::NumbersGiven { job: id(word(&words, 0)?)?, below: below.parse().map_err(|_| format!("'{below}' is no number"))? }
            }
            "output-restored" => {
                let executor = word(&words, 2)?;
                Event::OutputRestored {
                    attempt: id(word(&words, 0)?)?,
                    executor: life(executor)?,
                    address: Arc::from(executor),
                    outputs: outputs(&words)?,
                }
            }
            "closed" => Event::ResultClosed { job: id(word(&words, 0)?)? },
            _ => return Err(format!("'{verb}' is not an event")),
        };
        Ok(vec![event])
    }

    fn hello(&mut self, words: &[&str]) -> Parsed<ExecutorHello> {
        let name = word(words, 0)?;
        let stream = option(words, "stream").transpose()?.unwrap_or(self.last_stream + 1);
        self.last_stream = self.last_stream.max(stream);
        self.streams.insert(name.to_owned(), stream);
        Ok(ExecutorHello {
            life: life(name)?,
            stream,
            slots: option(words, "slots").unwrap_or(Ok(1))?,
            memory_bytes: option(words, "memory").unwrap_or(Ok(100))?,
            address: Arc::from(name),
            build: Arc::from("script"),
            running: attempts(words, "running")?,
            held: attempts(words, "held")?,
        })
    }
}

fn submitted(words: &[&str]) -> Parsed<Event> {
    let mut owner = JobOwner::anonymous(SessionId::new("script"));
    owner.weight = option(words, "weight").unwrap_or(Ok(1))?;
    owner.timeout_ms = option(words, "timeout").transpose()?;
    owner.speculation = match option::<String>(words, "speculation").transpose()?.as_deref() {
        None => owner.speculation,
        Some("never") => Speculation::Never,
        Some("always") => Speculation::Always,
        Some(other) => return Err(format!("'{other}' is no kind of speculation")),
    };
    Ok(Event::JobSubmitted { job: id(word(words, 0)?)?, owner })
}

fn planned(rest: &str) -> Parsed<Event> {
    let (head, graph) = rest.split_once(':').ok_or("stages are missing")?;
    let (job, replanning) = head.split_once(' ').unwrap_or((head, ""));
    let replanning = if replanning == "replanning" { Replanning::OnSealed } else { Replanning::Off };
    Ok(Event::JobPlanned { job: id(job)?, stages: stages(graph)?, replanning })
}

fn replanned(rest: &str) -> Parsed<Event> {
    let (head, stages) = match rest.split_once(':') {
        Some((head, graph)) => (head, Some(stages(graph)?)),
        None => (rest.strip_suffix(" keep").ok_or("neither stages nor 'keep'")?, None),
    };
    // `j1/s0`, or `j1/s0 from 1 with s2 s3`: the version that the list was made from, and stages that changed in all but their shape.
    let (head, changed) = head.split_once(" with ").unwrap_or((head, ""));
    let (head, version) = head.split_once(" from ").unwrap_or((head, "0"));
    let (job, stage) = head.split_once('/').ok_or("a stage is missing")?;
    let changed = changed.split_whitespace().map(id).collect::<Result<_, _>>()?;
    let plan_version = version.parse().map_err(|_| "a version is a number")?;
    Ok(Event::Replanned { job: id(job)?, stage: id(stage)?, stages, changed, plan_version })
}

fn reported(verb: &str, rest: &str, words: &[&str]) -> Parsed<Event> {
    let ExecutorLife { id: executor, incarnation } = life(word(words, 2)?)?;
    let outcome = match verb {
        "progress" => TaskOutcome::Running { rows: option(words, "rows").unwrap_or(Ok(0))? },
        "sealed" => TaskOutcome::Sealed { outputs: outputs(words)?, metrics: Box::new(TaskMetrics::default()), inline: None },
        "failed" => TaskOutcome::Failed(failure(rest.splitn(4, ' ').nth(3).unwrap_or_default())?),
        _ => TaskOutcome::Cancelled,
    };
    Ok(Event::TaskReported(TaskReport { attempt: id(word(words, 0)?)?, executor, incarnation, outcome }))
}

fn outputs(words: &[&str]) -> Parsed<Vec<PartitionStats>> {
    let rows: String = option(words, "rows").unwrap_or(Ok("1".into()))?;
    let numbers = rows.split(',').filter(|rows| !rows.is_empty());
    numbers.map(|rows| rows.parse().map(|rows| PartitionStats { rows, bytes: 8 * rows }).map_err(|_| format!("'{rows}' rows"))).collect()
}

fn stages(text: &str) -> Parsed<Vec<StageShape>> {
    text.split(';').map(stage).collect()
}

fn stage(text: &str) -> Parsed<StageShape> {
    let mut parts = text.split("<-");
    let words: Vec<&str> = parts.next().unwrap_or_default().split_whitespace().collect();
    let input = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(StageInput {
            producer: id(word(&words, 0)?)?,
            edge: if words.contains(&"streaming") { Edge::Streaming } else { Edge::Sealed },
            read: if words.contains(&"all") { InputRead::All } else { InputRead::Slice },
        })
    };
    Ok(StageShape {
        id: id(word(&words, 0)?)?,
        inputs: parts.map(input).collect::<Parsed<_>>()?,
        tasks: option(&words, "tasks").unwrap_or(Ok(1))?,
        slots_per_task: option(&words, "slots").unwrap_or(Ok(1))?,
        output_partitions: option(&words, "parts").unwrap_or(Ok(1))?,
        deterministic: !words.contains(&"indeterminate"),
    })
}

/// `retry: disk on fire`, or `rerun j1/s0/t0/a0 on e1: gone`.
fn failure(text: &str) -> Parsed<Failure> {
    let (remedy, message) = text.split_once(": ").ok_or_else(|| format!("'{text}' is not a remedy and a message"))?;
    let words: Vec<&str> = remedy.split(' ').collect();
    Ok(match words[0] {
        "retry" => Failure::retry(message),
        "rerun" => Failure::rerun(id(word(&words, 1)?)?, life(word(&words, 3)?)?.id, message),
        "resources" => Failure::resources(message),
        "query" => Failure::query(message),
        "cancelled" => Failure::cancelled(message),
        "internal" => Failure::internal(message),
        other => return Err(format!("'{other}' is not a remedy")),
    })
}

fn settings(text: &str) -> Parsed<Settings> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let default = Settings::default();
    let job = option::<String>(&words, "retention").transpose()?.as_deref() == Some("job");
    Ok(Settings {
        max_attempts: option(&words, "max_attempts").unwrap_or(Ok(default.max_attempts))?,
        max_running_jobs: option(&words, "max_running_jobs").unwrap_or(Ok(default.max_running_jobs))?,
        max_queued_jobs: option(&words, "max_queued_jobs").unwrap_or(Ok(default.max_queued_jobs))?,
        deny_after_failures: option(&words, "deny_after_failures").unwrap_or(Ok(default.deny_after_failures))?,
        deny_ms: option(&words, "deny_ms").unwrap_or(Ok(default.deny_ms))?,
        retention: if job { OutputRetention::UntilJobEnds } else { OutputRetention::UntilConsumed },
        ..default
    })
}

/// `e1`, or `e1/i2`.
fn life(text: &str) -> Parsed<ExecutorLife> {
    let (name, incarnation) = text.split_once('/').unwrap_or((text, "i1"));
    Ok(ExecutorLife::new(ExecutorId::new(name), id::<Incarnation>(incarnation)?))
}

fn word<'a>(words: &[&'a str], place: usize) -> Parsed<&'a str> {
    words.get(place).copied().ok_or_else(|| format!("word {} is missing", place + 1))
}

fn option<T: FromStr>(words: &[&str], name: &str) -> Option<Parsed<T>> {
    let text = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(text.parse().map_err(|_| format!("{name} can't be '{text}'")))
}

fn attempts(words: &[&str], name: &str) -> Parsed<Vec<AttemptId>> {
    let list: String = option(words, name).unwrap_or(Ok(String::new()))?;
    list.split(',').filter(|text| !text.is_empty()).map(id).collect()
}

fn id<T: FromStr>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| format!("'{text}' is not an id of the right kind"))
}
