//! Some of the keys of an exchange partition.

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::{DataFusionError, Result};

/// Which of the rows of a partition are read, where those of all its keys are too many at a time: each wave has all rows of its keys, as the
/// partition has, and all waves together have all keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// The columns by whose hash the producer spreads its rows.
    pub keys: Vec<usize>,
    /// Below `of`.
    pub number: u32,
    /// Number of waves, at least 1.
    pub of: u32,
}

impl Wave {
    /// Those of the rows that are in the wave.
    pub(super) fn rows_of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let key = |key: &usize| {
            let column = batch.columns().get(*key);
            column.ok_or_else(|| DataFusionError::Internal(format!("a wave is of column {key} of {}", batch.num_columns())))
        };
        let keys = self.keys.iter().map(|column| key(column).cloned()).collect::<Result<Vec<_>>>()?;
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(&keys, &random_state(), &mut hashes)?;
        let of = u64::from(self.of.max(1));
        let is_in = BooleanBuffer::collect_bool(hashes.len(), |row| hashes[row] % of == u64::from(self.number));
        Ok(filter_record_batch(batch, &BooleanArray::new(is_in, None))?)
    }
}

/// Another one than that by which rows are routed, whose remainders are equal within a partition.
fn random_state() -> RandomState {
    RandomState::with_seed(0x7761_7665)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn rows() -> RecordBatch {
        let numbers: Vec<_> = (0..1000).map(|number| (number % 10 != 0).then_some(number % 300)).collect();
        let texts: Vec<_> = (0..1000).map(|number| format!("{}", number % 7)).collect();
        let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(Int64Array::from(numbers))), ("s", Arc::new(StringArray::from(texts)))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn numbers(batch: &RecordBatch) -> Vec<Option<i64>> {
        batch.column(0).as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn all_waves_have_all_rows_and_each_has_all_of_its_keys() {
        let batch = rows();
        let mut all = vec![];
        for number in 0..3 {
            let wave = numbers(&Wave { keys: vec![0], number, of: 3 }.rows_of(&batch).unwrap());
            assert!((100..600).contains(&wave.len()), "about a third: {}", wave.len());
            assert!(wave.iter().all(|key| !all.contains(key)), "a key is in one wave");
            all.extend(wave);
        }
        let mut expected = numbers(&batch);
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_column_that_there_is_not_is_told() {
        let error = Wave { keys: vec![2], number: 0, of: 2 }.rows_of(&rows()).unwrap_err().to_string();
        assert!(error.contains("a wave is of column 2 of 2"), "{error}");
    }
}
