//! A table that fits on a terminal: long values are cut, and where that is not enough, columns in the middle are left out.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::arrow::error::ArrowError;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::rows::Rows;
use super::vertical::formatter;

/// What a column may be cut to before others are left out.
const MIN_WIDTH: usize = 12;
/// The frame that a column adds to its width.
const FRAME: usize = 3;
const LINES: &str = "││──├─┼┤│    ┬┴┌┐└┘";
const ASCII_LINES: &str = "||--+-++|    ++++++";

/// What a table must fit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Characters in a line; 0 for no limit.
    pub(crate) width: usize,
    /// Rows of a result that are shown; 0 for all.
    pub(crate) rows: usize,
    /// Whether it shows more than ASCII.
    pub(crate) unicode: bool,
}

/// A table as text.
#[derive(Debug)]
pub(super) struct Fitted {
    pub(super) text: String,
    pub(super) columns_hidden: usize,
}

struct Column {
    name: String,
    kind: String,
    cells: Vec<String>,
    right: bool,
    width: usize,
}

/// Draws the rows that are shown.
pub(super) fn fit(schema: &SchemaRef, rows: &Rows, screen: Screen) -> Result<Fitted, ArrowError> {
    let mut columns = schema.fields().iter().enumerate().map(|(at, field)| column(at, field, rows)).collect::<Result<Vec<_>, _>>()?;
    let all = columns.len();
    let mut split = None;
    if screen.width > 0 {
        let kept = choose(&columns, screen.width);
        if kept.len() < all {
            let kept_before = kept.iter().enumerate().take_while(|(at, column)| at == *column).count();
            split = Some(kept_before);
            let mut at = 0..;
            columns.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
        }
        narrow(&mut columns, screen.width - if split.is_some() { FRAME + 1 } else { 0 });
    }
    let text = draw(&columns, rows, split, screen.unicode);
    Ok(Fitted { text, columns_hidden: all - columns.len() })
}

fn column(at: usize, field: &Field, rows: &Rows) -> Result<Column, ArrowError> {
    let options = super::options();
    let mut cells = vec![];
    for batch in rows.shown() {
        let values = formatter(batch.column(at), &options)?;
        cells.extend((0..batch.num_rows()).map(|row| printable(&values.value(row).to_string())));
    }
    let (name, kind) = (printable(field.name()), type_name(field.data_type()));
    let texts = cells.iter().flat_map(|cell| cell.split('\n')).chain([name.as_str(), kind.as_str()]);
    let width = texts.map(UnicodeWidthStr::width).max().unwrap_or_default();
    Ok(Column { name, kind, cells, right: field.data_type().is_numeric(), width })
}

/// Without what would move the cursor; ends of lines stay.
fn printable(text: &str) -> String {
    text.replace('\t', "    ").chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// The columns that fit where each is cut as far as may be: from both ends.
fn choose(columns: &[Column], width: usize) -> Vec<usize> {
    let least = |at: usize| columns[at].width.min(MIN_WIDTH) + FRAME;
    let all: usize = (0..columns.len()).map(least).sum();
    if all < width {
        return (0..columns.len()).collect();
    }
    // The column of dots needs room as well.
    let mut left = width.saturating_sub(1 + FRAME + 1);
    let (mut first, mut last) = (0, columns.len());
    loop {
        let take_first = first <= columns.len() - last;
        let next = if take_first { first } else { last - 1 };
        if first >= last || least(next) > left {
            break;
        }
        left -= least(next);
        if take_first { first += 1 } else { last -= 1 }
    }
    // One column is shown in any case.
    let first = if first == 0 && last == columns.len() { 1 } else { first };
    (0..first).chain(last..columns.len()).collect()
}

/// Cuts the widest columns until all of them fit.
fn narrow(columns: &mut [Column], width: usize) {
    let room = width.saturating_sub(1 + FRAME * columns.len());
    let total = |cap: usize| columns.iter().map(|column| column.width.min(cap)).sum::<usize>();
    let widest = columns.iter().map(|column| column.width).max().unwrap_or_default();
    let least = MIN_WIDTH.min(room.max(1));
    let cap = (least..=widest.min(room)).rev().find(|cap| total(*cap) <= room).unwrap_or(least);
    // What is left of the room goes to the columns that are cut, one character each.
    let mut spare = room.saturating_sub(total(cap));
    for column in columns.iter_mut().filter(|column| column.width > cap) {
        column.width = cap + usize::from(spare > 0);
        spare = spare.saturating_sub(1);
    }
}

fn draw(columns: &[Column], rows: &Rows, split: Option<usize>, unicode: bool) -> String {
    let dots = if unicode { "…" } else { "~" };
    let mut table = Table::new();
    table.load_preset(if unicode { LINES } else { ASCII_LINES }).set_content_arrangement(ContentArrangement::Disabled);
    let line = |text: &dyn Fn(&Column) -> String| {
        let mut cells: Vec<Cell> = columns.iter().map(|column| cell(&text(column), column, dots)).collect();
        if let Some(split) = split {
            cells.insert(split, Cell::new(dots));
        }
        cells
    };
    table.set_header(line(&|column| format!("{}\n{}", column.name, column.kind)));
    let shown = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..shown {
        if rows.hidden() > 0 && row == rows.before_hidden() {
            table.add_row(line(&|_| if unicode { "⋮".into() } else { ":".into() }));
        }
        table.add_row(line(&|column| column.cells[row].clone()));
    }
    table.to_string()
}

fn cell(text: &str, column: &Column, dots: &str) -> Cell {
    let lines: Vec<String> = text.split('\n').map(|line| cut(line, column.width, dots)).collect();
    let alignment = if column.right { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(lines.join("\n")).set_alignment(alignment)
}

/// As much of a text as fits, and a mark where that is not all.
fn cut(text: &str, width: usize, dots: &str) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or_default();
        if used >= width {
            break;
        }
        kept.push(c);
    }
    kept + dots
}

/// The name of a type as it is written in SQL; Arrow's for what SQL has no name for.
fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 => "smallint",
        DataType::Int32 => "int",
        DataType::Int64 => "bigint",
        DataType::UInt8 => "tinyint unsigned",
        DataType::UInt16 => "smallint unsigned",
        DataType::UInt32 => "int unsigned",
        DataType::UInt64 => "bigint unsigned",
        DataType::Float16 => "half",
        DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "varchar",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            return format!("{}[]", type_name(item.data_type()));
        }
        DataType::FixedSizeList(item, length) => return format!("{}[{length}]", type_name(item.data_type())),
        DataType::Struct(_) => "struct",
        DataType::Map(_, _) => "map",
        DataType::Union(_, _) => "union",
        DataType::Dictionary(_, value) => return type_name(value),
        DataType::RunEndEncoded(_, value) => return type_name(value.data_type()),
    };
    name.to_owned()
}
