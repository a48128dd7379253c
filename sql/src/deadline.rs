//! When a planning gives up. The engine's rules can't be interrupted, and a long chain of operators keeps one busy for seconds; so
//! the time is looked at before each rule and each node that a rule visits, and a planning that nobody waits for any more soon ends.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

thread_local! {
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
    static GAVE_UP: Cell<bool> = const { Cell::new(false) };
}

/// Runs a planning of this thread until `end`; nothing where it gave up.
pub fn plan_until<T>(end: Instant, planning: impl FnOnce() -> T) -> Option<T> {
    /// Puts back what was there, also when the planning panics.
    struct Reset(Option<Instant>);
    impl Drop for Reset {
        fn drop(&mut self) {
            END.set(self.0);
            GAVE_UP.set(false);
        }
    }
    let _reset = Reset(END.replace(Some(end)));
    GAVE_UP.set(false);
    let planned = planning();
    (!GAVE_UP.get()).then_some(planned)
}

/// An error once the planning that this thread does has taken too long.
///
/// Errors: `ResourcesExhausted`, which whoever called [`plan_until`] does not see.
pub(crate) fn check() -> Result<()> {
    if END.get().is_some_and(|end| Instant::now() >= end) {
        GAVE_UP.set(true);
        return Err(DataFusionError::ResourcesExhausted("planning took longer than it may".into()));
    }
    Ok(())
}

/// A session whose planning gives up in time: the engine's own rules, each with the check before it.
pub(crate) fn with_checked_rules(builder: SessionStateBuilder) -> SessionStateBuilder {
    let analyzer = Analyzer::new().rules.into_iter().map(|rule| Arc::new(Checked(rule)) as Arc<dyn AnalyzerRule + Send + Sync>);
    let logical = Optimizer::new().rules.into_iter().map(|rule| Arc::new(Checked(rule)) as Arc<dyn OptimizerRule + Send + Sync>);
    let physical =
        PhysicalOptimizer::new().rules.into_iter().map(|rule| Arc::new(Checked(rule)) as Arc<dyn PhysicalOptimizerRule + Send + Sync>);
    builder
        .with_analyzer_rules(analyzer.collect())
        .with_optimizer_rules(logical.collect())
        .with_physical_optimizer_rules(physical.collect())
}

/// A rule with the check before it.
#[derive(Debug)]
struct Checked<R: ?Sized>(Arc<R>);

impl AnalyzerRule for Checked<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        check()?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Checked<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check()?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Checked<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::SessionBuilder;

    #[tokio::test]
    async fn a_planning_gives_up_at_the_next_rule_and_leaves_nothing_behind() {
        let session = SessionBuilder::new().build().unwrap();
        let plan = session.state().create_logical_plan("SELECT sum(a + 1) FROM (VALUES (1), (2)) t(a)").await.unwrap();
        let past = Instant::now();
        let mut error = None;
        let planned = plan_until(past, || error = session.state().optimize(&plan).err());
        assert_eq!(planned, None);
        assert!(error.unwrap().to_string().contains("planning took longer than it may"));
        assert!(session.state().optimize(&plan).is_ok());
        let planned = plan_until(past + Duration::from_secs(600), || session.state().optimize(&plan).is_ok());
        assert_eq!(planned, Some(true));
    }
}
