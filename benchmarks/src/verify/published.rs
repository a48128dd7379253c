//! Answers as they are published: pipe-separated text with a header, numbers rounded to the digits shown.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::compare::{Answer, Difference};
use super::rows::{Approximate, RELATIVE, Row, unmatched};

/// A published answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedAnswer {
    /// Column names.
    pub columns: Vec<String>,
    /// The rows' cells, trimmed.
    pub rows: Vec<Vec<String>>,
}

impl PublishedAnswer {
    /// Reads `a|b\n1|2\n`.
    pub fn parse(text: &str) -> Self {
        let cells = |line: &str| line.trim_end_matches('\r').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let columns = lines.next().map(cells).unwrap_or_default();
        Self { columns, rows: lines.map(cells).collect() }
    }
}

/// Whether an answer has the published rows: numbers within one unit of the last digit published, in any order.
pub fn matches_published(published: &PublishedAnswer, actual: &Answer) -> Result<(), Difference> {
    let width = actual.schema.fields().len();
    if let Some(row) = published.rows.iter().find(|row| row.len() != width) {
        return Err(Difference::Columns { expected: format!("{} columns", row.len()), actual: format!("{width} columns") });
    }
    let numeric: Vec<bool> = actual.schema.fields().iter().map(|field| may_be_rounded(field.data_type())).collect();
    let expected: Vec<Row> = published.rows.iter().map(|row| published_row(row, &numeric)).collect();
    let got = actual_rows(actual, &numeric)?;
    let left_over = unmatched(&expected, &got);
    let missing: Vec<_> = left_over.left.iter().take(3).map(|row| published.rows[*row].join("|")).collect();
    if left_over.left.is_empty() && left_over.right.is_empty() {
        return Ok(());
    }
    Err(Difference::Rows {
        count: left_over.left.len().max(left_over.right.len()),
        of: expected.len(),
        missing: missing.join("; "),
        extra: actual.show_some(&left_over.right),
    })
}

fn may_be_rounded(data_type: &DataType) -> bool {
    data_type.is_floating() || data_type.is_decimal()
}

fn published_row(cells: &[String], numeric: &[bool]) -> Row {
    let exact: Vec<_> = cells.iter().zip(numeric).filter(|(_, numeric)| !**numeric).map(|(cell, _)| cell.as_str()).collect();
    let approximate = cells.iter().zip(numeric).filter(|(_, numeric)| **numeric).map(|(cell, _)| published_number(cell));
    Row { exact: exact_bytes(&exact), approximate: approximate.collect() }
}

/// A number as published, with one unit of its last digit as slack.
fn published_number(cell: &str) -> Approximate {
    let digits = cell.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let unit = 10f64.powi(-i32::try_from(digits).unwrap_or(i32::MAX));
    // A little more than one unit: halves and the binary form of decimals must not decide.
    Approximate { value: cell.parse().ok(), slack: unit * 1.001 }
}

fn exact_bytes(cells: &[&str]) -> Box<[u8]> {
    cells.join("|").into_bytes().into_boxed_slice()
}

fn actual_rows(actual: &Answer, numeric: &[bool]) -> Result<Vec<Row>, ArrowError> {
    let options = FormatOptions::default().with_null("");
    let mut rows = Vec::with_capacity(actual.rows());
    for batch in &actual.batches {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for (column, numeric) in batch.columns().iter().zip(numeric) {
            if *numeric { numbers.push(doubles(column)?) } else { texts.push(ArrayFormatter::try_new(column.as_ref(), &options)?) }
        }
        for row in 0..batch.num_rows() {
            let cells = texts.iter().map(|text| text.value(row).try_to_string()).collect::<Result<Vec<_>, _>>()?;
            let cells: Vec<_> = cells.iter().map(|cell| cell.trim()).collect();
            rows.push(Row { exact: exact_bytes(&cells), approximate: numbers.iter().map(|column| column[row]).collect() });
        }
    }
    Ok(rows)
}

/// Numbers of the answer, whose own last digit may be rounded too: an average of decimals has six digits after the point.
fn doubles(array: &ArrayRef) -> Result<Vec<Approximate>, ArrowError> {
    let scale = match array.data_type() {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Some(*scale)
        }
        _ => None,
    };
    let slack = |value: f64| scale.map_or(value.abs() * RELATIVE, |scale| 10f64.powi(-i32::from(scale)) * 1.001);
    let array = cast(array, &DataType::Float64)?;
    let values = array.as_primitive::<Float64Type>().iter();
    Ok(values.map(|value| Approximate { value, slack: value.map_or(0.0, slack) }).collect())
}
