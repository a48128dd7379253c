//! TPC-DS tables, by `tpcdsgen`.
//!
//! Large tables are split by source rows: a row, or a ticket or order for the sales and returns tables. The others are small or keep the
//! history of a key in consecutive rows, and are always one part.

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::error::{DataFusionError, Result};
use tpcdsgen::config::{Session, SessionBuilder, Table};
use tpcdsgen_arrow::{
    CallCenterArrow, CatalogPageArrow, CatalogReturnsArrow, CatalogSalesArrow, CustomerAddressArrow, CustomerArrow,
    CustomerDemographicsArrow, DateDimArrow, DbgenVersionArrow, HouseholdDemographicsArrow, IncomeBandArrow, InventoryArrow, ItemArrow,
    PromotionArrow, ReasonArrow, ShipModeArrow, StoreArrow, StoreReturnsArrow, StoreSalesArrow, TimeDimArrow, WarehouseArrow, WebPageArrow,
    WebReturnsArrow, WebSalesArrow, WebSiteArrow,
};

use super::exec::GeneratorSplit;
use super::suite::Batches;

/// Fewest source rows that a part is made for.
const LEAST_ROWS: u64 = 16;

/// One row for each table: name, its name in the generator, Arrow generator.
macro_rules! tables {
    ($($name:literal => $table:ident, $arrow:ident;)+) => {
        /// The tables' names.
        pub(super) const TABLES: &[&str] = &[$($name),+];

        fn table(name: &str) -> Result<Table> {
            match name {
                $($name => Ok(Table::$table),)+
                _ => Err(DataFusionError::Plan(format!("tpcds has no table '{name}'; it has {}", TABLES.join(", ")))),
            }
        }

        /// The columns of a table.
        pub(super) fn schema(name: &str) -> SchemaRef {
            match name {
                $($name => $arrow::schema_ref(),)+
                _ => SchemaRef::new(Schema::empty()),
            }
        }

        /// The rows of one part of a table.
        pub(super) fn generate(name: &str, scale: f64, split: GeneratorSplit, batch_size: usize) -> Result<Batches> {
            let session = session(scale)?;
            let Some((first, last)) = source_range(&session, table(name)?, split)? else {
                return Ok(Box::new(std::iter::empty()));
            };
            match name {
                $($name => Ok(match (first, last) {
                    (1, u64::MAX) => Box::new($arrow::new(session).with_batch_size(batch_size)),
                    _ => Box::new($arrow::new(session).with_batch_size(batch_size).with_source_row_range(first, last)),
                }),)+
                _ => Ok(Box::new(std::iter::empty())),
            }
        }
    };
}

tables!(
    "call_center" => CallCenter, CallCenterArrow;
    "catalog_page" => CatalogPage, CatalogPageArrow;
    "catalog_returns" => CatalogReturns, CatalogReturnsArrow;
    "catalog_sales" => CatalogSales, CatalogSalesArrow;
    "customer" => Customer, CustomerArrow;
    "customer_address" => CustomerAddress, CustomerAddressArrow;
    "customer_demographics" => CustomerDemographics, CustomerDemographicsArrow;
    "date_dim" => DateDim, DateDimArrow;
    "dbgen_version" => DbgenVersion, DbgenVersionArrow;
    "household_demographics" => HouseholdDemographics, HouseholdDemographicsArrow;
    "income_band" => IncomeBand, IncomeBandArrow;
    "inventory" => Inventory, InventoryArrow;
    "item" => Item, ItemArrow;
    "promotion" => Promotion, PromotionArrow;
    "reason" => Reason, ReasonArrow;
    "ship_mode" => ShipMode, ShipModeArrow;
    "store" => Store, StoreArrow;
    "store_returns" => StoreReturns, StoreReturnsArrow;
    "store_sales" => StoreSales, StoreSalesArrow;
    "time_dim" => TimeDim, TimeDimArrow;
    "warehouse" => Warehouse, WarehouseArrow;
    "web_page" => WebPage, WebPageArrow;
    "web_returns" => WebReturns, WebReturnsArrow;
    "web_sales" => WebSales, WebSalesArrow;
    "web_site" => WebSite, WebSiteArrow;
);

fn session(scale: f64) -> Result<Session> {
    SessionBuilder::new().with_scale_factor(scale).build().map_err(|error| DataFusionError::External(Box::new(error)))
}

/// Whether a row of the table can be generated without those before it.
fn splittable(table: Table) -> bool {
    matches!(
        table,
        Table::CatalogReturns
            | Table::CatalogSales
            | Table::Customer
            | Table::CustomerAddress
            | Table::CustomerDemographics
            | Table::Inventory
            | Table::StoreReturns
            | Table::StoreSales
            | Table::WebReturns
            | Table::WebSales
    )
}

/// First and last source row of a part, counted from 1; `(1, u64::MAX)` for the whole table and `None` for no rows.
fn source_range(session: &Session, table: Table, split: GeneratorSplit) -> Result<Option<(u64, u64)>> {
    let (part, of) = (u64::from(split.part), u64::from(split.of));
    if part >= of {
        return Err(DataFusionError::Internal(format!("part {part} of {of} can't be generated")));
    }
    if of == 1 {
        return Ok(Some((1, u64::MAX)));
    }
    if !splittable(table) {
        return Ok((part == 0).then_some((1, u64::MAX)));
    }
    let total = session.get_scaling().get_row_count(table);
    let end = |part: u64| (u128::from(total) * u128::from(part) / u128::from(of)) as u64;
    let (first, last) = (end(part) + 1, end(part + 1));
    Ok((first <= last).then_some((first, last)))
}

/// Rows of a table for each source row, as an estimate where it varies: lines of a sale, and a tenth of them returned.
fn rows_per_source_row(table: Table) -> Option<f64> {
    match table {
        Table::StoreSales | Table::WebSales => Some(12.0),
        Table::CatalogSales => Some(9.0),
        Table::StoreReturns | Table::WebReturns => Some(1.2),
        Table::CatalogReturns => Some(0.9),
        _ => None,
    }
}

/// How many rows a table has.
pub(super) fn rows(name: &str, scale: f64) -> Precision<usize> {
    let (Ok(session), Ok(table)) = (session(scale), table(name)) else {
        return Precision::Absent;
    };
    let source = session.get_scaling().get_row_count(table);
    match rows_per_source_row(table) {
        Some(factor) => Precision::Inexact((source as f64 * factor) as usize),
        None => Precision::Exact(source as usize),
    }
}

/// The most parts of a table.
pub(super) fn most_parts(name: &str, scale: f64) -> usize {
    match (session(scale), table(name)) {
        (Ok(session), Ok(table)) if splittable(table) => {
            (session.get_scaling().get_row_count(table) / LEAST_ROWS).clamp(1, u64::from(u32::MAX)) as usize
        }
        _ => 1,
    }
}
