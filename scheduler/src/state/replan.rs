//! Stage graphs from the planner: what makes one valid, and how a new one takes the place of the old.

use volley_proto::{StageId, StageShape};

use super::effect::Effect;
use super::job::{Job, World};
use super::stage::{Question, Stage};

/// What is wrong with a stage graph, if anything is.
pub(super) fn validate(shapes: &[StageShape]) -> Result<(), String> {
    if shapes.is_empty() {
        return Err("it has no stage".into());
    }
    for (place, shape) in shapes.iter().enumerate() {
        let id = shape.id;
        if id.0 as usize != place {
            return Err(format!("{id} stands at place {place}: ids are dense from 0"));
        }
        if shape.slots_per_task == 0 {
            return Err(format!("a task of {id} uses no slot: at least 1 is needed"));
        }
        if let Some(input) = shape.inputs.iter().find(|input| input.producer.0 >= id.0) {
            return Err(format!("{id} reads {}, which does not come before it", input.producer));
        }
    }
    Ok(())
}

/// A planner's answer that is another list of stages.
pub(super) struct NewList {
    pub(super) stages: Vec<StageShape>,
    /// Those whose tasks read something else, also where their shapes are the same.
    pub(super) changed: Vec<StageId>,
    /// Version of the list that it was made from.
    pub(super) made_from: u32,
}

impl Job {
    /// The planner's answer about a stage. A list that does not keep what has been launched is not taken; one that was made from another list
    /// than the one in use would take back what changed meanwhile, and is asked for again.
    pub(super) fn replanned(&mut self, world: &mut World<'_>, stage: StageId, list: Option<NewList>) {
        let version = self.plan_version;
        let Some(asked) = self.stages.get_mut(stage.0 as usize) else { return };
        if asked.question != Question::Asked {
            return;
        }
        let is_late = list.as_ref().is_some_and(|list| list.made_from != version);
        asked.question = if is_late { Question::Unasked } else { Question::Answered };
        self.dirty = true;
        let Some(NewList { stages: shapes, changed, .. }) = list.filter(|_| !is_late) else { return };
        if validate(&shapes).is_err() || !self.keeps_started(&shapes, &changed) {
            return;
        }
        self.plan_version += 1;
        let mut old = std::mem::take(&mut self.stages).into_iter();
        for shape in shapes {
            let kept = old.next().filter(|stage| stage.shape == shape && !changed.contains(&shape.id));
            self.stages.push(kept.unwrap_or_else(|| Stage::new(shape, self.plan_version)));
        }
        self.link();
        world.effects.push(Effect::PlanReplaced { job: self.id, stage, plan_version: self.plan_version });
    }

    /// Whether the stages that have been launched, and those that they read, are in the list as they are.
    fn keeps_started(&self, shapes: &[StageShape], changed: &[StageId]) -> bool {
        let root_started = self.stages.last().is_some_and(Stage::is_started);
        let is_fixed = |stage: &Stage| {
            // A stage without tasks is read without being launched.
            stage.is_started() || stage.consumers.iter().any(|(consumer, _)| self.stages[*consumer as usize].is_started())
        };
        let is_kept = |stage: &Stage, shape: &StageShape| stage.shape == *shape && !changed.contains(&shape.id);
        let kept = |(place, stage): (usize, &Stage)| !is_fixed(stage) || shapes.get(place).is_some_and(|shape| is_kept(stage, shape));
        (!root_started || shapes.len() == self.stages.len()) && self.stages.iter().enumerate().all(kept)
    }

    /// Asks the planner again what it has not answered.
    pub(super) fn ask_again(&mut self) {
        for stage in &mut self.stages {
            if stage.question == Question::Asked {
                stage.question = Question::Unasked;
                self.dirty = true;
            }
        }
    }
}
