//! Tables as Markdown has them, written as rows come.

use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

/// Writes the rows of a table.
pub(super) struct Writer<W> {
    out: W,
    header: Option<String>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, schema: &SchemaRef) -> Self {
        let names: String = schema.fields().iter().map(|field| format!(" {} |", cell(field.name()))).collect();
        let rule = |numeric| if numeric { " ---: |" } else { " --- |" };
        let rules: String = schema.fields().iter().map(|field| rule(field.data_type().is_numeric())).collect();
        Self { out, header: Some(format!("|{names}\n|{rules}\n")) }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        if let Some(header) = self.header.take() {
            self.out.write_all(header.as_bytes())?;
        }
        let options = super::options();
        let columns = batch.columns().iter().map(|column| super::vertical::formatter(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: String = columns.iter().map(|column| format!(" {} |", cell(&column.value(row).to_string()))).collect();
            writeln!(self.out, "|{cells}")?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        Ok(self.out.flush()?)
    }
}

/// A text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace("\r\n", "<br>").replace('\n', "<br>")
}
