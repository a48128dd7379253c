//! Pass 8: a large sort is one of ranges, each in a partition of its own, instead of a merge of all rows in one task.
//!
//! ```text
//! merge ─ sort (each partition) ─ rows      becomes      sort (each partition) ─ exchange by range ─ rows
//! ```
//!
//! The partitions of what comes out are in order, one after another: that is how a client reads a result and how files of a write are named.
//! Where the ranges begin is taken from what files say of the sort's first column, or of the columns that its first key is made of. If that
//! is wrong, or true of other rows than those that are sorted, ranges are of unequal size and the order is right all the same.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalSortExpr, RangePartitioning, SplitPoint};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, StatisticsArgs, StatisticsContext, replace_children_if_necessary};
use datafusion::scalar::ScalarValue;

use super::size;
use crate::leaf::file_scan;
use crate::options::VolleyOptions;

/// Into how many equal parts the values between the bounds of a file are taken to fall.
const PARTS: u32 = 64;

/// Values that are drawn for an expression; a power of two.
const DRAWN: usize = 256;
/// From one value that is drawn of a column to the next; odd.
const STEP: usize = 37;

/// Values of a column, each for as many bytes of files.
pub(super) type Sample = Vec<(ScalarValue, f64)>;

/// The plan with its last merge replaced, where that merges much and something is known of what it sorts by.
pub(super) fn instead_of_merge(plan: Arc<dyn ExecutionPlan>, options: &VolleyOptions) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is::<ProjectionExec>() {
        let input = instead_of_merge(Arc::clone(plan.children()[0]), options)?;
        return replace_children_if_necessary(plan, vec![input]);
    }
    let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>().filter(|merge| merge.fetch().is_none()) else {
        return Ok(plan);
    };
    Ok(in_ranges(merge.input(), options)?.unwrap_or(plan))
}

/// The sort below a merge, under a projection or not, made one of ranges; `None` where it is to stay.
fn in_ranges(node: &Arc<dyn ExecutionPlan>, options: &VolleyOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if node.is::<ProjectionExec>() {
        let input = in_ranges(node.children()[0], options)?;
        return input.map(|input| replace_children_if_necessary(Arc::clone(node), vec![input])).transpose();
    }
    let Some(sort) = node.downcast_ref::<SortExec>().filter(|sort| sort.preserve_partitioning() && sort.fetch().is_none()) else {
        return Ok(None);
    };
    let (input, first) = (sort.input(), sort.expr().first());
    if input.output_partitioning().partition_count() < 2 || sorted_bytes(input)? < options.range_sort_bytes {
        return Ok(None);
    }
    let points = split_points(sample(input, first)?, first, input.output_partitioning().partition_count());
    let Some(ordering) = LexOrdering::new([first.clone()]).filter(|_| !points.is_empty()) else {
        return Ok(None);
    };
    let ranges = Partitioning::Range(RangePartitioning::try_new(ordering, points)?);
    let spread = Arc::new(RepartitionExec::try_new(Arc::clone(input), ranges)?);
    Ok(Some(Arc::new(SortExec::new(sort.expr().clone(), spread).with_preserve_partitioning(true))))
}

pub(super) fn sorted_bytes(input: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let statistics = StatisticsContext::new().compute(input.as_ref(), &StatisticsArgs::new())?;
    let rows = statistics.num_rows.get_value().map_or(0, |&rows| rows as u64 * size::BYTES_PER_ROW);
    let bytes = statistics.total_byte_size.get_value().map_or(rows, |&bytes| bytes as u64);
    Ok(if bytes > 0 { bytes } else { size::scanned_bytes(input)? })
}

/// Values that the sort's first key may have.
pub(super) fn sample(input: &Arc<dyn ExecutionPlan>, first: &PhysicalSortExpr) -> Result<Sample> {
    let (input, key) = below_projections(input, &first.expr)?;
    let (schema, said) = below_scan(&input, &key)?;
    let Some(column) = said.downcast_ref::<Column>() else {
        return expression_sample(&input, &schema, &said);
    };
    let sample = column_sample(&input, column, &column.data_type(&schema)?)?;
    match key.downcast_ref::<Column>() {
        Some(column) if sample.is_empty() => statistics_sample(&input, column),
        _ => Ok(sample),
    }
}

