//! The functions of a session: the engine's own and those over JSON text, and where a session asks for them, Spark's.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::execution::{FunctionRegistry, SessionStateDefaults};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use crate::extension::Extensions;
use crate::merge::RowId;
use crate::options::{Functions, VolleyOptions};
use crate::single_value::SingleValue;

/// Registers what a session has beyond the engine's functions, which it has already.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    datafusion_functions_json::register_all(state)?;
    state.register_udaf(Arc::new(AggregateUDF::from(SingleValue::new())))?;
    state.register_udf(Arc::new(ScalarUDF::from(RowId::new())))?;
    match VolleyOptions::of(state.config_options()).functions {
        Functions::Datafusion => Ok(()),
        Functions::Spark => datafusion_spark::register_all(state),
    }
}

/// Registers functions anew after `volley.functions` was changed. Functions of one name differ: `datafusion` and `spark` replace each other.
pub(crate) fn change(state: &mut SessionState) -> Result<()> {
    for function in datafusion_spark::all_default_scalar_functions() {
        state.deregister_udf(function.name())?;
    }
    for function in datafusion_spark::all_default_aggregate_functions() {
        state.deregister_udaf(function.name())?;
    }
    for function in datafusion_spark::all_default_window_functions() {
        state.deregister_udwf(function.name())?;
    }
    for function in SessionStateDefaults::default_scalar_functions() {
        state.register_udf(function)?;
    }
    for function in SessionStateDefaults::default_aggregate_functions() {
        state.register_udaf(function)?;
    }
    for function in SessionStateDefaults::default_window_functions() {
        state.register_udwf(function)?;
    }
    renew(state)?;
    register(state)?;
    Extensions::of_session(state).register(state)
}

/// Makes functions anew that read options when they are made.
pub(crate) fn renew(state: &mut SessionState) -> Result<()> {
    let config = Arc::clone(state.config_options());
    let renewed: Vec<_> = state.scalar_functions().values().filter_map(|function| function.inner().with_updated_config(&config)).collect();
    for function in renewed {
        state.register_udf(Arc::new(function))?;
    }
    Ok(())
}
