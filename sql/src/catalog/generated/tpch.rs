//! TPC-H tables, by `tpchgen`.

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::error::{DataFusionError, Result};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow};

use super::exec::GeneratorSplit;
use super::suite::Batches;

/// Line items of an order, on average.
const LINES_PER_ORDER: f64 = 4.0;

/// Fewest source rows that a part is made for.
const LEAST_ROWS: i64 = 16;

/// One row for each table: name, generator, Arrow generator.
macro_rules! tables {
    ($($name:literal => $generator:ident, $arrow:ident;)+) => {
        /// The tables' names.
        pub(super) const TABLES: &[&str] = &[$($name),+];

        /// The columns of a table.
        pub(super) fn schema(name: &str) -> SchemaRef {
            match name {
                $($name => $arrow::schema_ref(),)+
                _ => SchemaRef::new(Schema::empty()),
            }
        }

        /// The rows of one part of a table.
        pub(super) fn generate(name: &str, scale: f64, split: GeneratorSplit, batch_size: usize) -> Result<Batches> {
            let (part, of) = numbers(split)?;
            match name {
                $($name => Ok(Box::new($arrow::new($generator::new(scale, part, of)).with_batch_size(batch_size))),)+
                _ => Err(DataFusionError::Plan(format!("tpch has no table '{name}'; it has {}", TABLES.join(", ")))),
            }
        }
    };
}

tables!(
    "customer" => CustomerGenerator, CustomerArrow;
    "lineitem" => LineItemGenerator, LineItemArrow;
    "nation" => NationGenerator, NationArrow;
    "orders" => OrderGenerator, OrderArrow;
    "part" => PartGenerator, PartArrow;
    "partsupp" => PartSuppGenerator, PartSuppArrow;
    "region" => RegionGenerator, RegionArrow;
    "supplier" => SupplierGenerator, SupplierArrow;
);

/// Source rows from which a table is split: its rows, but orders for line items, and parts for their suppliers.
fn source_rows(name: &str, scale: f64) -> i64 {
    match name {
        "customer" => CustomerGenerator::calculate_row_count(scale, 1, 1),
        "lineitem" | "orders" => OrderGenerator::calculate_row_count(scale, 1, 1),
        "part" | "partsupp" => PartGenerator::calculate_row_count(scale, 1, 1),
        "supplier" => SupplierGenerator::calculate_row_count(scale, 1, 1),
        "nation" => 25,
        _ => 5,
    }
}

/// How many rows a table has.
pub(super) fn rows(name: &str, scale: f64) -> Precision<usize> {
    let source = source_rows(name, scale);
    match name {
        "lineitem" => Precision::Inexact((source as f64 * LINES_PER_ORDER) as usize),
        "partsupp" => Precision::Exact(source as usize * 4),
        _ => Precision::Exact(source as usize),
    }
}

/// The most parts of a table: the generators of the two fixed tables give all rows in any part.
pub(super) fn most_parts(name: &str, scale: f64) -> usize {
    match name {
        "nation" | "region" => 1,
        _ => (source_rows(name, scale) / LEAST_ROWS).clamp(1, i64::from(i32::MAX)) as usize,
    }
}

/// The generators count parts from 1, in `i32`.
fn numbers(split: GeneratorSplit) -> Result<(i32, i32)> {
    let wrong = || DataFusionError::Internal(format!("part {} of {} can't be generated", split.part, split.of));
    let part = i32::try_from(split.part + 1).map_err(|_| wrong())?;
    let of = i32::try_from(split.of).map_err(|_| wrong())?;
    if part > of { Err(wrong()) } else { Ok((part, of)) }
}
