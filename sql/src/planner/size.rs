//! Pass 2: how many partitions. In a cluster from the bytes that leaves read, so that tasks are of a size; within one executor from
//! the bytes of the groups that are aggregated, so that a hash table fits the caches.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use crate::graph::ClusterShape;
use crate::leaf::file_scan;
use crate::options::VolleyOptions;

/// What a row is taken for where only the number of rows is known, in bytes.
pub(super) const BYTES_PER_ROW: u64 = 64;
/// What a string or a nested value is taken for, in bytes.
const STRING_BYTES: u64 = 32;
/// What a hash table takes for a group beside its key, in bytes.
const HASH_BYTES: u64 = 12;
/// What an accumulator takes for a group, in bytes: a decimal's sum.
const ACCUMULATOR_BYTES: u64 = 16;
/// Partitions for each slot beyond which more of them cost more than they save.
const PARTITIONS_PER_SLOT: usize = 16;

/// Whose slots a plan may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parallelism {
    /// The largest executor's.
    OneExecutor,
    /// All.
    Cluster,
}

impl Parallelism {
    /// The slots.
    pub(super) fn slots(self, cluster: ClusterShape) -> usize {
        match self {
            Self::OneExecutor => cluster.largest_slots.max(1),
            Self::Cluster => cluster.slots.max(1),
        }
    }
}

/// Partitions for `plan`: one for every `min_bytes_per_partition` that its leaves read, or its largest aggregation holds where one
/// executor runs all of it; at least one for each slot, and a multiple of the slots, so that the last wave is as full as the others.
///
/// Within one executor more partitions than slots only pay for large numbers of groups: joins on dense integer keys get slower, since
/// each partition's keys are spread over the whole range and no longer fit an array.
pub(super) fn partitions(
    plan: &Arc<dyn ExecutionPlan>,
    options: &VolleyOptions,
    parallelism: Parallelism,
    cluster: ClusterShape,
) -> Result<usize> {
    let slots = parallelism.slots(cluster);
    let most = if options.max_partitions > 0 { options.max_partitions } else { slots * PARTITIONS_PER_SLOT };
    let bytes = match parallelism {
        Parallelism::Cluster => scanned_bytes(plan)?,
        Parallelism::OneExecutor => aggregated_bytes(plan)?,
    };
    let wanted = usize::try_from(bytes.div_ceil(options.min_bytes_per_partition)).unwrap_or(usize::MAX);
    let wanted = wanted.clamp(1, most.max(1)).max(slots.min(most.max(1)));
    Ok(if wanted > slots { wanted.next_multiple_of(slots).min(most.max(slots)) } else { wanted })
}

