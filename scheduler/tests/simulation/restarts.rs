//! The scheduler dies and is started again: what it knows is what its journal tells, of which the last moments are missing, and what
//! executors and clients say.

use volley_proto::{JobId, StageId, StageShape, TaskOutcome};

use super::executors::Command;
use super::sim::{Action, Sim};
use crate::machine::{Cluster, Event, ExecutorLife, NUMBERS, Replanning, Timestamp};

/// Microseconds after which a record is on disk.
const WRITTEN_AFTER: u64 = 50_000;

/// What was to be written, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal {
    records: Vec<(u64, JobId, Event)>,
}

impl Sim {
    /// The journal takes note of an event that the machine has taken.
    pub(super) fn note_down(&mut self, event: &Event) {
        let (job, record) = match event {
            Event::JobSubmitted { job, .. } | Event::JobPlanned { job, .. } => (*job, event.clone()),
            Event::TaskReported(report) => {
                let TaskOutcome::Sealed { outputs, .. } = &report.outcome else { return };
                let executor = ExecutorLife::new(report.executor.clone(), report.incarnation);
                // What is old says nothing.
                let Some(address) = self.machine.holder(report.attempt, &executor) else { return };
                let restored = Event::OutputRestored { attempt: report.attempt, executor, address, outputs: outputs.clone() };
                (report.attempt.task.job, restored)
            }
            _ => return,
        };
        self.journal.records.push((self.now, job, record));
    }

    /// The journal takes note of a plan that took the place of another.
    pub(super) fn note_plan(&mut self, job: JobId, stages: Vec<StageShape>) {
        let planned = Event::JobPlanned { job, stages, replanning: Replanning::Off };
        self.journal.records.push((self.now, job, planned));
        // A scheduler that dies before it is on disk leaves executors with attempts by a plan that nobody knows.
        if self.plan.restarts > 0 && self.rng.permille(150) {
            self.later(1_000, WRITTEN_AFTER, Action::RestartScheduler);
        }
    }

    /// Outputs go once it is on disk that their readers are complete.
    pub(super) fn release_when_written(&mut self, job: JobId, stage: StageId, executors: Vec<ExecutorLife>) {
        if self.plan.restarts == 0 {
            return self.release(job, stage, &executors);
        }
        self.schedule(self.now + WRITTEN_AFTER, Action::Release(job, stage, executors));
    }

    pub(super) fn release(&mut self, job: JobId, stage: StageId, executors: &[ExecutorLife]) {
        executors.iter().for_each(|life| self.send_down(life, Command::Release(job, stage)));
    }

    /// The scheduler is killed, and another one started with its journal.
    pub(super) fn restart_scheduler(&mut self) {
        self.count("schedulers restarted");
        for stream in self.links.keys().copied().collect::<Vec<_>>() {
            self.break_link(stream);
        }
        self.links.values_mut().for_each(|link| link.accepted = false);
        // What was on its way to the old one, or to be done by it.
        self.retain_actions(|action| match action {
            Action::Up(..) | Action::EndsAtScheduler(_) | Action::Replanned(..) | Action::Release(..) | Action::Show(_) | Action::Tick => {
                false
            }
            Action::Tell(event) => matches!(event, Event::ResultClosed { .. } | Event::JobCancelled { .. }),
            _ => true,
        });
        self.forget_tick();
        let settings = self.settings.clone();
        self.machine = Cluster::new(settings);
        let written = self.now.saturating_sub(WRITTEN_AFTER);
        self.journal.records.retain(|(at, ..)| *at <= written);
        // Nobody has a ticket of a job that was not planned: its client, if it is still there, submits another one.
        let is_planned =
            |id: &JobId| self.journal.records.iter().any(|(_, job, event)| job == id && matches!(event, Event::JobPlanned { .. }));
        let is_over = |id: &JobId, job: &super::client::SimJob| job.outcome.is_some() || job.closed || !is_planned(id);
        let over: Vec<JobId> = self.jobs.iter().filter(|(id, job)| is_over(id, job)).map(|(id, _)| *id).collect();
        let mut known: Vec<(JobId, Event)> = vec![];
        for (_, job, event) in self.journal.records.iter().filter(|(_, job, _)| !over.contains(job)) {
            if let Event::OutputRestored { attempt, .. } = event {
                known.retain(|(_, other)| !matches!(other, Event::OutputRestored { attempt: other, .. } if other.task == attempt.task));
            }
            let event = match event {
                Event::JobPlanned { job, stages, .. } => {
                    Event::JobPlanned { job: *job, stages: stages.clone(), replanning: Replanning::Off }
                }
                other => other.clone(),
            };
            let is_plan = |event: &Event| matches!(event, Event::JobPlanned { .. });
            match known.iter().position(|(of, earlier)| of == job && is_plan(earlier) && is_plan(&event)) {
                Some(place) => known[place].1 = event,
                None => known.push((*job, event)),
            }
        }
        for id in over {
            self.abandon(id);
        }
        self.restarts += 1;
        for (job, event) in known {
            let planned = matches!(event, Event::JobPlanned { .. });
            if let Event::JobPlanned { stages, .. } = &event {
                self.plan_restored(job, stages);
            }
            // Effects of a life that is over.
            drop(self.machine.step(Timestamp(self.now), event));
            if planned {
                let event = Event::NumbersGiven { job, below: self.restarts * NUMBERS };
                drop(self.machine.step(Timestamp(self.now), event));
            }
        }
        // Clients read from the first row on.
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.read_anew(id);
        }
        self.tell(Event::Restored);
    }
}
