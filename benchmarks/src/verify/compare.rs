//! Two answers side by side.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::order::Order;
use super::rows::{Row, rows_of, unmatched};

/// How many differing rows a [`Difference`] shows of each side.
const ROWS_SHOWN: usize = 3;

/// All rows of a query's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Names and types; needed where there are no batches.
    pub schema: SchemaRef,
    /// The rows, in the order in which they came.
    pub batches: Vec<RecordBatch>,
}

impl Answer {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn all_columns(&self) -> Vec<usize> {
        (0..self.schema.fields().len()).collect()
    }

    /// Row `index` as text, for people.
    fn show(&self, mut index: usize) -> String {
        let options = FormatOptions::default().with_null("NULL");
        for batch in &self.batches {
            if index >= batch.num_rows() {
                index -= batch.num_rows();
                continue;
            }
            let cell = |column| match ArrayFormatter::try_new(column, &options) {
                Ok(formatter) => formatter.value(index).to_string(),
                Err(error) => format!("<{error}>"),
            };
            return batch.columns().iter().map(|column| cell(column.as_ref())).collect::<Vec<_>>().join("|");
        }
        format!("<no row {index}>")
    }

    pub(crate) fn show_some(&self, indexes: &[usize]) -> String {
        let shown: Vec<_> = indexes.iter().take(ROWS_SHOWN).map(|index| self.show(*index)).collect();
        shown.join("; ")
    }
}

/// What two answers that are not different are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Equal.
    Equal,
    /// The query ends in a `LIMIT` and so many rows differ, none in an `ORDER BY` column: right if the actual answer is
    /// [`contained`] in that of the query without its limit.
    MayTie {
        /// Rows without a partner.
        rows: usize,
    },
}

/// Why an answer is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    /// Names or types of the columns differ.
    #[error("columns differ: expected {expected}, got {actual}")]
    Columns {
        /// `name type, ...` as expected.
        expected: String,
        /// `name type, ...` as it is.
        actual: String,
    },
    /// The numbers of rows differ.
    #[error("expected {expected} rows, got {actual}; expected but missing: [{missing}]; not expected: [{extra}]")]
    Count {
        /// Rows expected.
        expected: usize,
        /// Rows there are.
        actual: usize,
        /// Some of the rows that are missing.
        missing: String,
        /// Some of the rows that are too many.
        extra: String,
    },
    /// Some rows are others.
    #[error("{count} of {of} rows differ; expected but missing: [{missing}]; not expected: [{extra}]")]
    Rows {
        /// Rows without a partner.
        count: usize,
        /// All rows.
        of: usize,
        /// Some of the rows that are missing.
        missing: String,
        /// Some of the rows that are too many.
        extra: String,
    },
    /// The rows come in another order.
    #[error("ORDER BY columns differ first in row {row}: expected [{expected}], got [{actual}]")]
    Order {
        /// The first row that differs, from 1.
        row: usize,
        /// The row as expected.
        expected: String,
        /// The row as it is.
        actual: String,
    },
    /// An answer can't be read.
    #[error("answer can't be compared: {0}")]
    Unreadable(#[from] ArrowError),
}

/// Whether `actual` is the right answer, by the module's meaning of equal.
pub fn compare(expected: &Answer, actual: &Answer, order: &Order) -> Result<Verdict, Difference> {
    same_columns(&expected.schema, &actual.schema)?;
    for batch in &actual.batches {
        same_columns(&expected.schema, &batch.schema())?;
    }
    let columns = expected.all_columns();
    let (expected_rows, actual_rows) = (rows_of(&expected.batches, &columns)?, rows_of(&actual.batches, &columns)?);
    let left_over = unmatched(&expected_rows, &actual_rows);
    if expected_rows.len() != actual_rows.len() {
        return Err(Difference::Count {
            expected: expected_rows.len(),
            actual: actual_rows.len(),
            missing: expected.show_some(&left_over.left),
            extra: actual.show_some(&left_over.right),
        });
    }
    let ordered = same_order(expected, actual, order);
    let count = left_over.right.len();
    if count == 0 {
        return ordered.map(|()| Verdict::Equal);
    }
    if order.limited && ordered.is_ok() {
        return Ok(Verdict::MayTie { rows: count });
    }
    Err(Difference::Rows {
        count,
        of: actual_rows.len(),
        missing: expected.show_some(&left_over.left),
        extra: actual.show_some(&left_over.right),
    })
}

/// Whether every row of `actual` is one of `all`, none more often than there.
pub fn contained(all: &Answer, actual: &Answer) -> Result<(), Difference> {
    same_columns(&all.schema, &actual.schema)?;
    let columns = all.all_columns();
    let actual_rows: Vec<Row> = rows_of(&actual.batches, &columns)?;
    let left_over = unmatched(&rows_of(&all.batches, &columns)?, &actual_rows);
    if left_over.right.is_empty() {
        return Ok(());
    }
    Err(Difference::Rows {
        count: left_over.right.len(),
        of: actual_rows.len(),
        missing: String::new(),
        extra: actual.show_some(&left_over.right),
    })
}

fn same_columns(expected: &SchemaRef, actual: &SchemaRef) -> Result<(), Difference> {
    let describe = |schema: &SchemaRef| {
        let columns: Vec<_> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        columns.join(", ")
    };
    let pairs = || expected.fields().iter().zip(actual.fields());
    let same = expected.fields().len() == actual.fields().len()
        && pairs().all(|(left, right)| left.name() == right.name() && left.data_type() == right.data_type());
    if same { Ok(()) } else { Err(Difference::Columns { expected: describe(expected), actual: describe(actual) }) }
}

/// The keys of two rightly ordered answers are equal row by row, whatever the directions are.
fn same_order(expected: &Answer, actual: &Answer, order: &Order) -> Result<(), Difference> {
    if order.keys.is_empty() {
        return Ok(());
    }
    let (left, right) = (rows_of(&expected.batches, &order.keys)?, rows_of(&actual.batches, &order.keys)?);
    match left.iter().zip(&right).position(|(left, right)| !left.is_near(right)) {
        None => Ok(()),
        Some(row) => Err(Difference::Order { row: row + 1, expected: expected.show(row), actual: actual.show(row) }),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
