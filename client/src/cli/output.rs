//! Results as text: tables for people, the other formats for programs.

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns lined up for people; shown when the result is complete
    #[default]
    Table,
    /// Comma-separated, with a header
    Csv,
    /// Tab-separated, with a header
    Tsv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
}

/// Writes one result after the other. All formats but the table are written while rows arrive.
pub(crate) struct ResultWriter<W: Write> {
    format: Format,
    out: W,
}

impl<W: Write> ResultWriter<W> {
    pub(crate) fn new(format: Format, out: W) -> Self {
        Self { format, out }
    }

    /// Starts the result of a statement.
    pub(crate) fn begin(&mut self, schema: SchemaRef) -> OpenResult<'_, W> {
        let out = &mut self.out;
        let target = match self.format {
            Format::Table => Target::Table { batches: Vec::new(), out },
            Format::Csv => Target::Separated(Box::new(csv::WriterBuilder::new().with_header(true).build(out))),
            Format::Tsv => Target::Separated(Box::new(csv::WriterBuilder::new().with_header(true).with_delimiter(b'\t').build(out))),
            Format::Json => Target::Json(json::WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Ndjson => Target::Ndjson(json::WriterBuilder::new().with_explicit_nulls(true).build(out)),
        };
        OpenResult { schema, rows: 0, target }
    }

    /// Writes a whole result.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut open = self.begin(batch.schema());
        open.write(batch)?;
        open.finish().map(drop)
    }

    /// What it writes to.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }
}

enum Target<'a, W: Write> {
    Table { batches: Vec<RecordBatch>, out: &'a mut W },
    Separated(Box<csv::Writer<&'a mut W>>),
    Json(json::Writer<&'a mut W, json::writer::JsonArray>),
    Ndjson(json::Writer<&'a mut W, json::writer::LineDelimited>),
}

/// A result of which rows still arrive.
pub(crate) struct OpenResult<'a, W: Write> {
    schema: SchemaRef,
    rows: usize,
    target: Target<'a, W>,
}

impl<W: Write> OpenResult<'_, W> {
    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows();
        match &mut self.target {
            Target::Table { batches, .. } => batches.push(batch.clone()),
            Target::Separated(writer) => writer.write(batch)?,
            Target::Json(writer) => writer.write(batch)?,
            Target::Ndjson(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Ends the result; gives its number of rows. A statement without columns leaves no trace.
    pub(crate) fn finish(mut self) -> Result<usize, ArrowError> {
        if self.schema.fields().is_empty() {
            return Ok(self.rows);
        }
        if self.rows == 0 {
            // The header of a result without rows.
            self.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        match self.target {
            Target::Table { batches, out } => {
                let options = FormatOptions::default().with_null("NULL").with_display_error(true);
                writeln!(out, "{}", pretty_format_batches_with_options(&batches, &options)?)?;
                out.flush()?;
            }
            Target::Separated(writer) => writer.into_inner().flush()?,
            Target::Json(mut writer) => {
                writer.finish()?;
                let out = writer.into_inner();
                writeln!(out)?;
                out.flush()?;
            }
            Target::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
        }
        Ok(self.rows)
    }
}

/// Standard output that remembers whether its reader went away: `volley sql ... | head` is no failure.
#[derive(Debug, Default)]
pub(crate) struct Stdout {
    reader_left: bool,
}

impl Stdout {
    pub(crate) fn reader_left(&self) -> bool {
        self.reader_left
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.reader_left |= error.kind() == io::ErrorKind::BrokenPipe;
        }
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = io::stdout().lock().write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = io::stdout().lock().flush();
        self.note(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, StringViewArray};

    use super::*;

    fn batch() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![Some(12_50), None]).with_precision_and_scale(10, 2).unwrap();
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("name", Arc::new(StringViewArray::from(vec![Some("a, \"b\""), None])) as ArrayRef),
            ("price", Arc::new(decimals) as ArrayRef),
            ("day", Arc::new(Date32Array::from(vec![0, 365])) as ArrayRef),
            ("ratio", Arc::new(Float64Array::from(vec![0.5, f64::NAN])) as ArrayRef),
        ])
        .unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> String {
        let mut writer = ResultWriter::new(format, Vec::new());
        let mut open = writer.begin(batches[0].schema());
        for batch in batches {
            open.write(batch).unwrap();
        }
        assert_eq!(open.finish().unwrap(), batches.iter().map(RecordBatch::num_rows).sum::<usize>());
        String::from_utf8(std::mem::take(writer.out())).unwrap()
    }

    #[test]
    fn a_table_lines_up_and_names_nulls() {
        let lines = [
            "+----+--------+-------+------------+-------+",
            "| id | name   | price | day        | ratio |",
            "+----+--------+-------+------------+-------+",
            "| 1  | a, \"b\" | 12.50 | 1970-01-01 | 0.5   |",
            "| 2  | NULL   | NULL  | 1971-01-01 | NaN   |",
            "| 1  | a, \"b\" | 12.50 | 1970-01-01 | 0.5   |",
            "+----+--------+-------+------------+-------+",
        ];
        assert_eq!(written(Format::Table, &[batch(), batch().slice(0, 1)]).lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn csv_and_tsv_have_one_header() {
        let first = "1,\"a, \"\"b\"\"\",12.50,1970-01-01,0.5\n";
        let expected = format!("id,name,price,day,ratio\n{first}2,,,1971-01-01,NaN\n{first}");
        assert_eq!(written(Format::Csv, &[batch(), batch().slice(0, 1)]), expected);
        let narrow = batch().project(&[0, 2]).unwrap();
        assert_eq!(written(Format::Tsv, &[narrow]), "id\tprice\n1\t12.50\n2\t\n");
    }

    #[test]
    fn json_names_nulls() {
        let narrow = batch().project(&[0, 1]).unwrap();
        let (one, two) = (r#"{"id":1,"name":"a, \"b\""}"#, r#"{"id":2,"name":null}"#);
        assert_eq!(written(Format::Json, std::slice::from_ref(&narrow)), format!("[{one},{two}]\n"));
        assert_eq!(written(Format::Ndjson, &[narrow]), format!("{one}\n{two}\n"));
    }

    #[test]
    fn a_result_without_rows_keeps_its_header() {
        let empty = RecordBatch::new_empty(batch().schema());
        assert!(written(Format::Table, std::slice::from_ref(&empty)).contains("| id | name | price | day | ratio |"));
        assert_eq!(written(Format::Csv, std::slice::from_ref(&empty)), "id,name,price,day,ratio\n");
        assert_eq!(written(Format::Json, std::slice::from_ref(&empty)), "[]\n");
        assert_eq!(written(Format::Ndjson, &[empty]), "");
    }

    #[test]
    fn a_statement_without_columns_writes_nothing() {
        let schema = Arc::new(datafusion::arrow::datatypes::Schema::empty());
        for format in [Format::Table, Format::Csv, Format::Json] {
            let mut writer = ResultWriter::new(format, Vec::new());
            assert_eq!(writer.begin(Arc::clone(&schema)).finish().unwrap(), 0);
            assert!(writer.out().is_empty(), "{format:?}");
        }
    }
}
