//! Changes of the cluster's catalog.

use std::sync::Arc;

use datafusion::common::{SchemaReference, TableReference};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{AlterTable, AlterTableOperation, ObjectName, RenameTableNameKind, Value};

use super::SqlError;
use super::immediate::Immediate;
use super::parse::ParsedStatement;
use crate::catalog::{
    ClusterCatalog, DEFAULT_CATALOG, EntryKind, SessionCatalogs, TableEntry, absolute_locations, external_table_text, lost_table,
    name_calls,
};
use crate::stores::{remember, take};

/// One change of the catalog.
#[derive(Debug, Clone)]
pub enum Ddl {
    /// Adds a table or a view.
    Create {
        /// What is added.
        entry: TableEntry,
        /// Whether a table of that name is left as it is.
        if_not_exists: bool,
        /// Whether a table of that name is replaced.
        or_replace: bool,
        /// Whether it is the session's own.
        temporary: bool,
    },
    /// Removes a table or a view.
    Drop {
        /// Which of the two.
        kind: EntryKind,
        /// The schema that it is in.
        schema: String,
        /// Its name.
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// Gives a table or a view another name.
    Rename {
        /// The schema and the name that it has.
        from: (String, String),
        /// The schema and the name that it gets.
        to: (String, String),
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// Adds a schema.
    CreateSchema {
        /// Its name.
        name: String,
        /// Whether it may exist.
        if_not_exists: bool,
    },
    /// Removes a schema.
    DropSchema {
        /// Its name.
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
        /// Whether its tables are removed too.
        cascade: bool,
    },
}

impl Ddl {
    /// Whether it changes what one session alone sees.
    pub fn is_of_session(&self) -> bool {
        matches!(self, Self::Create { temporary: true, .. })
    }

    /// Makes the change.
    pub(super) async fn run(&self, state: &SessionState) -> Result<(), SqlError> {
        let cluster = cluster(state)?;
        match self {
            Self::Create { entry, if_not_exists, or_replace, temporary } => {
                let catalog = if *temporary { self::temporary(state)? } else { cluster };
                create(&catalog, entry, *if_not_exists, *or_replace).await
            }
            Self::Drop { kind, schema, name, if_exists } => {
                if *kind == EntryKind::Table && is_forgotten(state, schema, name) {
                    return Ok(());
                }
                let dropped = holder(state, cluster, schema, name).drop_entry(*kind, schema, name).await?;
                require(dropped || *if_exists, || format!("{kind} '{schema}.{name}' does not exist"))
            }
            Self::Rename { from, to, if_exists } => {
                require(!is_lost(state, &from.0, &from.1), || lost_table(&from.1))?;
                let renamed = holder(state, cluster, &from.0, &from.1).rename((&from.0, &from.1), (&to.0, &to.1)).await?;
                require(renamed || *if_exists, || format!("table '{}.{}' does not exist", from.0, from.1))
            }
            Self::CreateSchema { name, if_not_exists } => {
                let created = cluster.create_schema(name).await?;
                require(created || *if_not_exists, || format!("schema '{name}' exists already"))
            }
            Self::DropSchema { name, if_exists, cascade } => {
                let dropped = cluster.drop_schema(name, *cascade).await?;
                require(dropped || *if_exists, || format!("schema '{name}' does not exist"))
            }
        }
    }
}

/// The catalog of the session's own tables.
fn temporary(state: &SessionState) -> Result<Arc<ClusterCatalog>, SqlError> {
    SessionCatalogs::temporary_of(state)
        .ok_or_else(|| SqlError::new("this session can't have temporary tables: its cluster has no warehouse"))
}

/// Whether a name is that of a temporary table that ended with an earlier scheduler, and was not made again.
fn is_lost(state: &SessionState, schema: &str, name: &str) -> bool {
    let is_there = SessionCatalogs::temporary_of(state).is_some_and(|own| own.entry(schema, name).is_some());
    !is_there && SessionCatalogs::is_lost(state, schema, name)
}

/// Forgets a temporary table that ended with an earlier scheduler; `false` where there is another one to drop.
fn is_forgotten(state: &SessionState, schema: &str, name: &str) -> bool {
    let is_lost = is_lost(state, schema, name);
    SessionCatalogs::forget_lost(state, schema, name);
    is_lost
}

/// The catalog that a name is found in: the session's own, where it has it.
fn holder(state: &SessionState, cluster: Arc<ClusterCatalog>, schema: &str, name: &str) -> Arc<ClusterCatalog> {
    SessionCatalogs::temporary_of(state).filter(|own| own.entry(schema, name).is_some()).unwrap_or(cluster)
}

async fn create(cluster: &Arc<ClusterCatalog>, entry: &TableEntry, if_not_exists: bool, or_replace: bool) -> Result<(), SqlError> {
    let (kind, schema, name) = (entry.kind, &entry.schema, &entry.name);
    let existing = cluster.entry(schema, name);
    if existing.is_some() && if_not_exists {
        return Ok(());
    }
    if let (Some(existing), false) = (&existing, or_replace) {
        return Err(SqlError::new(format!("{} '{schema}.{name}' exists already", existing.kind))
            .with_hint(format!("CREATE OR REPLACE replaces it, DROP {} removes it", existing.kind.to_string().to_uppercase())));
    }
    if let Some(access) = &entry.access {
        remember(access.clone());
    }
    cluster.prepare(entry).await.map_err(|error| SqlError::of(&error, &entry.ddl))?;
    // Making it from its text shows that it can be made again after a restart.
    let provider = cluster.provider(entry).await.map_err(|error| SqlError::of(&error, &entry.ddl))?;
    if kind == EntryKind::View && reaches(cluster, entry, entry, 0)? {
        return Err(SqlError::new(format!("view '{schema}.{name}' would read itself")));
    }
    let created = cluster.create(entry.clone(), Some(provider), or_replace).await?;
    require(created || if_not_exists, || format!("{kind} '{schema}.{name}' exists already"))
}

/// Views of views that are followed.
const DEEPEST_VIEW: usize = 64;

/// Whether a view reads `target`, itself or through other views.
fn reaches(cluster: &Arc<ClusterCatalog>, from: &TableEntry, target: &TableEntry, depth: usize) -> Result<bool, SqlError> {
    if depth > DEEPEST_VIEW {
        return Err(SqlError::new(format!("view '{}' is more than {DEEPEST_VIEW} views deep", target.name)));
    }
    let wrong = |error| SqlError::of(&error, &from.ddl);
    let state = cluster.planning_state(&from.default_catalog, &from.default_schema).map_err(wrong)?;
    let mut statement = state.sql_to_statement(&from.ddl, &state.config_options().sql_parser.dialect).map_err(wrong)?;
    name_calls(&mut statement)?;
    for reference in state.resolve_table_references(&statement).map_err(wrong)? {
        let read = reference.resolve(&from.default_catalog, &from.default_schema);
        if read.catalog.as_ref() != DEFAULT_CATALOG {
            continue;
        }
        if *read.schema == *target.schema && *read.table == *target.name {
            return Ok(true);
        }
        if let Some(view) = cluster.entry(&read.schema, &read.table).filter(|entry| entry.kind == EntryKind::View)
            && reaches(cluster, &view, target, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `CREATE EXTERNAL TABLE`.
pub(super) fn create_table(state: &SessionState, create: &CreateExternalTable) -> Result<Immediate, SqlError> {
    if create.unbounded {
        return Err(SqlError::new("unbounded tables are not supported: queries run over files that are complete"));
    }
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    let name = object_name_to_table_reference(create.name.clone(), normalize).map_err(|error| SqlError::of(&error, ""))?;
    let mut create = create.clone();
    let access = take(&mut create).map_err(|error| SqlError::of(&error, ""))?;
    absolute_locations(&mut create);
    keep_session_defaults(state, &mut create);
    let ddl = external_table_text(&create);
    let entry = TableEntry { access, ..entry(state, EntryKind::Table, name, ddl)? };
    Ok(Immediate::Ddl(Ddl::Create {
        entry,
        if_not_exists: create.if_not_exists,
        or_replace: create.or_replace,
        temporary: create.temporary,
    }))
}

/// Writes the session's defaults for CSV into the statement, which other sessions will read it without.
fn keep_session_defaults(state: &SessionState, create: &mut CreateExternalTable) {
    if !create.file_type.eq_ignore_ascii_case("csv") {
        return;
    }
    let defaults = &state.config_options().catalog;
    for (key, value, usual) in [("has_header", defaults.has_header, true), ("newlines_in_values", defaults.newlines_in_values, false)] {
        let given = create.options.iter().any(|(name, _)| name.trim_start_matches("format.").eq_ignore_ascii_case(key));
        if !given && value != usual {
            create.options.push((format!("format.{key}"), Value::SingleQuotedString(value.to_string())));
        }
    }
}

/// `CREATE VIEW`, which `plan` is of.
pub(super) fn create_view(state: &SessionState, parsed: &ParsedStatement, plan: LogicalPlan) -> Result<Immediate, SqlError> {
    let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = plan else {
        return Err(SqlError::new("only plain views are supported: CREATE [OR REPLACE] VIEW name AS query"));
    };
    if view.temporary {
        return Err(SqlError::new("temporary views are not supported; CREATE VIEW makes one for all"));
    }
    if parsed.parameters() > 0 {
        return Err(SqlError::new("a view takes no parameters"));
    }
    let entry = entry(state, EntryKind::View, view.name, parsed.text().to_owned())?;
    Ok(Immediate::Ddl(Ddl::Create { entry, if_not_exists: false, or_replace: view.or_replace, temporary: false }))
}

/// `ALTER TABLE`, of which `RENAME TO` alone can be done.
pub(super) fn alter_table(state: &SessionState, alter: &AlterTable) -> Result<Immediate, SqlError> {
    let [AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) | RenameTableNameKind::As(to) }] =
        alter.operations.as_slice()
    else {
        return Err(SqlError::new("of ALTER TABLE only RENAME TO is supported")
            .with_hint("CREATE OR REPLACE TABLE name AS SELECT ... FROM name makes other columns"));
    };
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    let reference = |name: &ObjectName| object_name_to_table_reference(name.clone(), normalize).map_err(|error| SqlError::of(&error, ""));
    let from = resolve(state, reference(&alter.name)?)?;
    let to = match reference(to)? {
        // A bare name stays in the schema of the table.
        TableReference::Bare { table } => (from.0.clone(), table.to_string()),
        other => resolve(state, other)?,
    };
    Ok(Immediate::Ddl(Ddl::Rename { from, to, if_exists: alter.if_exists }))
}

pub(super) fn drop_table(state: &SessionState, name: TableReference, if_exists: bool) -> Result<Immediate, SqlError> {
    drop_entry(state, EntryKind::Table, name, if_exists)
}

pub(super) fn drop_view(state: &SessionState, name: TableReference, if_exists: bool) -> Result<Immediate, SqlError> {
    drop_entry(state, EntryKind::View, name, if_exists)
}

fn drop_entry(state: &SessionState, kind: EntryKind, name: TableReference, if_exists: bool) -> Result<Immediate, SqlError> {
    let (schema, name) = resolve(state, name)?;
    Ok(Immediate::Ddl(Ddl::Drop { kind, schema, name, if_exists }))
}

pub(super) fn create_schema(state: &SessionState, name: &str, if_not_exists: bool) -> Result<Immediate, SqlError> {
    let parts: Vec<&str> = name.split('.').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [catalog, name] if *catalog == DEFAULT_CATALOG => name,
        _ => return Err(foreign(name)),
    };
    cluster(state)?;
    Ok(Immediate::Ddl(Ddl::CreateSchema { name: (*name).to_owned(), if_not_exists }))
}

pub(super) fn drop_schema(state: &SessionState, name: &SchemaReference, if_exists: bool, cascade: bool) -> Result<Immediate, SqlError> {
    if let SchemaReference::Full { catalog, .. } = name
        && catalog.as_ref() != DEFAULT_CATALOG
    {
        return Err(foreign(&name.to_string()));
    }
    cluster(state)?;
    Ok(Immediate::Ddl(Ddl::DropSchema { name: name.schema_name().to_owned(), if_exists, cascade }))
}

fn entry(state: &SessionState, kind: EntryKind, name: TableReference, ddl: String) -> Result<TableEntry, SqlError> {
    let (schema, name) = resolve(state, name)?;
    let names = &state.config_options().catalog;
    let (default_catalog, default_schema) = (names.default_catalog.clone(), names.default_schema.clone());
    Ok(TableEntry { kind, schema, name, ddl, default_catalog, default_schema, managed: None, access: None })
}

/// Schema and name in the cluster's catalog, the only one that DDL changes.
pub(super) fn resolve(state: &SessionState, name: TableReference) -> Result<(String, String), SqlError> {
    cluster(state)?;
    let names = &state.config_options().catalog;
    let resolved = name.resolve(&names.default_catalog, &names.default_schema);
    if resolved.catalog.as_ref() != DEFAULT_CATALOG {
        return Err(foreign(&resolved.to_string()));
    }
    Ok((resolved.schema.to_string(), resolved.table.to_string()))
}

fn foreign(name: &str) -> SqlError {
    SqlError::new(format!("'{name}' can't be changed: only catalog '{DEFAULT_CATALOG}' can"))
}

pub(super) fn cluster(state: &SessionState) -> Result<Arc<ClusterCatalog>, SqlError> {
    SessionCatalogs::cluster_of(state).ok_or_else(|| SqlError::new("this session belongs to no cluster, so it has no catalog to change"))
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), SqlError> {
    if holds { Ok(()) } else { Err(SqlError::new(message())) }
}
