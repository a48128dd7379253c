//! A plan that changes while its job runs: from the sizes of what is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use volley_proto::{PartitionStats, StageId, StageShape};
use volley_sql::planner::adapt::{Progress, adapt};

use super::PlannedJob;
use super::job::Job;

/// What is known of a job's stages, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Adapting {
    progress: Progress,
    /// Proposed to the machine, which may refuse it, by the stage that it asked about: several questions may be open, and each answer is a
    /// whole plan.
    proposed: BTreeMap<StageId, Arc<PlannedJob>>,
}

impl Job {
    /// A stage is complete: the stages as they run best now, where that is in another way, and which of them changed. Unless its sizes are
    /// exact they may be those of rows which are not all there any more.
    pub(crate) fn replan(
        &self,
        complete: StageId,
        sizes: Arc<[PartitionStats]>,
        is_exact: bool,
    ) -> Option<(Vec<StageShape>, Vec<StageId>)> {
        let mut inner = self.inner.lock();
        inner.adapting.progress.completed(complete, sizes, is_exact);
        let mut planned = Arc::clone(inner.planned.as_ref()?);
        let limits = planned.adapting?;
        let readers = planned.stages.iter().filter(|stage| stage.shape.inputs.iter().any(|input| input.producer == complete));
        let readers: Vec<_> = readers.map(|stage| stage.shape.id).collect();
        let mut changed = vec![];
        for stage in readers {
            let graph = Arc::clone(planned.graph.as_ref()?);
            let adapted = adapt(&graph, stage, &inner.adapting.progress, &limits).and_then(|stages| {
                let ids: Vec<_> = stages.iter().map(|stage| stage.shape.id).collect();
                Ok(if ids.is_empty() { None } else { Some((planned.with_stages(stages)?, ids)) })
            });
            match adapted {
                Ok(Some((adapted, ids))) => {
                    planned = Arc::new(adapted);
                    changed.extend(ids);
                }
                Ok(None) => {}
                // It runs as it was planned.
                Err(error) => tracing::warn!(job = %self.id, %stage, %error, "a stage was not adapted"),
            }
        }
        if changed.is_empty() {
            return None;
        }
        let shapes = planned.shapes();
        inner.adapting.proposed.insert(complete, planned);
        Some((shapes, changed))
    }

    /// Tasks of a stage are launched.
    pub(crate) fn stage_started(&self, stage: StageId) {
        self.inner.lock().adapting.progress.started(stage);
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

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use volley_proto::JobId;
    use volley_sql::extension::Extensions;
    use volley_sql::graph::ClusterShape;
    use volley_sql::options::VolleyOptions;
    use volley_sql::planner::adapt::{Limits, adaptable};
    use volley_sql::planner::plan_job;
    use volley_sql::session::SessionBuilder;

    use super::super::job::tests::job;
    use super::*;

    const CLUSTER: ClusterShape = ClusterShape { executors: 2, slots: 2, largest_slots: 1, memory_bytes: 4 << 30 };

    /// Two aggregations beside each other, whose groups are joined.
    const TWO_READERS: &str = "SELECT count(*) FROM (SELECT o_custkey, count(*) AS n FROM tpch.sf0_01.orders GROUP BY 1) a \
         JOIN (SELECT o_orderdate, count(*) AS n FROM tpch.sf0_01.orders GROUP BY 1) b ON a.n = b.n";

    async fn planned(sql: &str) -> PlannedJob {
        let settings = [
            ("volley.fit", "never"),
            ("volley.min_bytes_per_partition", "100000"),
            ("volley.max_partitions", "4"),
            ("volley.broadcast_bytes", "0"),
            ("volley.adapt", "true"),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let session: SessionContext = SessionBuilder::new().settings(&settings).build().unwrap();
        let state = session.state();
        let plan = state.create_logical_plan(sql).await.unwrap();
        let graph = plan_job(&state, &plan, CLUSTER).await.unwrap();
        let limits = Limits::new(&VolleyOptions::of(state.config_options()), CLUSTER);
        PlannedJob::encode(graph, vec![], &Extensions::of_session(&state), limits).unwrap()
    }

    /// Stages that each one adaptable stage reads, and no other reads.
    fn producers(planned: &PlannedJob) -> Vec<StageId> {
        let graph = planned.graph.as_ref().unwrap();
        let read_by = |stage: StageId| graph.stages[stage.0 as usize].shape.inputs.iter().map(|input| input.producer).collect::<Vec<_>>();
        let alone = adaptable(graph).into_iter().map(read_by).filter(|read| read.len() == 1);
        alone.flatten().collect()
    }

    /// What the machine runs has tasks, and each of them something to read.
    fn runs(job: &Job) -> Vec<StageShape> {
        let planned = job.plan().unwrap();
        for stage in &planned.stages {
            assert_eq!(stage.bindings.len(), stage.shape.tasks as usize, "{}", stage.shape.id);
        }
        planned.shapes()
    }

    #[tokio::test]
    async fn two_stages_that_are_complete_at_once_have_an_answer_each() {
        let planned = Arc::new(planned(TWO_READERS).await);
        let [first, second] = producers(&planned)[..] else { panic!("{:#?}", planned.shapes()) };
        let sizes = |stage: StageId| {
            let partitions = planned.stages[stage.0 as usize].shape.output_partitions;
            Arc::from(vec![PartitionStats { rows: 1, bytes: 9 }; partitions as usize])
        };
        let job = job(JobId(1));
        let is_planned = Arc::clone(&planned);
        job.change(|inner| inner.planned = Some(is_planned));
        // Both questions before either answer was taken.
        let (of_first, _) = job.replan(first, sizes(first), true).expect("its reader runs in one task");
        let (of_second, _) = job.replan(second, sizes(second), true).expect("its reader runs in one task");
        assert_ne!(of_first, of_second);
        assert_eq!(runs(&job), planned.shapes(), "nothing was taken yet");
        job.plan_replaced(first);
        assert_eq!(runs(&job), of_first);
        // The second answer was made from a list that is no longer in use, so it is asked again.
        let (of_both, changed) = job.replan(second, sizes(second), true).expect("its reader runs in one task");
        assert_eq!(changed.len(), 1, "the other one stays as it is");
        assert_eq!(of_both.iter().filter(|shape| shape.tasks == 1).count(), of_first.iter().filter(|shape| shape.tasks == 1).count() + 1);
        job.plan_replaced(second);
        assert_eq!(runs(&job), of_both);
        job.plan_replaced(second);
        assert_eq!(runs(&job), of_both, "an answer is taken once");
    }
}