/// Bytes that the leaves of `plan` read, as estimated from file sizes and statistics.
pub(super) fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let mut bytes = 0u64;
    plan.apply(|node| {
        if node.children().is_empty() {
            bytes = bytes.saturating_add(leaf_bytes(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

/// Bytes of the groups of the largest aggregation whose groups are spread over partitions, as estimated from statistics.
fn aggregated_bytes(plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let statistics = StatisticsContext::new();
    let mut most = 0;
    plan.apply(|node| {
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
            && *aggregate.mode() == AggregateMode::Partial
            && !aggregate.group_expr().is_true_no_grouping()
        {
            let input = statistics.compute(aggregate.input().as_ref(), &StatisticsArgs::new())?;
            most = most.max(group_bytes(aggregate, &input, &Leaves::below(aggregate.input(), &statistics)?));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(most)
}

/// Bytes of an aggregation's groups: as many as its input has rows, or as its keys have values.
fn group_bytes(aggregate: &AggregateExec, input: &Statistics, leaves: &Leaves) -> u64 {
    let Some(&rows) = input.num_rows.get_value() else { return 0 };
    let keys = aggregate.group_expr().expr();
    let values_of = |key: &Arc<dyn PhysicalExpr>| {
        let column = key.downcast_ref::<Column>()?;
        range(input.column_statistics.get(column.index())?).or_else(|| leaves.values(column.name()))
    };
    let values = keys.iter().map(|(key, _)| values_of(key)).try_fold(1u64, |product, values| Some(product.saturating_mul(values?)));
    let key_bytes: u64 = aggregate.schema().fields().iter().take(keys.len()).map(|field| value_bytes(field.data_type())).sum();
    let group = HASH_BYTES + key_bytes + ACCUMULATOR_BYTES * aggregate.aggr_expr().len() as u64;
    values.unwrap_or(u64::MAX).min(rows as u64).saturating_mul(group)
}

/// How many values lie between the least and the greatest of a column.
pub(super) fn range(column: &ColumnStatistics) -> Option<u64> {
    let distance = column.max_value.get_value()?.distance(column.min_value.get_value()?)?;
    Some((distance as u64).saturating_add(1))
}

/// What the leaves below an operator know of their columns.
pub(super) struct Leaves(Vec<(SchemaRef, Arc<Statistics>)>);

impl Leaves {
    pub(super) fn below(plan: &Arc<dyn ExecutionPlan>, statistics: &StatisticsContext) -> Result<Self> {
        let mut leaves = vec![];
        plan.apply(|node| {
            if node.children().is_empty() {
                leaves.push((node.schema(), statistics.compute(node.as_ref(), &StatisticsArgs::new())?));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self(leaves))
    }

    /// How many rows the only leaf has; `None` where there are several, or it does not tell.
    pub(super) fn rows(&self) -> Option<u64> {
        match self.0.as_slice() {
            [(_, statistics)] => statistics.num_rows.get_value().map(|rows| *rows as u64),
            _ => None,
        }
    }

    /// How many values a column of this name has: no more than its table has rows, and no more than the bits tell that Parquet takes for
    /// one. A column of few values is stored as a dictionary and the numbers of its entries, `log2(values)` bits each.
    pub(super) fn values(&self, name: &str) -> Option<u64> {
        let of_leaf = |(schema, statistics): &(SchemaRef, Arc<Statistics>)| {
            let column = statistics.column_statistics.get(schema.index_of(name).ok()?)?;
            let rows = *statistics.num_rows.get_value()? as u64;
            let encoded = schema.field_with_name(name).ok()?.data_type().primitive_width().is_none();
            let bytes = column.byte_size.get_value().filter(|_| encoded);
            let bits = bytes.map_or(u64::MAX, |&bytes| (bytes as u64).saturating_mul(8).div_ceil(rows.max(1)));
            Some(if bits < 63 { rows.min(1 << bits) } else { rows })
        };
        self.0.iter().filter_map(of_leaf).max()
    }
}

fn value_bytes(data_type: &DataType) -> u64 {
    data_type.primitive_width().map_or(STRING_BYTES, |bytes| bytes as u64)
}

fn leaf_bytes(leaf: &Arc<dyn ExecutionPlan>) -> u64 {
    if let Some(scan) = file_scan(leaf) {
        let files = scan.file_groups.iter().flat_map(|group| group.files());
        let bytes: u64 = files.map(file_bytes).sum();
        // Formats that store columns apart read only those asked for.
        let columns = scan.file_schema().fields().len().max(1) as u64;
        let read = (leaf.schema().fields().len() as u64).clamp(1, columns);
        return if scan.file_source().file_type() == "parquet" { bytes / columns * read } else { bytes };
    }
    leaf.statistics_from_inputs(&[], &StatisticsArgs::new()).map_or(0, |statistics| statistics_bytes(&statistics))
}

/// Bytes of what a scan reads of a file: a range of it, or the rows that are selected.
fn file_bytes(file: &PartitionedFile) -> u64 {
    let Some(rows) = file.extensions.get::<ParquetRowSelection>() else { return file.effective_size() };
    let (read, all) = rows.selection().iter().fold((0, 0), |(read, all), run| {
        let rows = run.row_count as u64;
        (read + if run.skip { 0 } else { rows }, all + rows)
    });
    (u128::from(file.object_meta.size) * u128::from(read)).checked_div(u128::from(all)).map_or(0, |bytes| bytes as u64)
}

fn statistics_bytes(statistics: &Statistics) -> u64 {
    match (statistics.total_byte_size.get_value(), statistics.num_rows.get_value()) {
        (Some(&bytes), _) => bytes as u64,
        (None, Some(&rows)) => rows as u64 * BYTES_PER_ROW,
        (None, None) => 0,
    }
}
