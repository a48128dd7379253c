//! Records one below the other, a line for each column: for rows that are wider than any screen.

use std::io::Write;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

/// Texts of the values of a column.
pub(super) fn formatter<'a>(column: &'a dyn Array, options: &FormatOptions<'a>) -> Result<ArrayFormatter<'a>, ArrowError> {
    ArrayFormatter::try_new(column, options)
}

/// Writes records as they come.
pub(super) struct Writer<W> {
    out: W,
    names: Vec<String>,
    width: usize,
    records: usize,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, schema: &SchemaRef) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().replace('\n', " ")).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or_default();
        Self { out, names, width, records: 0 }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let options = super::options();
        let columns = batch.columns().iter().map(|column| formatter(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.records += 1;
            writeln!(self.out, "-[ {} ]{}", self.records, "-".repeat((self.width + 10).saturating_sub(self.records.to_string().len())))?;
            for (name, column) in self.names.iter().zip(&columns) {
                let value = column.value(row).to_string();
                let mut lines = value.split('\n');
                let pad = " ".repeat(self.width - name.width());
                writeln!(self.out, "{name}{pad} | {}", lines.next().unwrap_or_default())?;
                for line in lines {
                    writeln!(self.out, "{} | {line}", " ".repeat(self.width))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        if self.records == 0 {
            writeln!(self.out, "(no rows; columns: {})", self.names.join(", "))?;
        }
        Ok(self.out.flush()?)
    }
}
