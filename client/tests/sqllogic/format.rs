//! Rows as text: the same for every engine, so that equal values are equal texts.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use sqllogictest::{ColumnType, DBOutput};

use super::Answer;

/// The kinds of columns that a file tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Integer,
    /// Floats and decimals.
    Real,
    Text,
    Date,
    Timestamp,
    Other,
}

impl ColumnType for Type {
    fn from_char(letter: char) -> Option<Self> {
        Some(match letter {
            'B' => Self::Boolean,
            'I' => Self::Integer,
            'R' => Self::Real,
            'T' => Self::Text,
            'D' => Self::Date,
            'P' => Self::Timestamp,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Integer => 'I',
            Self::Real => 'R',
            Self::Text => 'T',
            Self::Date => 'D',
            Self::Timestamp => 'P',
            Self::Other => '?',
        }
    }
}

impl Type {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            other if other.is_integer() => Self::Integer,
            other if other.is_floating() || other.is_decimal() => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, value) => Self::of(value),
            _ => Self::Other,
        }
    }
}

/// An engine's answer as a file shows it.
pub(super) fn answer(schema: &Schema, batches: &[RecordBatch]) -> Result<Answer, ArrowError> {
    let types = schema.fields().iter().map(|field| Type::of(field.data_type())).collect();
    let mut rows = vec![];
    for batch in batches {
        let columns = batch.columns().iter().map(|column| texts(column.as_ref())).collect::<Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(DBOutput::Rows { types, rows })
}

fn texts(column: &dyn Array) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL").with_duration_format(DurationFormat::Pretty);
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let float = |row: usize| match column.data_type() {
        DataType::Float64 => Some(rounded(column.as_primitive::<Float64Type>().value(row), 12)),
        DataType::Float32 => Some(rounded(f64::from(column.as_primitive::<Float32Type>().value(row)), 6)),
        DataType::Float16 => Some(rounded(f64::from(column.as_primitive::<Float16Type>().value(row)), 3)),
        _ => None,
    };
    let text = |row: usize| {
        if column.is_null(row) {
            return Ok("NULL".to_owned());
        }
        let text = match float(row) {
            Some(text) => text,
            None => formatter.value(row).try_to_string()?,
        };
        Ok(if text.is_empty() { "(empty)".to_owned() } else { text.replace('\n', "\\n") })
    };
    (0..column.len()).map(text).collect()
}

/// A float with so many digits that the order in which a sum was made can't be seen.
fn rounded(value: f64, digits: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return format!("{value}");
    }
    let text = format!("{value:.*e}", digits - 1);
    // Through the number again, so that 1.50000000000e0 becomes 1.5.
    text.parse::<f64>().map_or(text, |value| format!("{value}"))
}
