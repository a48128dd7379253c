//! Tables over files.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use futures::TryStreamExt;

/// Makes the provider of an external table, reading the files' schema where the statement gives none.
pub(super) async fn open(state: &SessionState, create: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
    let file_type = create.file_type.to_uppercase();
    let Some(factory) = state.table_factories().get(&file_type) else {
        return Err(DataFusionError::Plan(format!("can't store a table as {file_type}; the formats are {}", formats(state))));
    };
    let table = factory.create(state, create).await?;
    if table.schema().fields().is_empty() {
        let locations = create.locations.join("', '");
        return Err(DataFusionError::Plan(format!("table '{}': no {file_type} file at '{locations}'", create.name)));
    }
    check_present(state, create.name.table(), &table).await?;
    Ok(table)
}

/// Refuses a table of which a named file is missing: a scan would take it for an empty one.
pub(super) async fn check_present(state: &SessionState, name: &str, table: &Arc<dyn TableProvider>) -> Result<()> {
    let Some(listing) = table.downcast_ref::<ListingTable>() else {
        return Ok(());
    };
    for url in listing.table_paths().iter().filter(|url| !url.is_collection()) {
        if first_file(state, url).await?.is_none() {
            return Err(DataFusionError::Plan(format!("table '{name}': no file at '{url}'")));
        }
    }
    Ok(())
}

/// The table that a quoted path or URL names: `SELECT * FROM 'data/events.parquet'`. `None` where the name is not one.
pub(super) async fn table_at(state: &SessionState, path: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    if !path.contains(['/', '.']) {
        return Ok(None);
    }
    let Ok(url) = ListingTableUrl::parse(path) else {
        return Ok(None);
    };
    if state.runtime_env().object_store(&url).is_err() {
        return Err(DataFusionError::Plan(format!("no object store is known for '{path}'")));
    }
    if first_file(state, &url).await?.is_none() {
        return if looks_like_a_path(state, &url) { Err(DataFusionError::Plan(format!("no file at '{path}'"))) } else { Ok(None) };
    }
    let config = ListingTableConfig::new(url).infer_options(state).await?;
    let config = config.infer_partitions_from_path(state).await?.infer_schema(state).await?;
    Ok(Some(Arc::new(ListingTable::try_new(config)?.with_cache(state.runtime_env().cache_manager.get_file_statistic_cache()))))
}

/// Whether a name that is no table was meant as a file.
fn looks_like_a_path(state: &SessionState, url: &ListingTableUrl) -> bool {
    let extension = url.file_extension().unwrap_or_default();
    url.as_str().contains('*') || state.get_file_format_factory(extension).is_some()
}

async fn first_file(state: &SessionState, url: &ListingTableUrl) -> Result<Option<object_store::ObjectMeta>> {
    let store = state.runtime_env().object_store(url)?;
    let mut files = url.list_all_files(state, store.as_ref(), "").await?;
    files.try_next().await
}

fn formats(state: &SessionState) -> String {
    let mut names: Vec<&str> = state.table_factories().keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}
