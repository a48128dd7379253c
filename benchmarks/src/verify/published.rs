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

/// Which columns of a published answer count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Columns {
    /// All.
    #[default]
    All,
    /// All but addresses and comments: free text, which generators of the same numbers fill differently.
    WithoutText,
}

impl Columns {
    fn count(self, name: &str) -> bool {
        self == Self::All || !(name.ends_with("_address") || name.ends_with("_comment"))
    }
}

/// Whether an answer has the published rows: numbers within one unit of the last digit published, in any order.
pub fn matches_published(published: &PublishedAnswer, actual: &Answer, columns: Columns) -> Result<(), Difference> {
    let width = actual.schema.fields().len();
    if let Some(row) = published.rows.iter().find(|row| row.len() != width) {
        return Err(Difference::Columns { expected: format!("{} columns", row.len()), actual: format!("{width} columns") });
    }
    let fields = actual.schema.fields().iter();
    let kinds: Vec<_> = fields.map(|field| Kind::of(field.data_type(), columns.count(field.name()))).collect();
    let expected: Vec<Row> = published.rows.iter().map(|row| published_row(row, &kinds)).collect();
    let got = actual_rows(actual, &kinds)?;
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

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To the letter.
    Exact,
    /// It may have been rounded.
    Rounded,
    /// Not at all.
    Ignored,
}

impl Kind {
    fn of(data_type: &DataType, counts: bool) -> Self {
        match data_type {
            _ if !counts => Self::Ignored,
            data_type if data_type.is_floating() || data_type.is_decimal() => Self::Rounded,
            _ => Self::Exact,
        }
    }
}

fn published_row(cells: &[String], kinds: &[Kind]) -> Row {
    let of = |kind| cells.iter().zip(kinds).filter(move |(_, known)| **known == kind).map(|(cell, _)| cell.as_str());
    Row { exact: exact_bytes(&of(Kind::Exact).collect::<Vec<_>>()), approximate: of(Kind::Rounded).map(published_number).collect() }
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

fn actual_rows(actual: &Answer, kinds: &[Kind]) -> Result<Vec<Row>, ArrowError> {
    let options = FormatOptions::default().with_null("");
    let mut rows = Vec::with_capacity(actual.rows());
    for batch in &actual.batches {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for (column, kind) in batch.columns().iter().zip(kinds) {
            match kind {
                Kind::Rounded => numbers.push(doubles(column)?),
                Kind::Exact => texts.push(ArrayFormatter::try_new(column.as_ref(), &options)?),
                Kind::Ignored => {}
            }
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
