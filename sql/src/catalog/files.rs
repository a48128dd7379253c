//! Tables over files.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{CreateExternalTable, LogicalPlan};
use futures::TryStreamExt;
use url::Url;

use crate::delta::{self, DeltaLog};

/// What stands for Delta Lake tables in `STORED AS`.
const DELTA: &str = "DELTA";

/// Makes the provider of an external table, reading the files' schema where the statement gives none.
pub(super) async fn open(state: &SessionState, create: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
    let file_type = create.file_type.to_uppercase();
    if file_type == DELTA {
        return open_delta(state, create).await;
    }
    let Some(factory) = state.table_factories().get(&file_type) else {
        return Err(DataFusionError::Plan(format!("can't store a table as {file_type}; the formats are {}", formats(state))));
    };
    let table = match factory.create(state, create).await {
        Ok(table) => table,
        Err(error) => return Err(name_bad_file(state, create, error).await),
    };
    if table.schema().fields().is_empty() {
        let locations = create.locations.join("', '");
        return Err(DataFusionError::Plan(format!("table '{}': no {file_type} file at '{locations}'", create.name)));
    }
    check_present(state, create.name.table(), &table).await?;
    Ok(table)
}

/// The log of a Delta Lake table, at the version that its options name.
fn delta_log(state: &SessionState, create: &CreateExternalTable) -> Result<Arc<DeltaLog>> {
    let [location] = create.locations.as_slice() else {
        return Err(DataFusionError::Plan(format!("table '{}': a Delta Lake table has one location", create.name)));
    };
    let mut version = None;
    for (name, value) in &create.options {
        match name.trim_start_matches("format.") {
            "version" => {
                let number = value.parse().map_err(|_| DataFusionError::Plan(format!("version '{value}' is not a number from 0 on")))?;
                version = Some(number);
            }
            other => return Err(DataFusionError::Plan(format!("a Delta Lake table has no option '{other}'; it has 'version'"))),
        }
    }
    DeltaLog::new(location, version, state.runtime_env())
}

/// Makes a Delta Lake table where there is none and the statement says which columns it has.
pub(super) async fn prepare(state: &SessionState, create: &CreateExternalTable) -> Result<()> {
    if create.file_type.to_uppercase() != DELTA || create.schema.fields().is_empty() {
        return Ok(());
    }
    let log = delta_log(state, create)?;
    if log.exists().await? { Ok(()) } else { delta::create(&log, create.schema.as_arrow(), &create.table_partition_cols).await }
}

async fn open_delta(state: &SessionState, create: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
    let table = delta_log(state, create)?.current().await?;
    let declared = create.schema.fields();
    let schema = table.schema();
    let is_same = declared.len() == schema.fields().len() && declared.iter().all(|field| schema.index_of(field.name()).is_ok());
    if !declared.is_empty() && !is_same {
        let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(DataFusionError::Plan(format!(
            "table '{}': the Delta Lake table at '{}' has other columns than the statement: {}",
            create.name,
            table.log().url(),
            columns.join(", ")
        )));
    }
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

/// Refuses a plan that reads a table whose local folder is gone: a scan would take it for an empty one. A folder that is inserted into
/// need not be there yet.
pub(crate) fn check_folders(plan: &LogicalPlan) -> Result<()> {
    let mut tables = Vec::new();
    find_listings(plan, &mut tables)?;
    tables.iter().try_for_each(|(name, urls)| urls.iter().filter(|url| url.is_collection()).try_for_each(|url| check_folder(name, url)))
}

/// Of a pattern, the folder that it begins with. Object stores have no folders.
fn check_folder(name: &str, url: &ListingTableUrl) -> Result<()> {
    let place = Url::parse(url.as_str()).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    match place {
        Some(place) if !place.exists() => Err(DataFusionError::Plan(format!("table '{name}': no folder at '{}'", url.as_str()))),
        _ => Ok(()),
    }
}

/// An error of a Parquet reader says what is wrong with a file, but not with which.
async fn name_bad_file(state: &SessionState, create: &CreateExternalTable, error: DataFusionError) -> DataFusionError {
    if !matches!(error.find_root(), DataFusionError::ParquetError(_)) {
        return error;
    }
    let urls: Vec<_> = create.locations.iter().filter_map(|location| ListingTableUrl::parse(location).ok()).collect();
    named(bad_file(state, &urls).await, create.name.table(), error)
}

/// An error of planning, with the name of the file where it comes from a Parquet reader.
pub(crate) async fn name_bad_file_of(state: &SessionState, plan: &LogicalPlan, error: DataFusionError) -> DataFusionError {
    if !matches!(error.find_root(), DataFusionError::ParquetError(_)) {
        return error;
    }
    let mut tables = Vec::new();
    if find_listings(plan, &mut tables).is_err() {
        return error;
    }
    for (name, urls) in tables {
        if let Some(bad) = bad_file(state, &urls).await {
            return named(Some(bad), &name, error);
        }
    }
    error
}

fn named(bad: Option<(String, DataFusionError)>, table: &str, error: DataFusionError) -> DataFusionError {
    let Some((file, reason)) = bad else { return error };
    let reason = crate::diagnostics::failure_of(&reason).message;
    DataFusionError::Plan(format!("table '{table}': file '{file}' can't be read as Parquet: {reason}"))
}

/// The tables over files that a plan reads, itself or through views.
fn find_listings(plan: &LogicalPlan, tables: &mut Vec<(String, Vec<ListingTableUrl>)>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            if let Some(view) = scan.source.get_logical_plan() {
                find_listings(&view, tables)?;
            }
            let provider = source_as_provider(&scan.source).ok();
            if let Some(listing) = provider.as_ref().and_then(|provider| provider.downcast_ref::<ListingTable>()) {
                tables.push((scan.table_name.table().to_owned(), listing.table_paths().clone()));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The first file that is not Parquet, and why not.
async fn bad_file(state: &SessionState, urls: &[ListingTableUrl]) -> Option<(String, DataFusionError)> {
    let format = ParquetFormat::default();
    for url in urls {
        let store = state.runtime_env().object_store(url).ok()?;
        let mut files = url.list_all_files(state, store.as_ref(), "").await.ok()?;
        while let Ok(Some(file)) = files.try_next().await {
            if let Err(error) = format.infer_schema(state, &store, std::slice::from_ref(&file)).await {
                return Some((format!("{}{}", url.object_store().as_str(), file.location), error));
            }
        }
    }
    None
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
    let paths = [url.clone()];
    let config = ListingTableConfig::new(url).infer_options(state).await?.infer_partitions_from_path(state).await?;
    let config = match config.infer_schema(state).await {
        Ok(config) => config,
        Err(error) if matches!(error.find_root(), DataFusionError::ParquetError(_)) => {
            return Err(named(bad_file(state, &paths).await, path, error));
        }
        Err(error) => return Err(error),
    };
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
    let mut names: Vec<&str> = state.table_factories().keys().map(String::as_str).chain([DELTA]).collect();
    names.sort_unstable();
    names.join(", ")
}
