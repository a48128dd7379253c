//! The first and the last rows of each range, of rows that come in any order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;

use super::{Mode, Order, Reach, ranges_of};

/// Bytes that a row takes besides its own, about.
const ROW_OVERHEAD: usize = 64;

/// What is kept of the rows that came.
pub(super) struct KeptRows {
    schema: SchemaRef,
    converter: RowConverter,
    reach: Reach,
    ranges: HashMap<i32, Ends>,
    memory: MemoryReservation,
}

/// The first and the last rows of a range.
#[derive(Default)]
struct Ends {
    /// How many came.
    rows: usize,
    heads: BinaryHeap<OwnedRow>,
    tails: BinaryHeap<Reverse<OwnedRow>>,
}

impl KeptRows {
    /// `schema` is the range and the columns that `order` tells the order of.
    pub(super) fn try_new(schema: SchemaRef, order: &Order, reach: Reach, memory: MemoryReservation) -> Result<Self> {
        let columns = schema.fields().iter().skip(1).zip(order);
        let fields = columns.map(|(field, options)| SortField::new_with_options(field.data_type().clone(), *options)).collect();
        Ok(Self { converter: RowConverter::new(fields)?, schema, reach, ranges: HashMap::new(), memory })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().get(1..).unwrap_or_default();
        let rows = self.converter.convert_columns(columns)?;
        let (heads, tails) = (self.reach.heads(), self.reach.tails());
        let mut grown = 0isize;
        for (row, range) in rows.iter().zip(ranges_of(batch)?) {
            let ends = self.ranges.entry(*range).or_default();
            ends.rows += 1;
            if heads > 0 && (ends.heads.len() < heads || ends.heads.peek().is_some_and(|greatest| row < greatest.row())) {
                grown += (row.data().len() + ROW_OVERHEAD) as isize;
                ends.heads.push(row.owned());
                if ends.heads.len() > heads {
                    grown -= ends.heads.pop().map_or(0, |row| row.as_ref().len() + ROW_OVERHEAD) as isize;
                }
            }
            if tails > 0 && (ends.tails.len() < tails || ends.tails.peek().is_some_and(|Reverse(least)| row > least.row())) {
                grown += (row.data().len() + ROW_OVERHEAD) as isize;
                ends.tails.push(Reverse(row.owned()));
                if ends.tails.len() > tails {
                    grown -= ends.tails.pop().map_or(0, |Reverse(row)| row.as_ref().len() + ROW_OVERHEAD) as isize;
                }
            }
        }
        if grown >= 0 {
            self.memory.try_grow(grown.unsigned_abs())?;
        } else {
            self.memory.shrink(grown.unsigned_abs());
        }
        Ok(())
    }

    /// The rows to give, `batch_rows` at a time.
    pub(super) fn finish(self, mode: &Mode, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let ranges: BTreeMap<i32, Vec<OwnedRow>> = self.ranges.into_iter().map(|(range, ends)| (range, ends.in_order())).collect();
        let rows: Vec<(i32, &OwnedRow)> = match mode {
            Mode::Partial => ranges.iter().flat_map(|(range, rows)| rows.iter().map(|row| (*range, row))).collect(),
            Mode::Final { ranges: number } => {
                let targets = -1..*number as i32 - 1;
                targets.flat_map(|target| for_range(&ranges, target, self.reach).map(move |row| (target, row))).collect()
            }
        };
        rows.chunks(batch_rows.max(1)).map(|rows| batch(&self.schema, &self.converter, rows)).collect()
    }
}

impl Ends {
    /// All that were kept, each once.
    fn in_order(self) -> Vec<OwnedRow> {
        let mut rows = self.heads.into_sorted_vec();
        let tails = self.tails.into_sorted_vec().into_iter().rev().map(|Reverse(row)| row);
        // Of fewer rows than are kept of both ends, the ends share some.
        let shared = (rows.len() + tails.len()).saturating_sub(self.rows);
        rows.extend(tails.skip(shared));
        rows
    }
}

/// The rows of other ranges for one.
fn for_range(ranges: &BTreeMap<i32, Vec<OwnedRow>>, target: i32, reach: Reach) -> impl Iterator<Item = &OwnedRow> {
    let before: Vec<_> = ranges.range(..target).flat_map(|(_, rows)| rows).collect();
    let after: Vec<_> = ranges.range(target + 1..).flat_map(|(_, rows)| rows).collect();
    let (rows_before, rows_after) = (before.len(), after.len());
    let is_wanted = |place: usize, rows: usize, first: u64, last: u64| place < first as usize || place + last as usize >= rows;
    let before = before.into_iter().enumerate().filter(move |(place, _)| is_wanted(*place, rows_before, reach.first, reach.before));
    let after = after.into_iter().enumerate().filter(move |(place, _)| is_wanted(*place, rows_after, reach.after, reach.last));
    before.chain(after).map(|(_, row)| row)
}

