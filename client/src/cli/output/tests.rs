use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, StringViewArray};
use datafusion::arrow::datatypes::Schema;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

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

fn bytes(format: Format, screen: Option<Screen>, batches: &[RecordBatch]) -> (Vec<u8>, Written) {
    let mut writer = ResultWriter::new(format, Vec::new());
    writer.screen = screen;
    let mut open = writer.begin(batches[0].schema()).unwrap();
    for batch in batches {
        open.write(batch).unwrap();
    }
    let written = open.finish().unwrap();
    assert_eq!(written.rows, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    (std::mem::take(writer.out()), written)
}

fn written(format: Format, batches: &[RecordBatch]) -> String {
    String::from_utf8(bytes(format, None, batches).0).unwrap()
}

fn fitted(width: usize, rows: usize, batches: &[RecordBatch]) -> (String, Written) {
    let screen = Screen { width, rows, unicode: true };
    let (bytes, written) = bytes(Format::Table, Some(screen), batches);
    let text = String::from_utf8(bytes).unwrap();
    for line in text.lines() {
        assert!(width == 0 || unicode_width::UnicodeWidthStr::width(line) <= width, "{line}");
    }
    (text, written)
}

fn numbers(columns: usize, rows: usize) -> RecordBatch {
    let values = Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef;
    RecordBatch::try_from_iter((0..columns).map(|at| (format!("column{at}"), Arc::clone(&values)))).unwrap()
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
fn a_table_on_a_terminal_has_types_and_numbers_to_the_right() {
    let (text, _) = fitted(80, 40, &[batch()]);
    insta::assert_snapshot!(text, @r#"
    ┌────────┬─────────┬───────────────┬────────────┬────────┐
    │     id │ name    │         price │ day        │  ratio │
    │ bigint │ varchar │ decimal(10,2) │ date       │ double │
    ├────────┼─────────┼───────────────┼────────────┼────────┤
    │      1 │ a, "b"  │         12.50 │ 1970-01-01 │    0.5 │
    │      2 │ NULL    │          NULL │ 1971-01-01 │    NaN │
    └────────┴─────────┴───────────────┴────────────┴────────┘
    "#);
}

#[test]
fn rows_in_the_middle_are_left_out() {
    let (text, written) = fitted(80, 4, &[numbers(1, 6), numbers(1, 5)]);
    assert_eq!(written, Written { rows: 11, columns: 1, rows_hidden: 7, columns_hidden: 0 });
    insta::assert_snapshot!(text, @r"
    ┌─────────┐
    │ column0 │
    │  bigint │
    ├─────────┤
    │       0 │
    │       1 │
    │       ⋮ │
    │       3 │
    │       4 │
    └─────────┘
    ");
}

#[test]
fn columns_in_the_middle_are_left_out_where_cutting_is_not_enough() {
    let (text, written) = fitted(50, 40, &[numbers(20, 1)]);
    assert_eq!((written.columns, written.columns_hidden), (20, 16));
    insta::assert_snapshot!(text, @r"
    ┌─────────┬─────────┬───┬──────────┬──────────┐
    │ column0 │ column1 │ … │ column18 │ column19 │
    │  bigint │  bigint │   │   bigint │   bigint │
    ├─────────┼─────────┼───┼──────────┼──────────┤
    │       0 │       0 │ … │        0 │        0 │
    └─────────┴─────────┴───┴──────────┴──────────┘
    ");
    assert!(fitted(1000, 40, &[numbers(20, 1)]).1.columns_hidden == 0);
    assert!(fitted(0, 40, &[numbers(20, 1)]).1.columns_hidden == 0);
}

#[test]
fn long_values_are_cut_to_the_width_of_the_screen() {
    let long = StringArray::from(vec!["x".repeat(500), "ä".repeat(30), "日本".repeat(30)]);
    let short = StringArray::from(vec!["a", "b\nc", "d\te"]);
    let batch = RecordBatch::try_from_iter([("short", Arc::new(short) as ArrayRef), ("long", Arc::new(long) as ArrayRef)]).unwrap();
    let (text, written) = fitted(40, 40, &[batch]);
    assert_eq!(written.columns_hidden, 0);
    insta::assert_snapshot!(text, @r"
    ┌─────────┬────────────────────────────┐
    │ short   │ long                       │
    │ varchar │ varchar                    │
    ├─────────┼────────────────────────────┤
    │ a       │ xxxxxxxxxxxxxxxxxxxxxxxxx… │
    │ b       │ äääääääääääääääääääääääää… │
    │ c       │                            │
    │ d    e  │ 日本日本日本日本日本日本…  │
    └─────────┴────────────────────────────┘
    ");
}

#[test]
fn no_width_breaks_the_layout() {
    for width in 1..60 {
        let mut writer = ResultWriter::new(Format::Table, Vec::new());
        writer.screen = Some(Screen { width, rows: 3, unicode: width % 2 == 0 });
        writer.write(&numbers(7, 5)).unwrap();
        writer.write(&batch()).unwrap();
    }
}

#[test]
fn plans_are_shown_as_they_are() {
    let plan = format!("ProjectionExec: {}\n  DataSourceExec", "x".repeat(100));
    let columns = [("plan_type", "physical_plan"), ("plan", plan.as_str())];
    let columns = columns.map(|(name, text)| (name, Arc::new(StringArray::from(vec![text])) as ArrayRef));
    let screen = Screen { width: 40, rows: 40, unicode: true };
    let (text, _) = bytes(Format::Table, Some(screen), &[RecordBatch::try_from_iter(columns).unwrap()]);
    let expected = format!("physical_plan:\n  ProjectionExec: {}\n    DataSourceExec\n", "x".repeat(100));
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn records_are_one_below_the_other() {
    let text = StringArray::from(vec!["a\nb", "c"]);
    let batch = RecordBatch::try_from_iter([("n", numbers(1, 2).column(0).clone()), ("text", Arc::new(text) as ArrayRef)]).unwrap();
    insta::assert_snapshot!(written(Format::Vertical, &[batch.clone(), batch.slice(1, 1)]), @r"
    -[ 1 ]-------------
    n    | 0
    text | a
         | b
    -[ 2 ]-------------
    n    | 1
    text | c
    -[ 3 ]-------------
    n    | 1
    text | c
    ");
    assert_eq!(written(Format::Vertical, &[batch.slice(0, 0)]), "(no rows; columns: n, text)\n");
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
fn markdown_keeps_texts_within_their_cells() {
    let text = StringArray::from(vec!["a|b", "c\nd"]);
    let batch = RecordBatch::try_from_iter([("n", numbers(1, 2).column(0).clone()), ("t|u", Arc::new(text) as ArrayRef)]).unwrap();
    let expected = "| n | t\\|u |\n| ---: | --- |\n| 0 | a\\|b |\n| 1 | c<br>d |\n";
    assert_eq!(written(Format::Markdown, &[batch]), expected);
}

#[test]
fn parquet_and_arrow_hold_the_rows() {
    let (file, _) = bytes(Format::Parquet, None, &[batch(), batch()]);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap().build().unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 4);
    let (stream, _) = bytes(Format::Arrow, None, &[batch(), batch()]);
    let reader = arrow_ipc::reader::StreamReader::try_new(stream.as_slice(), None).unwrap();
    assert_eq!(reader.map(Result::unwrap).collect::<Vec<_>>(), [batch(), batch()]);
}

#[test]
fn a_result_without_rows_keeps_its_header() {
    let empty = RecordBatch::new_empty(batch().schema());
    assert!(written(Format::Table, std::slice::from_ref(&empty)).contains("| id | name | price | day | ratio |"));
    assert_eq!(written(Format::Csv, std::slice::from_ref(&empty)), "id,name,price,day,ratio\n");
    assert_eq!(written(Format::Json, std::slice::from_ref(&empty)), "[]\n");
    assert_eq!(written(Format::Markdown, &[empty.project(&[0]).unwrap()]), "| id |\n| ---: |\n");
    assert_eq!(written(Format::Ndjson, &[empty]), "");
}

#[test]
fn what_leaves_no_trace_writes_nothing() {
    let schema = Arc::new(Schema::empty());
    for format in [Format::Table, Format::Vertical, Format::Csv, Format::Json, Format::Markdown, Format::Parquet] {
        let mut writer = ResultWriter::new(format, Vec::new());
        assert_eq!(writer.begin(Arc::clone(&schema)).unwrap().finish().unwrap(), Written::default());
        assert!(writer.out().is_empty(), "{format:?}");
    }
    assert_eq!(written(Format::None, &[batch()]), "");
}
