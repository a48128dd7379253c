//! Summaries of all tasks as one predicate.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, lit};

use super::BITS_PER_KEY;
use super::bloom::Bloom;
use super::expr::MayContainExpr;

/// Whether values of a type can be summarised: those of floating-point types compare and hash differently.
pub(crate) fn can_tell(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_decimal()
        || data_type.is_string()
        || matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _))
}

/// What is known of a build side's keys.
#[derive(Debug)]
pub(super) struct Summary {
    /// The least and the greatest value, by key.
    bounds: Vec<Option<(ScalarValue, ScalarValue)>>,
    rows: u64,
    bloom: Blooms,
}

#[derive(Debug)]
enum Blooms {
    NoneYet,
    All(Bloom),
    /// A task had none.
    Incomplete,
}

impl Summary {
    /// Of no row with so many keys.
    pub(super) fn of_none(keys: usize) -> Self {
        Self { bounds: vec![None; keys], rows: 0, bloom: Blooms::NoneYet }
    }

    /// Adds the summaries of some tasks.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = self.bounds.len();
        if batch.num_columns() != 2 * keys + 2 {
            return Err(DataFusionError::Internal(format!("a summary of {keys} keys has {} columns", batch.num_columns())));
        }
        let rows = batch.column(2 * keys).as_primitive::<UInt64Type>();
        let blooms = batch.column(2 * keys + 1).as_binary::<i32>();
        for row in 0..batch.num_rows() {
            if rows.value(row) == 0 {
                continue;
            }
            self.rows += rows.value(row);
            for key in 0..keys {
                let least = ScalarValue::try_from_array(batch.column(2 * key), row)?;
                let greatest = ScalarValue::try_from_array(batch.column(2 * key + 1), row)?;
                widen(&mut self.bounds[key], least, greatest);
            }
            self.add_bloom(blooms.is_valid(row).then(|| blooms.value(row)));
        }
        Ok(())
    }

    fn add_bloom(&mut self, bytes: Option<&[u8]>) {
        let bloom = bytes.and_then(Bloom::from_bytes);
        self.bloom = match (std::mem::replace(&mut self.bloom, Blooms::Incomplete), bloom) {
            (Blooms::NoneYet, Some(bloom)) => Blooms::All(bloom),
            (Blooms::All(all), Some(bloom)) => Blooms::All(all.merged(bloom)),
            _ => Blooms::Incomplete,
        };
    }

    /// What is true of every row whose keys, by these expressions, have a match; it may be true of others.
    pub(super) fn predicate(self, keys: &[Arc<dyn PhysicalExpr>]) -> Arc<dyn PhysicalExpr> {
        if self.rows == 0 {
            return lit(false);
        }
        let binary = |left: &Arc<dyn PhysicalExpr>, operator, right| {
            Arc::new(BinaryExpr::new(Arc::clone(left), operator, right)) as Arc<dyn PhysicalExpr>
        };
        let mut parts = vec![];
        for (key, bounds) in keys.iter().zip(self.bounds) {
            if let Some((least, greatest)) = bounds {
                parts.push(binary(key, Operator::GtEq, lit(least)));
                parts.push(binary(key, Operator::LtEq, lit(greatest)));
            }
        }
        if let Blooms::All(bloom) = self.bloom
            && !bloom.is_full()
        {
            let bloom = bloom.fitted(self.rows, BITS_PER_KEY);
            parts.push(Arc::new(MayContainExpr::new(keys.to_vec(), Arc::new(bloom))));
        }
        parts.into_iter().reduce(|all, part| binary(&all, Operator::And, part)).unwrap_or_else(|| lit(true))
    }
}

