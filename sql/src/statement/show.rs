//! `SHOW`: settings with their values, `volley.*` among them.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::context::SessionState;
use datafusion::sql::sqlparser::ast::Ident;

use super::immediate::{Immediate, ImmediateResult};
use super::{SqlError, Statement};
use crate::diagnostics::nearest;
use crate::options;

/// `SHOW ALL`, `SHOW name`, `SHOW prefix`, each with `VERBOSE` for what they mean.
pub(super) fn variable(state: &SessionState, variable: &[Ident]) -> Result<Statement, SqlError> {
    let mut parts: Vec<String> = variable.iter().map(|part| part.value.to_ascii_lowercase()).collect();
    // Where the word stands, before or after: a list would be long without either.
    let place = (parts.len() > 1).then(|| [0, parts.len() - 1].into_iter().find(|place| parts[*place] == "verbose")).flatten();
    let verbose = place.map(|place| parts.remove(place)).is_some();
    let name = parts.join(".");
    let name = if matches!(name.as_str(), "timezone" | "time.zone") { "datafusion.execution.time_zone".into() } else { name };
    let all = options::described(state.config_options());
    let within = |key: &str| name == "all" || key == name || key.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'));
    let shown: Vec<_> = all.iter().filter(|setting| within(&setting.name)).collect();
    if shown.is_empty() {
        let error = SqlError::new(format!("there is no setting '{name}'"));
        return Err(match nearest(&name, all.iter().map(|setting| setting.name.as_str())) {
            Some(near) => error.with_hint(format!("did you mean '{near}'?")),
            None => error.with_hint("SHOW ALL lists the settings"),
        });
    }
    let mut fields = vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let names: StringArray = shown.iter().map(|setting| Some(setting.name.as_str())).collect();
    let values: StringArray = shown.iter().map(|setting| setting.value.as_deref()).collect();
    let mut columns: Vec<datafusion::arrow::array::ArrayRef> = vec![Arc::new(names), Arc::new(values)];
    if verbose {
        fields.push(Field::new("description", DataType::Utf8, false));
        let descriptions: StringArray = shown.iter().map(|setting| Some(setting.description)).collect();
        columns.push(Arc::new(descriptions));
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| SqlError::of(&error.into(), ""))?;
    Ok(Statement::Immediate(Immediate::Rows(ImmediateResult { schema, batches: vec![batch], is_update: false })))
}
