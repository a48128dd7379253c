//! What an embedding program adds: functions, tables and operators of its own.
//!
//! The program starts its scheduler and its executors with the same [`Extension`]s. Functions travel by their names, operators in bytes that
//! the extension itself makes and reads; what an executor lacks is told by its name.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

/// A program's own code in every session of the schedulers and executors that are started with it.
pub trait Extension: fmt::Debug + Send + Sync + 'static {
    /// Names it in errors and in encoded plans; no two of a process share one.
    fn name(&self) -> &str;

    /// Adds functions, table functions and tables to a new session, on schedulers and executors alike.
    fn register(&self, state: &mut SessionState) -> Result<()>;

    /// How its operators travel; `None` where it has none. An operator without inputs runs in one task, with all its partitions.
    fn codec(&self) -> Option<Arc<dyn PhysicalExtensionCodec>> {
        None
    }
}

/// The extensions of a process.
#[derive(Debug, Clone, Default)]
pub struct Extensions(Vec<Arc<dyn Extension>>);

impl Extensions {
    /// These extensions, in the order in which they register.
    pub fn new(extensions: impl IntoIterator<Item = Arc<dyn Extension>>) -> Self {
        Self(extensions.into_iter().collect())
    }

    /// Those of a session that [`crate::session::SessionBuilder`] made.
    pub fn of_session(state: &SessionState) -> Self {
        state.config().get_extension::<Self>().as_deref().cloned().unwrap_or_default()
    }

    /// Those of the session that a task runs in.
    pub(crate) fn of_task(context: &TaskContext) -> Self {
        context.session_config().get_extension::<Self>().as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn register(&self, state: &mut SessionState) -> Result<()> {
        self.0.iter().try_for_each(|extension| extension.register(state))
    }

    /// The codecs, by the names of their extensions.
    pub(crate) fn codecs(&self) -> impl Iterator<Item = (&str, Arc<dyn PhysicalExtensionCodec>)> {
        self.0.iter().filter_map(|extension| Some((extension.name(), extension.codec()?)))
    }

    /// The names, for errors.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|extension| format!("'{}'", extension.name())).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}
