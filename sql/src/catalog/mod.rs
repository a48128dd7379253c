//! The tables that a session sees.
//!
//! ```text
//! SessionCatalogs ---+-- volley   ClusterCatalog: tables and views of the cluster, kept in a TableStore as their DDL
//!  (one a session)   |             before them, those of the session alone
//!                    +-- tpch     GeneratedCatalog, generated while scanned
//!                    +-- tpcds    GeneratedCatalog
//!                    +-- ...      catalogs registered in this session only
//! ```
//!
//! Invariant: what the store holds is the truth. A table's provider is made from its DDL when a statement first names it, and made anew
//! after the entry changes.

use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;

mod calls;
mod changes;
mod cluster;
mod commit;
mod ddl;
mod files;
mod generated;
mod managed;
mod session;
mod store;
mod temporary;

pub use cluster::{CatalogOptions, ClusterCatalog};
pub use generated::{
    GeneratedCatalog, GeneratedSchema, GeneratedTable, GeneratedTableProvider, GeneratorExec, GeneratorSplit, Scale, Suite,
};
pub use managed::ManagedTable;
pub use session::SessionCatalogs;
pub use store::{Discarded, EntryKind, MemoryTableStore, TableEntry, TableStore};

/// An error of planning a query, with the name of the file where it comes from a Parquet reader.
pub async fn name_bad_file(state: &SessionState, plan: &LogicalPlan, error: DataFusionError) -> DataFusionError {
    files::name_bad_file_of(state, plan, error).await
}

pub(crate) use calls::name_calls;
pub(crate) use files::check_folders;
pub(crate) use managed::{check_columns, columns_of_query, encode_columns, path_part};

pub(crate) use ddl::{absolute_locations, external_table_text};
pub(crate) use temporary::lost_table;

/// The catalog of the cluster's tables, and the one that names without a catalog mean.
pub const DEFAULT_CATALOG: &str = "volley";

/// The schema that names without a schema mean.
pub const DEFAULT_SCHEMA: &str = "public";
