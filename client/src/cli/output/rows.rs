//! The rows of a table that is shown when it is complete: all of them, or the first and the last ones.

use std::collections::VecDeque;

use datafusion::arrow::array::RecordBatch;

/// Rows of a result, as many as are shown.
#[derive(Debug)]
pub(super) struct Rows {
    /// Most rows that are shown; 0 for all.
    limit: usize,
    head: Vec<RecordBatch>,
    head_rows: usize,
    tail: VecDeque<RecordBatch>,
    tail_rows: usize,
    total: usize,
}

impl Rows {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, head: vec![], head_rows: 0, tail: VecDeque::new(), tail_rows: 0, total: 0 }
    }

    /// Adds rows; drops those that won't be shown.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.total += batch.num_rows();
        if self.limit == 0 {
            self.head_rows += batch.num_rows();
            return self.head.push(batch.clone());
        }
        let to_head = batch.num_rows().min(self.limit - self.head_rows);
        if to_head > 0 || self.head.is_empty() {
            self.head.push(batch.slice(0, to_head));
            self.head_rows += to_head;
        }
        if batch.num_rows() > to_head {
            self.tail_rows += batch.num_rows() - to_head;
            self.tail.push_back(batch.slice(to_head, batch.num_rows() - to_head));
            while let Some(first) = self.tail.front().map(RecordBatch::num_rows)
                && self.tail_rows - first >= self.limit
            {
                self.tail_rows -= first;
                self.tail.pop_front();
            }
        }
    }

    /// Rows that are not shown.
    pub(super) fn hidden(&self) -> usize {
        if self.limit == 0 { 0 } else { self.total.saturating_sub(self.limit) }
    }

    /// How many rows are shown before those that are not.
    pub(super) fn before_hidden(&self) -> usize {
        if self.hidden() == 0 { self.head_rows } else { self.limit.div_ceil(2) }
    }

    /// What is shown, in order.
    pub(super) fn shown(&self) -> Vec<RecordBatch> {
        if self.hidden() == 0 {
            return self.head.clone();
        }
        let mut shown = take(self.head.iter(), 0, self.before_hidden());
        // The last rows lie in the tail, and before it in the head where the tail is short.
        let last = self.limit / 2;
        let from_tail = last.min(self.tail_rows);
        shown.extend(take(self.head.iter(), self.head_rows - (last - from_tail), last - from_tail));
        shown.extend(take(self.tail.iter(), self.tail_rows - from_tail, from_tail));
        shown
    }
}

/// `count` rows of batches after the first `skip`.
fn take<'a>(batches: impl Iterator<Item = &'a RecordBatch>, mut skip: usize, mut count: usize) -> Vec<RecordBatch> {
    let mut taken = vec![];
    for batch in batches {
        let from = skip.min(batch.num_rows());
        skip -= from;
        let rows = count.min(batch.num_rows() - from);
        if rows > 0 {
            taken.push(batch.slice(from, rows));
            count -= rows;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    fn shown(limit: usize, sizes: &[usize]) -> (Vec<i64>, usize) {
        let mut rows = Rows::new(limit);
        let mut next = 0;
        for size in sizes {
            let values = Int64Array::from_iter_values(next..next + *size as i64);
            next += *size as i64;
            rows.add(&RecordBatch::try_from_iter([("n", Arc::new(values) as ArrayRef)]).unwrap());
        }
        let values = rows.shown().iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        (values, rows.hidden())
    }

    #[test]
    fn the_first_and_the_last_rows_are_kept() {
        assert_eq!(shown(0, &[3, 4]), ((0..7).collect(), 0));
        assert_eq!(shown(10, &[3, 4]), ((0..7).collect(), 0));
        assert_eq!(shown(7, &[3, 4]), ((0..7).collect(), 0));
        assert_eq!(shown(4, &[3, 4]), (vec![0, 1, 5, 6], 3));
        assert_eq!(shown(5, &[6]), (vec![0, 1, 2, 4, 5], 1));
        assert_eq!(shown(4, &[1; 100]), (vec![0, 1, 98, 99], 96));
        assert_eq!(shown(4, &[100]), (vec![0, 1, 98, 99], 96));
        assert_eq!(shown(1, &[5]), (vec![0], 4));
    }
}