fn batch(schema: &SchemaRef, converter: &RowConverter, rows: &[(i32, &OwnedRow)]) -> Result<RecordBatch> {
    let range: ArrayRef = Arc::new(rows.iter().map(|(range, _)| *range).collect::<Int32Array>());
    let columns = converter.convert_rows(rows.iter().map(|(_, row)| row.row()))?;
    // Rows forget that values came from a dictionary.
    let columns = std::iter::once(range).chain(columns).zip(schema.fields());
    let columns =
        columns.map(|(column, field)| if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?).map_err(DataFusionError::from)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::compute::SortOptions;
    use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;

    fn kept(reach: Reach, memory: &Arc<dyn MemoryPool>) -> KeptRows {
        let schema = Arc::new(Schema::new(vec![Field::new("g", DataType::Int32, false), Field::new("x", DataType::Int64, true)]));
        let memory = MemoryConsumer::new("test").register(memory);
        KeptRows::try_new(schema, &vec![SortOptions::default()], reach, memory).unwrap()
    }

    fn rows(kept: &KeptRows, rows: &[(i32, i64)]) -> RecordBatch {
        let (ranges, values): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        RecordBatch::try_new(Arc::clone(&kept.schema), vec![Arc::new(Int32Array::from(ranges)), Arc::new(Int64Array::from(values))])
            .unwrap()
    }

    /// What comes out of two partitions of ranges of ten values each, 0 to 49, range 2 of which has but two.
    fn given(reach: Reach, target: i32) -> Vec<i64> {
        let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let mut last = kept(reach, &memory);
        for partition in 0..2 {
            let mut first = kept(reach, &memory);
            let values = (0..50).rev().filter(|value| value % 2 == partition && (value / 10 != 2 || value % 10 < 2));
            let values: Vec<_> = values.map(|value| ((value / 10) as i32, value)).collect();
            for part in values.chunks(7) {
                let batch = rows(&first, part);
                first.add(&batch).unwrap();
            }
            for batch in first.finish(&Mode::Partial, 3).unwrap() {
                last.add(&batch).unwrap();
            }
        }
        let batches = last.finish(&Mode::Final { ranges: 7 }, 4).unwrap();
        assert_eq!(memory.reserved(), 0, "what was kept is given back");
        let mut given = vec![];
        for batch in batches {
            let (ranges, values) = (batch.column(0).as_primitive::<Int32Type>(), batch.column(1).as_primitive::<Int64Type>());
            given.extend((0..batch.num_rows()).filter(|row| ranges.value(*row) == target).map(|row| values.value(row)));
        }
        given
    }

    #[test]
    fn each_range_gets_the_rows_that_stand_near_it() {
        let reach = Reach { before: 3, after: 1, ..Reach::default() };
        assert_eq!(given(reach, 0), [10]);
        assert_eq!(given(reach, 2), [17, 18, 19, 30]);
        // More than the range before has: they come from the one before that.
        assert_eq!(given(reach, 3), [19, 20, 21, 40]);
        // Ranges without rows, before and after all.
        assert_eq!(given(reach, -1), [0]);
        assert_eq!(given(reach, 5), [47, 48, 49]);
        assert!(given(reach, 6).is_empty());
    }

    #[test]
    fn the_ends_of_all_rows_reach_every_range() {
        let reach = Reach { first: 2, before: 1, after: 0, last: 1 };
        assert_eq!(given(reach, 0), [49]);
        assert_eq!(given(reach, 1), [0, 1, 9, 49]);
        assert_eq!(given(reach, 3), [0, 1, 21, 49]);
        assert_eq!(given(reach, 4), [0, 1, 39]);
        // First and last rows of a range of two are the same ones.
        assert_eq!(given(Reach { first: 12, before: 12, after: 0, last: 0 }, 3), (0..22).collect::<Vec<_>>());
    }

    #[test]
    fn too_much_for_the_memory_is_an_error() {
        let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let mut kept = kept(Reach { before: 10, ..Reach::default() }, &memory);
        let batch = rows(&kept, &[(0, 1), (0, 2), (0, 3)]);
        assert!(matches!(kept.add(&batch), Err(DataFusionError::ResourcesExhausted(_))));
    }
}
