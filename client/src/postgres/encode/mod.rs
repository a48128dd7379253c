//! Arrow's rows as `DataRow` messages, in text and in binary.

mod array;
mod json;
mod numeric;
mod scalar;
mod time;

pub(super) use numeric::{binary_to_text, unscaled};
pub(super) use time::{EPOCH_DAYS, EPOCH_MICROS};

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use pgwire::messages::data::DataRow;

use super::error::{Refusal, state};
use super::types::{Format, pg_type, wire_type};

/// Writes the value of a row that has one.
type Put = Box<dyn Fn(usize, &mut BytesMut) -> Result<(), Refusal> + Send>;

/// A batch that is ready to be written row by row.
pub(super) struct Rows {
    columns: Vec<Writer>,
    rows: usize,
    buffer: BytesMut,
}

/// Writes the values of a column.
struct Writer {
    array: ArrayRef,
    put: Put,
}

impl Rows {
    /// The rows of a batch; `formats` has one for each column.
    pub(super) fn new(batch: &RecordBatch, formats: &[Format]) -> Result<Self, Refusal> {
        let schema = batch.schema_ref();
        let columns = batch.columns().iter().zip(schema.fields()).zip(formats);
        let columns: Result<Vec<_>, _> = columns.map(|((array, field), format)| Writer::new(array, field, *format)).collect();
        Ok(Self { columns: columns?, rows: batch.num_rows(), buffer: BytesMut::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// One row as a message.
    pub(super) fn row(&mut self, row: usize) -> Result<DataRow, Refusal> {
        for column in &self.columns {
            column.put(row, &mut self.buffer)?;
        }
        Ok(DataRow::new(self.buffer.split(), self.columns.len() as i16))
    }
}

impl Writer {
    fn new(array: &ArrayRef, field: &FieldRef, format: Format) -> Result<Self, Refusal> {
        let plain = wire_type(field.data_type());
        let options = CastOptions { safe: false, ..Default::default() };
        let array = if plain == *array.data_type() { ArrayRef::clone(array) } else { cast_with_options(array, &plain, &options)? };
        let array = if pg_type(&plain) == postgres_types::Type::JSON { json::texts(&array, field)? } else { array };
        let put = match array.data_type() {
            DataType::List(_) => array::writer(&array, format)?,
            _ => scalar::writer(&array, format)?,
        };
        Ok(Self { array, put })
    }

    /// The length of the value and the value, -1 for none.
    fn put(&self, row: usize, out: &mut BytesMut) -> Result<(), Refusal> {
        if self.array.is_null(row) || *self.array.data_type() == DataType::Null {
            out.put_i32(-1);
            return Ok(());
        }
        let at = out.len();
        out.put_i32(0);
        (self.put)(row, out)?;
        let length = i32::try_from(out.len() - at - 4).map_err(|_| Refusal::new("54000", "a value is longer than 2 GiB"))?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// An array as what its type says that it is.
fn downcast<A: Array + Clone + 'static>(array: &ArrayRef) -> Result<A, Refusal> {
    let unlike = || Refusal::new(state::INTERNAL, format!("a column is not {} as it says", array.data_type()));
    array.as_any().downcast_ref::<A>().cloned().ok_or_else(unlike)
}

#[cfg(test)]
mod tests;
