//! Rows as the comparison sees them, and the matching of two multisets of rows.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// Relative difference that two floats may have.
pub(crate) const RELATIVE: f64 = 1e-9;
/// Absolute difference that two floats may have: what is left where a sum cancels out.
const ABSOLUTE: f64 = 1e-12;
/// Relative difference that two 32-bit floats may have: some units of their last digit.
const RELATIVE_32: f64 = 4.0 * f32::EPSILON as f64;
/// Above so many rows with equal exact columns, floats are matched in sorted order only.
const LARGEST_GREEDY_GROUP: usize = 4096;

/// A number that may differ a little from the one it is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approximate {
    /// The number; `None` for NULL.
    pub(crate) value: Option<f64>,
    /// How far the other may be away.
    pub(crate) slack: f64,
}

impl Approximate {
    fn float(value: Option<f64>, relative: f64) -> Self {
        Self { value, slack: value.map_or(0.0, |value| value.abs() * relative + ABSOLUTE) }
    }

    fn is_near(&self, other: &Self) -> bool {
        match (self.value, other.value) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                // A decimal of many digits may be one double or the next.
                let binary = 2.0 * f64::EPSILON * a.abs().max(b.abs());
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= self.slack.max(other.slack) + binary
            }
            _ => false,
        }
    }

    fn order(&self, other: &Self) -> std::cmp::Ordering {
        match (self.value, other.value) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

/// One row: what must be equal to the byte, and what may differ a little.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) exact: Box<[u8]>,
    pub(crate) approximate: Box<[Approximate]>,
}

impl Row {
    pub(crate) fn is_near(&self, other: &Self) -> bool {
        self.exact == other.exact && near(&self.approximate, &other.approximate)
    }
}

fn near(left: &[Approximate], right: &[Approximate]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.is_near(right))
}

/// The rows of batches, restricted to `columns` of them.
///
/// Floats become approximate, all else (floats inside lists and structs too) is compared by value.
pub(crate) fn rows_of(batches: &[RecordBatch], columns: &[usize]) -> Result<Vec<Row>, ArrowError> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let (floats, exact): (Vec<_>, Vec<_>) =
            columns.iter().map(|column| Arc::clone(batch.column(*column))).partition(|array| array.data_type().is_floating());
        let floats = floats.iter().map(approximate_column).collect::<Result<Vec<_>, _>>()?;
        let exact = exact_rows(&exact, batch.num_rows())?;
        rows.extend(
            exact.into_iter().enumerate().map(|(row, exact)| Row { exact, approximate: floats.iter().map(|column| column[row]).collect() }),
        );
    }
    Ok(rows)
}

fn approximate_column(array: &ArrayRef) -> Result<Vec<Approximate>, ArrowError> {
    let relative = if array.data_type() == &DataType::Float64 { RELATIVE } else { RELATIVE_32 };
    let doubles = cast(array, &DataType::Float64)?;
    Ok(doubles.as_primitive::<Float64Type>().iter().map(|value| Approximate::float(value, relative)).collect())
}

/// The byte form of each row: equal bytes if and only if the values are equal.
fn exact_rows(arrays: &[ArrayRef], count: usize) -> Result<Vec<Box<[u8]>>, ArrowError> {
    let fields: Vec<_> = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    if fields.is_empty() {
        return Ok(vec![Box::default(); count]);
    }
    if !RowConverter::supports_fields(&fields) {
        return printed_rows(arrays, count);
    }
    let rows = RowConverter::new(fields)?.convert_columns(arrays)?;
    Ok(rows.iter().map(|row| row.as_ref().into()).collect())
}

/// For types that have no byte form (maps, unions): the text of each row.
fn printed_rows(arrays: &[ArrayRef], count: usize) -> Result<Vec<Box<[u8]>>, ArrowError> {
    let options = FormatOptions::default().with_null("\u{0}");
    let columns = arrays.iter().map(|array| ArrayFormatter::try_new(array, &options)).collect::<Result<Vec<_>, _>>()?;
    (0..count)
        .map(|row| {
            let cells = columns.iter().map(|column| column.value(row).try_to_string()).collect::<Result<Vec<_>, _>>()?;
            Ok(cells.join("\u{1f}").into_bytes().into_boxed_slice())
        })
        .collect()
}

/// Rows that found no partner on the other side, by their index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unmatched {
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
}

/// Pairs the rows of two multisets; what is left over has no partner.
pub(crate) fn unmatched(left: &[Row], right: &[Row]) -> Unmatched {
    let mut groups: HashMap<&[u8], (Vec<usize>, Vec<usize>)> = HashMap::with_capacity(left.len());
    for (index, row) in left.iter().enumerate() {
        groups.entry(&row.exact).or_default().0.push(index);
    }
    for (index, row) in right.iter().enumerate() {
        groups.entry(&row.exact).or_default().1.push(index);
    }
    let mut result = Unmatched::default();
    for (mut in_left, mut in_right) in groups.into_values() {
        sort_by_floats(left, &mut in_left);
        sort_by_floats(right, &mut in_right);
        let pairwise = in_left.len() == in_right.len()
            && in_left.iter().zip(&in_right).all(|(l, r)| near(&left[*l].approximate, &right[*r].approximate));
        if !pairwise {
            match_greedily((left, in_left), (right, in_right), &mut result);
        }
    }
    result.left.sort_unstable();
    result.right.sort_unstable();
    result
}

fn sort_by_floats(rows: &[Row], indexes: &mut [usize]) {
    indexes.sort_by(|a, b| {
        let pairs = rows[*a].approximate.iter().zip(rows[*b].approximate.iter());
        pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
}

/// Sorted order fails where near values of one column swap the order of another: try every partner.
fn match_greedily((left, in_left): (&[Row], Vec<usize>), (right, mut in_right): (&[Row], Vec<usize>), result: &mut Unmatched) {
    if in_left.len().min(in_right.len()) > LARGEST_GREEDY_GROUP {
        result.left.extend(in_left);
        result.right.extend(in_right);
        return;
    }
    for index in in_left {
        let partner = in_right.iter().position(|other| near(&left[index].approximate, &right[*other].approximate));
        match partner {
            Some(position) => {
                in_right.remove(position);
            }
            None => result.left.push(index),
        }
    }
    result.right.extend(in_right);
}
