//! Which range a row lies in.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::Result;
use datafusion::physical_expr::{PhysicalExpr, RangePartitioning};
use datafusion::scalar::ScalarValue;

/// Finds ranges by rows in the form whose bytes sort as the rows do: a comparison is one of bytes, whatever the types and the order.
pub(super) struct RangeRouter {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: Option<RowConverter>,
    by: RangePartitioning,
    /// The first row of each range but the first.
    starts: Vec<OwnedRow>,
}

impl RangeRouter {
    pub(super) fn new(by: RangePartitioning) -> Self {
        let keys = by.ordering().iter().map(|key| Arc::clone(&key.expr)).collect();
        Self { keys, converter: None, by, starts: vec![] }
    }

    /// The range of each row of a batch.
    pub(super) fn route(&mut self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let keys = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect::<Result<Vec<_>>>()?;
        let converter = match &mut self.converter {
            Some(converter) => converter,
            None => {
                let (converter, starts) = prepare(&self.by, &keys)?;
                self.starts = starts;
                self.converter.insert(converter)
            }
        };
        let rows = converter.convert_columns(&keys)?;
        Ok(rows.iter().map(|row| self.starts.partition_point(|start| start.row() <= row)).collect())
    }
}

fn prepare(by: &RangePartitioning, keys: &[ArrayRef]) -> Result<(RowConverter, Vec<OwnedRow>)> {
    let options = by.ordering().iter().map(|key| key.options);
    let fields = keys.iter().zip(options).map(|(key, options)| SortField::new_with_options(key.data_type().clone(), options));
    let converter = RowConverter::new(fields.collect())?;
    if by.split_points().is_empty() {
        return Ok((converter, vec![]));
    }
    let column = |(place, key): (usize, &ArrayRef)| {
        let values = by.split_points().iter().map(|point| point.values()[place].cast_to(key.data_type())).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values)
    };
    let columns = keys.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
    let starts = converter.convert_columns(&columns)?;
    let starts = starts.iter().map(|row| row.owned()).collect();
    Ok((converter, starts))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::compute::SortOptions;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, SplitPoint};

    use super::*;

    fn routed(column: ArrayRef, options: SortOptions, points: Vec<ScalarValue>) -> Vec<usize> {
        let batch = RecordBatch::try_from_iter([("k", column)]).unwrap();
        let ordering = LexOrdering::new([PhysicalSortExpr::new(Arc::new(Column::new("k", 0)), options)]).unwrap();
        let points = points.into_iter().map(|point| SplitPoint::new(vec![point])).collect();
        RangeRouter::new(RangePartitioning::try_new(ordering, points).unwrap()).route(&batch).unwrap()
    }

    #[test]
    fn rows_lie_between_the_points() {
        let numbers = Arc::new(Int64Array::from(vec![Some(-5), Some(9), Some(10), Some(25), None]));
        let points = |values: [i64; 2]| values.map(|value| ScalarValue::Int64(Some(value))).to_vec();
        let options = |descending, nulls_first| SortOptions { descending, nulls_first };
        assert_eq!(routed(Arc::clone(&numbers) as _, options(false, true), points([10, 20])), [0, 0, 1, 2, 0]);
        assert_eq!(routed(Arc::clone(&numbers) as _, options(false, false), points([10, 20])), [0, 0, 1, 2, 2]);
        assert_eq!(routed(numbers, options(true, false), points([20, 10])), [2, 2, 2, 0, 2]);
        let texts = Arc::new(StringArray::from(vec!["a", "m", "z"]));
        assert_eq!(routed(texts, options(false, true), vec![ScalarValue::from("m")]), [0, 1, 1]);
    }
}
