//! Scripts: events in, effects out, as text.
//!
//! A line that starts at the margin is an event: the moment in milliseconds, then what happens, as `parse.rs` reads it.
//! The indented lines below it are the effects that follow, in their order. `status` shows what status pages would.
//! Every invariant is checked after every line. `UPDATE_SCRIPTS=1 cargo test --workspace --test scheduler scripts` writes
//! down what happens instead of comparing it.

mod parse;

use std::fs;
use std::path::Path;

use crate::machine::{Cluster, Event, ExecutorState, Settings, Timestamp, invariants};
use crate::text;
use parse::{Line, Parser};

#[test]
fn scripts_have_the_effects_that_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() > 15, "the scripts are in {}", folder.display());
    let mut wrong = Vec::new();
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        let played = play(&script).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&path, played).unwrap();
        } else if played != script {
            wrong.push(format!("{}:\n{}", path.display(), difference(&script, &played)));
        }
    }
    assert!(wrong.is_empty(), "effects differ (UPDATE_SCRIPTS=1 takes them over):\n{}", wrong.join("\n"));
}

/// The script with the effects that really follow.
fn play(script: &str) -> Result<String, String> {
    let mut machine = Cluster::new(Settings::default());
    let mut parser = Parser::default();
    let mut played = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        played.push_str(line);
        played.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at_line = |error: String| format!("line {}: {error}", number + 1);
        match parser.parse(line).map_err(at_line)? {
            Line::Settings(settings) => machine = Cluster::new(settings),
            Line::Status => status(&machine).iter().for_each(|line| played.push_str(&format!("    {line}\n"))),
            Line::Deadline => {
                let deadline = machine.next_deadline().map_or("none".into(), |at| (at.0 / 1000).to_string());
                played.push_str(&format!("    {deadline}\n"));
            }
            Line::Events(now, events) => {
                for event in events {
                    for effect in step(&mut machine, now, event).map_err(at_line)? {
                        played.push_str(&format!("    {effect}\n"));
                    }
                }
            }
        }
    }
    Ok(played)
}

fn step(machine: &mut Cluster, now: Timestamp, event: Event) -> Result<Vec<String>, String> {
    let effects = machine.step(now, event);
    invariants::check(machine, &effects).map_err(|violation| violation.to_string())?;
    Ok(effects.iter().map(text::effect).collect())
}

/// What status pages would show.
fn status(machine: &Cluster) -> Vec<String> {
    let mut lines = Vec::new();
    for executor in machine.executors() {
        let state = if executor.state == ExecutorState::Live { String::new() } else { format!(" {:?}", executor.state) };
        let (life, used, slots, held) = (text::life(&executor.life), executor.slots_in_use, executor.slots, executor.outputs_held);
        lines.push(format!("{life}{state}: {used} of {slots} slots, {held} outputs"));
    }
    for job in machine.jobs() {
        let waits = if job.waiting_for.is_empty() { String::new() } else { format!(", waits for {}", job.waiting_for) };
        let (sealed, tasks, reruns) = (job.tasks_sealed, job.tasks, job.reruns);
        let state = format!("{:?}", job.state);
        let state = state.split(['(', ' ']).next().unwrap_or_default();
        lines.push(format!("{} {state}: {sealed} of {tasks} tasks, {} attempts, {reruns} again{waits}", job.job, job.attempts));
    }
    lines
}

/// The first line that differs, with what is around it.
fn difference(expected: &str, played: &str) -> String {
    let (expected, played): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), played.lines().collect());
    let same = expected.iter().zip(&played).take_while(|(left, right)| left == right).count();
    let excerpt = |lines: &[&str]| lines.iter().skip(same.saturating_sub(2)).take(8).map(|line| format!("  {line}\n")).collect::<String>();
    format!("line {}: the script says\n{}what happens is\n{}", same + 1, excerpt(&expected), excerpt(&played))
}
