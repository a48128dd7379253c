//! A plan that changes while its job runs: from the sizes of what is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use volley_proto::{PartitionStats, StageId, StageShape};
use volley_sql::planner::adapt::adapt;

use super::PlannedJob;
use super::job::Job;

/// What is known of complete stages, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Adapting {
    sizes: BTreeMap<StageId, Arc<[PartitionStats]>>,
    /// Proposed to the machine, which may refuse it, by the stage that it asked about: several questions may be open, and each answer is a
    /// whole plan.
    proposed: BTreeMap<StageId, Arc<PlannedJob>>,
}

impl Job {
    /// A stage is complete: the stages as they run best now, where that is in another way. Its sizes may be those
    /// of rows which are not all there any more; they tell enough of how many there are.
    pub(crate) fn replan(&self, complete: StageId, sizes: Arc<[PartitionStats]>) -> Option<Vec<StageShape>> {
        let mut inner = self.inner.lock();
        inner.adapting.sizes.insert(complete, sizes);
        let mut planned = Arc::clone(inner.planned.as_ref()?);
        let limits = planned.adapting?;
        let graph = Arc::clone(planned.graph.as_ref()?);
        let readers = graph.stages.iter().filter(|stage| stage.shape.inputs.iter().any(|input| input.producer == complete));
        for stage in readers.map(|stage| stage.shape.id) {
            let sizes = |stage| inner.adapting.sizes.get(&stage).map(|sizes| &sizes[..]);
            match adapt(&graph, stage, sizes, &limits) {
                Ok(Some(adapted)) => planned = Arc::new(planned.adapted(stage, adapted)),
                Ok(None) => {}
                // It runs as it was planned.
                Err(error) => tracing::warn!(job = %self.id, %stage, %error, "a stage was not adapted"),
            }
        }
        if inner.planned.as_ref().is_some_and(|current| Arc::ptr_eq(current, &planned)) {
            return None;
        }
        let shapes = planned.shapes();
        inner.adapting.proposed.insert(complete, planned);
        Some(shapes)
    }

    /// The machine took what was proposed when it asked about `complete`.
    pub(crate) fn plan_replaced(&self, complete: StageId) {
        self.change(|inner| {
            if let Some(planned) = inner.adapting.proposed.remove(&complete) {
                inner.planned = Some(planned);
            }
        });
    }
}
