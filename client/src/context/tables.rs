//! Tables that this context knows by itself, as distinct from those of the cluster.

use std::sync::Arc;

use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, TableProvider};
use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use futures::FutureExt;
use volley_sql::codec::RemoteTable;

/// A state whose catalogs are empty: what is in them from now on was put there by the program.
pub(super) fn with_own_catalogs(state: SessionState) -> SessionState {
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    let names = state.config_options().catalog.clone();
    let catalog = Arc::new(MemoryCatalogProvider::new());
    // Registering in a new memory catalog replaces nothing and can't fail.
    let _ = catalog.register_schema(&names.default_schema, Arc::new(MemorySchemaProvider::new()));
    catalogs.register_catalog(names.default_catalog, catalog);
    SessionStateBuilder::new_from_existing(state).with_catalog_list(catalogs).build()
}

/// Whether a table was registered in this context.
pub(super) fn is_own(state: &SessionState, name: &TableReference) -> bool {
    own(state, name).is_some()
}

fn own(state: &SessionState, name: &TableReference) -> Option<Arc<dyn TableProvider>> {
    let name = resolved(state, name);
    let schema = state.catalog_list().catalog(&name.catalog)?.schema(&name.schema)?;
    // Memory catalogs answer at once.
    let table = schema.table(&name.table).now_or_never()?.ok()??;
    // A mirror of the cluster's table is no table of our own.
    if table.is::<RemoteTable>() { None } else { Some(table) }
}

fn resolved(state: &SessionState, name: &TableReference) -> ResolvedTableReference {
    let names = &state.config_options().catalog;
    name.clone().resolve(&names.default_catalog, &names.default_schema)
}

/// The tables of the cluster that a statement names beside tables of this context; `None` if it names none of this context's, or
/// can't be parsed (the scheduler says what is wrong with it).
pub(super) fn own_tables_of(state: &SessionState, sql: &str) -> Option<Vec<TableReference>> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).ok()?;
    let references = state.resolve_table_references(&statement).ok()?;
    let (own, others): (Vec<_>, Vec<_>) = references.into_iter().partition(|name| is_own(state, name));
    if own.is_empty() { None } else { Some(others) }
}

/// Puts a table of the cluster beside our own, replacing what an earlier statement put there.
pub(super) fn mirror(state: &SessionState, name: &TableReference, table: Arc<dyn TableProvider>) -> Result<()> {
    let name = resolved(state, name);
    let catalogs = state.catalog_list();
    let catalog = catalogs.catalog(&name.catalog).unwrap_or_else(|| {
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalogs.register_catalog(name.catalog.to_string(), Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
        catalog
    });
    if catalog.schema(&name.schema).is_none() {
        catalog.register_schema(&name.schema, Arc::new(MemorySchemaProvider::new()))?;
    }
    let missing = || DataFusionError::Internal(format!("schema '{}' was not registered", name.schema));
    let schema = catalog.schema(&name.schema).ok_or_else(missing)?;
    schema.deregister_table(&name.table)?;
    schema.register_table(name.table.to_string(), table)?;
    Ok(())
}

/// A path of the file system means the same to the executors when it is absolute; URLs stay as they are.
pub(super) fn absolute(path: &str) -> String {
    if path.contains("://") {
        return path.to_owned();
    }
    let slash = if path.ends_with('/') { "/" } else { "" };
    match std::path::absolute(path) {
        Ok(absolute) => format!("{}{slash}", absolute.display().to_string().trim_end_matches('/')),
        // An empty path: whoever reads it says so.
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn context() -> SessionContext {
        let state = SessionContext::new().state();
        let context = SessionContext::new_with_state(with_own_catalogs(state));
        context.register_table("mine", Arc::new(EmptyTable::new(Arc::new(Schema::empty())))).unwrap();
        context
    }

    #[test]
    fn statements_over_the_clusters_tables_alone_stay_text() {
        let state = context().state();
        for sql in ["SELECT * FROM t", "SELECT 1", "SELEC 1", "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x'", "SHOW TABLES"] {
            assert!(own_tables_of(&state, sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn statements_over_own_tables_name_the_others() {
        let state = context().state();
        let others = own_tables_of(&state, "SELECT * FROM mine JOIN tpch.sf1.nation USING (n) WHERE x IN (SELECT y FROM t)").unwrap();
        let mut names: Vec<_> = others.iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["t", "tpch.sf1.nation"]);
    }

    #[test]
    fn a_mirror_is_not_our_own() {
        let state = context().state();
        let name = TableReference::from("tpch.sf1.nation");
        for _ in 0..2 {
            mirror(&state, &name, Arc::new(RemoteTable::new("SELECT 1", Arc::new(Schema::empty())))).unwrap();
        }
        assert!(!is_own(&state, &name));
        assert!(is_own(&state, &TableReference::from("mine")));
    }

    #[test]
    fn paths_become_absolute_and_urls_stay() {
        assert_eq!(absolute("s3://bucket/x/"), "s3://bucket/x/");
        assert_eq!(absolute("/data/x.parquet"), "/data/x.parquet");
        assert!(absolute("data/").starts_with('/') && absolute("data/").ends_with("/data/"));
    }
}
