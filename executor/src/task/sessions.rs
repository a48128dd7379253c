//! Task contexts: the session's functions and settings, with an attempt's own memory and exchange.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use volley_proto::AttemptId;
use volley_sql::exchange::TaskIo;
use volley_sql::extension::Extensions;
use volley_sql::options::VolleyOptions;
use volley_sql::session::SessionBuilder;

use crate::memory::MemoryBudget;

/// Distinct settings that are kept: a state holds some hundred functions, and most sessions set the same few options.
const KEPT: usize = 64;

/// `context` with the ends of its exchanges: it can run.
pub(super) fn with_io(context: TaskContext, io: TaskIo) -> Arc<TaskContext> {
    let config = context.session_config().clone().with_extension(Arc::new(io));
    Arc::new(context.with_session_config(config))
}

type Settings = Vec<(String, String)>;

/// Sessions by their settings, built once each.
#[derive(Debug)]
pub(super) struct Sessions {
    runtime: Arc<RuntimeEnv>,
    budget: Arc<MemoryBudget>,
    extensions: Extensions,
    states: Mutex<HashMap<Settings, Arc<SessionState>>>,
}

impl Sessions {
    pub(super) fn new(runtime: Arc<RuntimeEnv>, budget: Arc<MemoryBudget>, extensions: Extensions) -> Self {
        Self { runtime, budget, extensions, states: Mutex::new(HashMap::new()) }
    }

    /// The context of one attempt of a job with these settings: enough to decode its plan, not yet to run it.
    pub(super) fn context(&self, attempt: AttemptId, settings: &[(String, String)]) -> Result<TaskContext> {
        let state = self.state(settings)?;
        let cap = VolleyOptions::of(state.config_options()).memory_bytes;
        let cap = usize::try_from(cap).ok().filter(|cap| *cap > 0);
        let pool = self.budget.attempt_pool(attempt, cap);
        Ok(TaskContext::from(state.as_ref()).with_task_id(attempt.to_string()).with_runtime(pool.environment(&self.runtime)))
    }

    fn state(&self, settings: &[(String, String)]) -> Result<Arc<SessionState>> {
        if let Some(known) = self.states.lock().get(settings) {
            return Ok(Arc::clone(known));
        }
        let builder = SessionBuilder::new().runtime(Arc::clone(&self.runtime)).settings(settings);
        let built = builder.extensions(self.extensions.clone()).build_state()?;
        let state = Arc::new(built);
        let mut states = self.states.lock();
        if states.len() >= KEPT {
            states.clear();
        }
        states.insert(settings.to_vec(), Arc::clone(&state));
        Ok(state)
    }
}
