//! What may be written to a table, and which files a change of rows is about.

use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;

use super::provider::DeltaProvider;
use crate::write::DeltaFile;

/// What a column's metadata begin with whose values are computed or checked.
const COMPUTED: &[&str] = &["delta.generationExpression", "delta.invariants", "delta.identity.start"];

/// Refuses to write to a table of which something would have to be computed or checked that is not understood here.
pub(crate) fn check_appends(table: &DeltaProvider) -> Result<()> {
    let url = table.log().url();
    let refused = |why: String| Err(DataFusionError::NotImplemented(format!("the Delta Lake table at '{url}' can't be written to: {why}")));
    let snapshot = table.snapshot()?;
    if let Some(constraint) = snapshot.metadata().configuration().keys().find(|key| key.starts_with("delta.constraints.")) {
        return refused(format!("it has the constraint '{constraint}', which is not checked"));
    }
    for field in snapshot.arrow_schema().fields() {
        if let Some(computed) = field.metadata().keys().find(|key| COMPUTED.contains(&key.as_str())) {
            return refused(format!("its column '{}' has {computed}, which is not supported", field.name()));
        }
    }
    Ok(())
}

/// The part of a table whose files may hold rows that pass a filter, and these files as the log has them now.
pub(crate) fn rewritten_files(
    table: &DeltaProvider,
    session: &dyn Session,
    filter: Option<&Expr>,
) -> Result<(DeltaProvider, Vec<DeltaFile>)> {
    check_appends(table)?;
    let url = table.log().url();
    let configuration = table.snapshot()?.metadata().configuration();
    if configuration.get("delta.enableChangeDataFeed").is_some_and(|on| on == "true") {
        return Err(DataFusionError::NotImplemented(format!(
            "rows of the Delta Lake table at '{url}' can't be changed: it has delta.enableChangeDataFeed, and no change data are written"
        )));
    }
    if configuration.get("delta.appendOnly").is_some_and(|on| on == "true") {
        return Err(DataFusionError::Plan(format!("rows of the Delta Lake table at '{url}' can't be changed: it has delta.appendOnly")));
    }
    let filters: Vec<_> = filter.cloned().into_iter().collect();
    let files: Vec<_> = table.selected(session, &filters)?.into_iter().cloned().collect();
    let paths = files.iter().map(|file| DeltaFile { path: file.path.clone(), vector: file.vector.clone() }).collect();
    Ok((table.of_files(files), paths))
}
