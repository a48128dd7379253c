//! Results as text or files: tables and records for people, the other formats for programs.

mod destination;
mod fitted;
mod markdown;
mod pager;
mod rows;
mod vertical;

use std::io::Write;

use arrow_ipc::writer::StreamWriter;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json;
use datafusion::arrow::util::display::FormatOptions;
use datafusion::arrow::util::pretty::pretty_format_batches_with_options;
use datafusion::parquet::arrow::ArrowWriter;

pub(crate) use destination::Out;
pub(crate) use fitted::Screen;
pub(crate) use pager::{Pager, PagerUse};
use rows::Rows;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns lined up for people; on a terminal as much as fits on it
    #[default]
    Table,
    /// One line a column, one record below the other
    Vertical,
    /// Comma-separated, with a header
    Csv,
    /// Tab-separated, with a header
    Tsv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// A table as Markdown has them
    Markdown,
    /// A Parquet file, one for each result
    Parquet,
    /// An Arrow IPC stream, one for each result
    Arrow,
    /// Nothing: the statement runs and its rows are counted
    None,
}

impl Format {
    /// Whether it is made of bytes that a terminal can't show.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    /// Whether it is for people, who want to be told how many rows there were.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Vertical)
    }

    /// Its name, as it is given.
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What a result came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Rows that a table on a terminal has left out in its middle.
    pub(crate) rows_hidden: usize,
    /// Columns that it has left out in its middle.
    pub(crate) columns_hidden: usize,
}

/// Writes one result after the other. All formats but the table are written while rows arrive.
pub(crate) struct ResultWriter<W: Write + Send> {
    pub(crate) format: Format,
    /// What a table must fit on; `None` for all of it.
    pub(crate) screen: Option<Screen>,
    out: W,
}

impl<W: Write + Send> ResultWriter<W> {
    pub(crate) fn new(format: Format, out: W) -> Self {
        Self { format, screen: None, out }
    }

    /// Starts the result of a statement.
    pub(crate) fn begin(&mut self, schema: SchemaRef) -> Result<OpenResult<'_, W>, ArrowError> {
        let out = &mut self.out;
        let separated = |out, delimiter| Box::new(csv::WriterBuilder::new().with_header(true).with_delimiter(delimiter).build(out));
        let target = match self.format {
            // A statement without columns leaves no trace.
            _ if schema.fields().is_empty() => Target::Nothing,
            Format::None => Target::Nothing,
            Format::Table => Target::Table { rows: Rows::new(self.screen.map_or(0, |screen| screen.rows)), screen: self.screen, out },
            Format::Vertical => Target::Vertical(vertical::Writer::new(out, &schema)),
            Format::Markdown => Target::Markdown(markdown::Writer::new(out, &schema)),
            Format::Csv => Target::Separated(separated(out, b',')),
            Format::Tsv => Target::Separated(separated(out, b'\t')),
            Format::Json => Target::Json(json::WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Ndjson => Target::Ndjson(json::WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Parquet => Target::Parquet(Box::new(ArrowWriter::try_new(out, schema.clone(), None)?)),
            Format::Arrow => Target::Arrow(Box::new(StreamWriter::try_new(out, &schema)?)),
        };
        Ok(OpenResult { schema, rows: 0, target })
    }

    /// Writes a whole result.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut open = self.begin(batch.schema())?;
        open.write(batch)?;
        open.finish().map(drop)
    }

    /// What it writes to.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }
}

enum Target<'a, W: Write + Send> {
    Nothing,
    Table { rows: Rows, screen: Option<Screen>, out: &'a mut W },
    Vertical(vertical::Writer<&'a mut W>),
    Markdown(markdown::Writer<&'a mut W>),
    Separated(Box<csv::Writer<&'a mut W>>),
    Json(json::Writer<&'a mut W, json::writer::JsonArray>),
    Ndjson(json::Writer<&'a mut W, json::writer::LineDelimited>),
    Parquet(Box<ArrowWriter<&'a mut W>>),
    Arrow(Box<StreamWriter<&'a mut W>>),
}

/// A result of which rows still arrive.
pub(crate) struct OpenResult<'a, W: Write + Send> {
    schema: SchemaRef,
    rows: usize,
    target: Target<'a, W>,
}

impl<W: Write + Send> OpenResult<'_, W> {
    /// Whether rows are written as they come, rather than at the end.
    pub(crate) fn is_streamed(&self) -> bool {
        !matches!(self.target, Target::Table { .. } | Target::Nothing)
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows();
        match &mut self.target {
            Target::Nothing => {}
            Target::Table { rows, .. } => rows.add(batch),
            Target::Vertical(writer) => writer.write(batch)?,
            Target::Markdown(writer) => writer.write(batch)?,
            Target::Separated(writer) => writer.write(batch)?,
            Target::Json(writer) => writer.write(batch)?,
            Target::Ndjson(writer) => writer.write(batch)?,
            Target::Parquet(writer) => writer.write(batch)?,
            Target::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Ends the result; says how much of it there was.
    pub(crate) fn finish(mut self) -> Result<Written, ArrowError> {
        if self.rows == 0 && !matches!(self.target, Target::Nothing) {
            // The header of a result without rows.
            self.write(&RecordBatch::new_empty(self.schema.clone()))?;
        }
        let mut written = Written { rows: self.rows, columns: self.schema.fields().len(), ..Written::default() };
        match self.target {
            Target::Nothing => {}
            Target::Table { rows, screen: Some(screen), out } if !is_plan(&self.schema) => {
                let table = fitted::fit(&self.schema, &rows, screen)?;
                (written.rows_hidden, written.columns_hidden) = (rows.hidden(), table.columns_hidden);
                writeln!(out, "{}", table.text)?;
                out.flush()?;
            }
            Target::Table { rows, screen: Some(_), out } => write_plan(out, &rows)?,
            Target::Table { rows, screen: None, out } => {
                writeln!(out, "{}", pretty_format_batches_with_options(&rows.shown(), &options())?)?;
                out.flush()?;
            }
            Target::Vertical(mut writer) => writer.finish()?,
            Target::Markdown(mut writer) => writer.finish()?,
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
            Target::Parquet(writer) => writer.into_inner()?.flush()?,
            Target::Arrow(mut writer) => writer.finish()?,
        }
        Ok(written)
    }
}

/// How values are shown to people.
fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_null("NULL").with_display_error(true)
}

/// Whether it is what EXPLAIN gives: names of plans and their texts.
fn is_plan(schema: &SchemaRef) -> bool {
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    names == ["plan_type", "plan"] && schema.fields().iter().all(|field| text(field.data_type()))
}

/// Plans as they are, since a table would cut their long lines.
fn write_plan(out: &mut impl Write, rows: &Rows) -> Result<(), ArrowError> {
    let options = options();
    for batch in rows.shown() {
        let [names, plans] = [0, 1].map(|column| vertical::formatter(batch.column(column), &options));
        let (names, plans) = (names?, plans?);
        for row in 0..batch.num_rows() {
            writeln!(out, "{}:", names.value(row))?;
            for line in plans.value(row).to_string().lines() {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests;