/// The columns of a scan's files, and the key as it is said of them: scans compute expressions themselves. Elsewhere all stays as it is.
fn below_scan(input: &Arc<dyn ExecutionPlan>, key: &Arc<dyn PhysicalExpr>) -> Result<(SchemaRef, Arc<dyn PhysicalExpr>)> {
    let mut below = Arc::clone(input);
    while file_scan(&below).is_none()
        && let [child] = below.children().as_slice()
        && child.schema() == below.schema()
    {
        below = Arc::clone(child);
    }
    match file_scan(&below).and_then(|scan| Some((scan.file_source().table_schema().table_schema(), scan.file_source().projection()?))) {
        Some((schema, projection)) => {
            let said = said_below(key, projection.as_ref())?;
            Ok((Arc::clone(schema), said))
        }
        None => Ok((input.schema(), Arc::clone(key))),
    }
}

/// An expression over a projection's columns, over those that the projection reads.
fn said_below(key: &Arc<dyn PhysicalExpr>, projection: &[ProjectionExpr]) -> Result<Arc<dyn PhysicalExpr>> {
    let said = Arc::clone(key).transform(|expr| match expr.downcast_ref::<Column>().and_then(|column| projection.get(column.index())) {
        Some(projected) => Ok(Transformed::new(Arc::clone(&projected.expr), true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(expr)),
    })?;
    Ok(said.data)
}

/// The plan below projections, and the key as it is said there.
fn below_projections(
    input: &Arc<dyn ExecutionPlan>,
    key: &Arc<dyn PhysicalExpr>,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<dyn PhysicalExpr>)> {
    let (mut input, mut key) = (Arc::clone(input), Arc::clone(key));
    while let Some(projection) = input.downcast_ref::<ProjectionExec>() {
        key = said_below(&key, projection.expr())?;
        let below = Arc::clone(projection.input());
        input = below;
    }
    Ok((input, key))
}

/// Values that an expression has for values of its columns, which are taken to have nothing to do with one another.
fn expression_sample(input: &Arc<dyn ExecutionPlan>, schema: &SchemaRef, key: &Arc<dyn PhysicalExpr>) -> Result<Sample> {
    let columns = collect_columns(key);
    if columns.is_empty() || is_volatile(key) {
        return Ok(vec![]);
    }
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let mut arrays: Vec<_> = fields.iter().map(|field| new_null_array(field.data_type(), DRAWN)).collect();
    let mut columns: Vec<_> = columns.into_iter().collect();
    columns.sort_by_key(Column::index);
    for (number, column) in columns.iter().enumerate() {
        let values = spread(column_sample(input, column, fields[column.index()].data_type())?);
        if values.is_empty() {
            return Ok(vec![]);
        }
        // An odd step visits all of them, each column in an order of its own.
        let drawn = (0..DRAWN).map(|row| values[row * (2 * number + 1) * STEP % DRAWN].clone());
        arrays[column.index()] = ScalarValue::iter_to_array(drawn)?;
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    // A value that nobody has may be one that the expression fails for.
    let Ok(values) = key.evaluate(&batch).and_then(|values| values.into_array(DRAWN)) else {
        return Ok(vec![]);
    };
    let values = (0..DRAWN).map(|row| Ok((ScalarValue::try_from_array(&values, row)?, 1.0))).collect::<Result<Sample>>()?;
    Ok(values.into_iter().filter(|(value, _)| !value.is_null()).collect())
}

/// [`DRAWN`] values of a sample, as often as they weigh, in their order; none of none.
fn spread(mut sample: Sample) -> Vec<ScalarValue> {
    sample.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let total: f64 = sample.iter().map(|(_, weight)| weight).sum();
    let (mut values, mut seen) = (Vec::with_capacity(DRAWN), 0.0);
    for (value, weight) in sample {
        seen += weight;
        while values.len() < DRAWN && (values.len() as f64 + 0.5) * total <= seen * DRAWN as f64 {
            values.push(value.clone());
        }
    }
    // What rounding leaves out.
    while let Some(last) = values.last().cloned().filter(|_| values.len() < DRAWN) {
        values.push(last);
    }
    values
}

/// Values that a column may have, as the plan's statistics tell.
fn statistics_sample(input: &Arc<dyn ExecutionPlan>, column: &Column) -> Result<Sample> {
    let (mut sample, data_type) = (vec![], column.data_type(&input.schema())?);
    let statistics = StatisticsContext::new().compute(input.as_ref(), &StatisticsArgs::new())?;
    if let Some(known) = statistics.column_statistics.get(column.index()) {
        add_values(&mut sample, known.min_value.get_value(), known.max_value.get_value(), 1.0);
    }
    sample.retain(|(value, _)| value.data_type() == data_type);
    Ok(sample)
}

/// Values that a column may have, as the files below tell.
fn column_sample(input: &Arc<dyn ExecutionPlan>, column: &Column, data_type: &DataType) -> Result<Sample> {
    let mut sample = vec![];
    input.apply(|node| {
        if let Some(scan) = file_scan(node)
            && let Ok(place) = scan.file_schema().index_of(column.name())
            // Another column of this name may be meant, whose values are none of this one.
            && scan.file_schema().field(place).data_type() == data_type
        {
            for file in scan.file_groups.iter().flat_map(|group| group.files()) {
                let statistics = file.statistics.as_ref().and_then(|statistics| statistics.column_statistics.get(place));
                if let Some(known) = statistics {
                    add_values(&mut sample, known.min_value.get_value(), known.max_value.get_value(), file.effective_size() as f64);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    sample.retain(|(value, _)| value.data_type() == *data_type);
    Ok(sample)
}

/// Values between two bounds: evenly, where the type has a distance, and else the bounds alone.
fn add_values(sample: &mut Sample, least: Option<&ScalarValue>, greatest: Option<&ScalarValue>, weight: f64) {
    let (Some(least), Some(greatest)) = (least, greatest) else {
        return;
    };
    if least.is_null() || greatest.is_null() {
        return;
    }
    let share = weight / f64::from(PARTS);
    let between = (0..PARTS).map(|part| between(least, greatest, (f64::from(part) + 0.5) / f64::from(PARTS)));
    match between.collect::<Option<Vec<_>>>() {
        Some(values) => sample.extend(values.into_iter().map(|value| (value, share))),
        None => sample.extend([(least.clone(), weight / 2.0), (greatest.clone(), weight / 2.0)]),
    }
}

/// The value at a fraction of the way from one to another; `None` for types without a distance.
fn between(least: &ScalarValue, greatest: &ScalarValue, fraction: f64) -> Option<ScalarValue> {
    macro_rules! whole {
        ($variant:ident, $least:expr, $greatest:expr $(, $more:expr)*) => {{
            let distance = ($greatest as f64 - $least as f64) * fraction;
            // A sum beyond the type's values is cut to them, and what is cut lies within the bounds up to the last digits of a float.
            Some(ScalarValue::$variant(Some(($least as f64 + distance) as _) $(, $more)*))
        }};
    }
    match (least, greatest) {
        (ScalarValue::Int8(Some(a)), ScalarValue::Int8(Some(b))) => whole!(Int8, *a, *b),
        (ScalarValue::Int16(Some(a)), ScalarValue::Int16(Some(b))) => whole!(Int16, *a, *b),
        (ScalarValue::Int32(Some(a)), ScalarValue::Int32(Some(b))) => whole!(Int32, *a, *b),
        (ScalarValue::Int64(Some(a)), ScalarValue::Int64(Some(b))) => whole!(Int64, *a, *b),
        (ScalarValue::UInt8(Some(a)), ScalarValue::UInt8(Some(b))) => whole!(UInt8, *a, *b),
        (ScalarValue::UInt16(Some(a)), ScalarValue::UInt16(Some(b))) => whole!(UInt16, *a, *b),
        (ScalarValue::UInt32(Some(a)), ScalarValue::UInt32(Some(b))) => whole!(UInt32, *a, *b),
        (ScalarValue::UInt64(Some(a)), ScalarValue::UInt64(Some(b))) => whole!(UInt64, *a, *b),
        (ScalarValue::Float32(Some(a)), ScalarValue::Float32(Some(b))) if (b - a).is_finite() => whole!(Float32, *a, *b),
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) if (b - a).is_finite() => whole!(Float64, *a, *b),
        (ScalarValue::Date32(Some(a)), ScalarValue::Date32(Some(b))) => whole!(Date32, *a, *b),
        (ScalarValue::Date64(Some(a)), ScalarValue::Date64(Some(b))) => whole!(Date64, *a, *b),
        (ScalarValue::Decimal128(Some(a), precision, scale), ScalarValue::Decimal128(Some(b), ..)) => {
            whole!(Decimal128, *a, *b, *precision, *scale)
        }
        (ScalarValue::TimestampSecond(Some(a), zone), ScalarValue::TimestampSecond(Some(b), _)) => {
            whole!(TimestampSecond, *a, *b, zone.clone())
        }
        (ScalarValue::TimestampMillisecond(Some(a), zone), ScalarValue::TimestampMillisecond(Some(b), _)) => {
            whole!(TimestampMillisecond, *a, *b, zone.clone())
        }
        (ScalarValue::TimestampMicrosecond(Some(a), zone), ScalarValue::TimestampMicrosecond(Some(b), _)) => {
            whole!(TimestampMicrosecond, *a, *b, zone.clone())
        }
        (ScalarValue::TimestampNanosecond(Some(a), zone), ScalarValue::TimestampNanosecond(Some(b), _)) => {
            whole!(TimestampNanosecond, *a, *b, zone.clone())
        }
        _ => None,
    }
}

/// Where the ranges begin that have as much of a sample each, in the order of the sort; fewer, where values repeat.
pub(super) fn split_points(mut sample: Sample, first: &PhysicalSortExpr, partitions: usize) -> Vec<SplitPoint> {
    let order = |a: &ScalarValue, b: &ScalarValue| {
        let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
        if first.options.descending { order.reverse() } else { order }
    };
    sample.sort_by(|(a, _), (b, _)| order(a, b));
    let total: f64 = sample.iter().map(|(_, weight)| weight).sum();
    let Some((smallest, _)) = sample.first().cloned() else {
        return vec![];
    };
    let (mut points, mut last, mut seen, mut wanted) = (vec![], smallest, 0.0, 1);
    for (value, weight) in sample {
        if seen >= total * f64::from(wanted) / partitions as f64 && order(&last, &value) == Ordering::Less {
            points.push(SplitPoint::new(vec![value.clone()]));
            last = value;
            while seen >= total * f64::from(wanted) / partitions as f64 {
                wanted += 1;
            }
        }
        seen += weight;
    }
    points
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::compute::SortOptions;

    use super::*;

    fn points(values: &[(i64, i64, f64)], descending: bool, partitions: usize) -> Vec<i64> {
        let mut sample = vec![];
        for (least, greatest, weight) in values {
            add_values(&mut sample, Some(&ScalarValue::from(*least)), Some(&ScalarValue::from(*greatest)), *weight);
        }
        let first = PhysicalSortExpr::new(Arc::new(Column::new("k", 0)), SortOptions { descending, nulls_first: false });
        let points = split_points(sample, &first, partitions).into_iter();
        points.map(|point| if let ScalarValue::Int64(Some(value)) = point.values()[0] { value } else { i64::MIN }).collect()
    }

    #[test]
    fn ranges_have_the_same_share() {
        assert_eq!(points(&[(0, 6400, 1.0)], false, 4), [1650, 3250, 4850]);
        assert_eq!(points(&[(0, 6400, 1.0)], true, 4), [4750, 3150, 1550]);
        // Two files, one of which is three times as large.
        assert_eq!(points(&[(0, 64, 3.0), (1000, 1064, 1.0)], false, 4), [22, 43, 1000]);
    }

    #[test]
    fn equal_values_share_a_range() {
        assert!(points(&[(5, 5, 1.0)], false, 4).is_empty());
        assert!(points(&[], false, 4).is_empty());
        assert_eq!(points(&[(1, 2, 1.0)], false, 8).len(), 0);
    }

    #[test]
    fn texts_are_split_at_bounds_of_files() {
        let mut sample = vec![];
        for (least, greatest) in [("a", "f"), ("g", "m"), ("n", "z")] {
            add_values(&mut sample, Some(&ScalarValue::from(least)), Some(&ScalarValue::from(greatest)), 1.0);
        }
        let first = PhysicalSortExpr::new(Arc::new(Column::new("k", 0)), SortOptions::default());
        let points = split_points(sample, &first, 3);
        assert_eq!(points, [SplitPoint::new(vec![ScalarValue::from("g")]), SplitPoint::new(vec![ScalarValue::from("n")])]);
    }
}