fn widen(bounds: &mut Option<(ScalarValue, ScalarValue)>, least: ScalarValue, greatest: ScalarValue) {
    if least.is_null() || greatest.is_null() {
        return;
    }
    match bounds {
        None => *bounds = Some((least, greatest)),
        Some((lowest, highest)) => {
            if least < *lowest {
                *lowest = least;
            }
            if greatest > *highest {
                *highest = greatest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};
    use datafusion::physical_expr::expressions::Column;

    use super::*;
    use crate::build_keys::{BuildKeys, Collector};

    fn rows(numbers: &[Option<i64>], texts: &[Option<&str>]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] =
            [("n", Arc::new(Int64Array::from(numbers.to_vec()))), ("s", Arc::new(StringArray::from(texts.to_vec())))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn keys() -> Vec<Arc<dyn PhysicalExpr>> {
        vec![Arc::new(Column::new("n", 0)), Arc::new(Column::new("s", 1))]
    }

    /// The summary of a task, each of whose partitions has one batch.
    fn summary(partitions: &[RecordBatch], pool: Arc<dyn MemoryPool>) -> RecordBatch {
        let spec = BuildKeys { keys: keys(), bloom_bytes: 1 << 14, partition: 4, tasks: 3 };
        let collector = Collector::try_new(spec, &partitions[0].schema(), partitions.len(), &pool).unwrap();
        let collector = Arc::new(collector);
        let mut summaries = partitions.iter().filter_map(|batch| {
            let mut partition = Arc::clone(&collector).partition().unwrap();
            partition.add(batch).unwrap();
            partition.finish().unwrap()
        });
        let summary = summaries.next().unwrap();
        assert!(summaries.next().is_none(), "one summary for each task");
        summary
    }

    fn unbounded() -> Arc<dyn MemoryPool> {
        Arc::new(UnboundedMemoryPool::default())
    }

    fn kept(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Vec<bool> {
        let kept = predicate.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap();
        kept.as_boolean().iter().map(|kept| kept == Some(true)).collect()
    }

    /// Two tasks, the first of two partitions.
    fn told(pool: &Arc<dyn MemoryPool>) -> Arc<dyn PhysicalExpr> {
        let first = [rows(&[Some(3), None, Some(9)], &[Some("c"), Some("x"), None]), rows(&[Some(5)], &[Some("e")])];
        let second = [rows(&[Some(40), Some(-2)], &[Some("d"), Some("d")])];
        let mut all = Summary::of_none(2);
        for task in [&first[..], &second] {
            all.add(&summary(task, Arc::clone(pool))).unwrap();
        }
        all.predicate(&keys())
    }

    #[test]
    fn rows_with_a_match_pass_and_most_others_do_not() {
        let predicate = told(&unbounded());
        let matches = rows(&[Some(3), Some(5), Some(40), Some(-2)], &[Some("c"), Some("e"), Some("d"), Some("d")]);
        assert_eq!(kept(&predicate, &matches), [true; 4]);
        // Below, above, of an incomplete row, of two rows, with no key.
        let others = rows(&[Some(-3), Some(41), Some(9), Some(3), None], &[Some("d"), Some("d"), Some("d"), Some("e"), Some("d")]);
        assert_eq!(kept(&predicate, &others), [false; 5]);
    }

    #[test]
    fn without_memory_for_a_filter_bounds_are_told() {
        let predicate = told(&(Arc::new(GreedyMemoryPool::new(1 << 10)) as _));
        assert_eq!(predicate.to_string(), "n@0 >= -2 AND n@0 <= 40 AND s@1 >= c AND s@1 <= x");
    }

    #[test]
    fn of_more_keys_than_a_filter_has_room_for_bounds_are_told() {
        let numbers: Vec<_> = (0..1 << 16).map(Some).collect();
        let mut all = Summary::of_none(2);
        all.add(&summary(&[rows(&numbers, &vec![Some("a"); 1 << 16])], unbounded())).unwrap();
        assert_eq!(all.predicate(&keys()).to_string(), "n@0 >= 0 AND n@0 <= 65535 AND s@1 >= a AND s@1 <= a");
    }

    #[test]
    fn where_there_is_no_row_nothing_matches() {
        let mut all = Summary::of_none(2);
        all.add(&summary(&[rows(&[], &[])], unbounded())).unwrap();
        all.add(&summary(&[rows(&[None], &[Some("a")])], unbounded())).unwrap();
        assert_eq!(all.predicate(&keys()).to_string(), "false");
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        let error = Summary::of_none(1).add(&rows(&[Some(1)], &[Some("a")])).unwrap_err().to_string();
        assert!(error.contains("a summary of 1 keys has 2 columns"), "{error}");
    }
}
