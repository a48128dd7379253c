//! The generated suites as DataFusion catalogs.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::StatisticsArgs;

use super::exec::{GeneratorExec, GeneratorSplit};
use super::suite::{GeneratedTable, Scale, Suite};
use crate::options::VolleyOptions;

/// Estimated bytes of one split of a large scan: small enough for a task to be balanced and retried.
const SPLIT_BYTES: usize = 32 << 20;

/// Most splits of a scan.
const MOST_SPLITS: usize = 1 << 16;

/// A suite at all scales.
#[derive(Debug)]
pub struct GeneratedCatalog {
    suite: Suite,
}

impl GeneratedCatalog {
    /// The catalog of `suite`.
    pub fn new(suite: Suite) -> Self {
        Self { suite }
    }
}

impl CatalogProvider for GeneratedCatalog {
    fn schema_names(&self) -> Vec<String> {
        Scale::LISTED.iter().map(Scale::to_string).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let scale = name.parse().ok()?;
        Some(Arc::new(GeneratedSchema { suite: self.suite, scale }))
    }
}

/// A suite at one scale.
#[derive(Debug)]
pub struct GeneratedSchema {
    suite: Suite,
    scale: Scale,
}

#[async_trait]
impl SchemaProvider for GeneratedSchema {
    fn table_names(&self) -> Vec<String> {
        self.suite.tables().iter().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self.suite.table(name, self.scale);
        Ok(table.map(|table| Arc::new(GeneratedTableProvider { table }) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.suite.tables().contains(&name)
    }
}

/// A generated table.
#[derive(Debug)]
pub struct GeneratedTableProvider {
    table: GeneratedTable,
}

impl GeneratedTableProvider {
    /// A provider of `table`.
    pub fn new(table: GeneratedTable) -> Self {
        Self { table }
    }

    /// The table.
    pub fn table(&self) -> GeneratedTable {
        self.table
    }

    /// The splits of a scan in `partitions` partitions at the most, each a run of consecutive parts.
    fn splits(&self, partitions: usize, row_bytes: usize, least_bytes: usize) -> Vec<Vec<GeneratorSplit>> {
        let bytes = self.table.rows().get_value().copied().unwrap_or(0).saturating_mul(row_bytes);
        let most = self.table.most_parts().min(MOST_SPLITS);
        let partitions = partitions.min(bytes.div_ceil(least_bytes.max(1))).clamp(1, most);
        let of = bytes.div_ceil(SPLIT_BYTES.min(least_bytes.max(1 << 20))).clamp(partitions, most);
        (0..partitions)
            .map(|partition| {
                let (first, end) = (partition * of / partitions, (partition + 1) * of / partitions);
                (first..end).map(|part| GeneratorSplit { part: part as u32, of: of as u32 }).collect()
            })
            .collect()
    }
}

#[async_trait]
impl TableProvider for GeneratedTableProvider {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let least_bytes = VolleyOptions::of(state.config_options()).min_bytes_per_partition;
        let partitions = state.config().target_partitions();
        let splits = self.splits(partitions, self.table.row_bytes(), usize::try_from(least_bytes).unwrap_or(usize::MAX));
        Ok(Arc::new(GeneratorExec::new(self.table, splits, projection.cloned())?))
    }

    fn statistics(&self) -> Option<Statistics> {
        let whole = vec![vec![GeneratorSplit { part: 0, of: 1 }]];
        let scan = GeneratorExec::new(self.table, whole, None).ok()?;
        let statistics = scan.statistics_from_inputs(&[], &StatisticsArgs::new()).ok()?;
        Some(Arc::unwrap_or_clone(statistics))
    }
}
