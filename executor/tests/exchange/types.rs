//! Every Arrow type comes out as it went in: from memory, from disk, and over Flight.

use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::*;

use super::support::{Node, producer};

const ROWS: usize = 101;

fn with_gaps<T>(value: impl Fn(usize) -> T) -> impl Iterator<Item = Option<T>> {
    (0..ROWS).map(move |row| (row % 7 != 3).then(|| value(row)))
}

fn flat_columns() -> Vec<(&'static str, ArrayRef)> {
    let decimal = |row: usize| row as i128 * 1_000_003 - 50;
    vec![
        ("null", Arc::new(NullArray::new(ROWS))),
        ("bool", Arc::new(BooleanArray::from_iter(with_gaps(|row| row % 3 == 0)))),
        ("i8", Arc::new(Int8Array::from_iter(with_gaps(|row| row as i8)))),
        ("u64", Arc::new(UInt64Array::from_iter(with_gaps(|row| u64::MAX - row as u64)))),
        ("f16", Arc::new(Float16Array::from_iter(with_gaps(half)))),
        ("f64", Arc::new(Float64Array::from_iter(with_gaps(|row| row as f64 / 3.0)))),
        ("date", Arc::new(Date32Array::from_iter(with_gaps(|row| row as i32)))),
        ("time", Arc::new(Time64NanosecondArray::from_iter(with_gaps(|row| row as i64)))),
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter(with_gaps(|row| row as i64)).with_timezone("Europe/Berlin"))),
        ("interval", Arc::new(IntervalMonthDayNanoArray::from_iter(with_gaps(|row| IntervalMonthDayNano::new(row as i32, 2, 3))))),
        ("duration", Arc::new(DurationSecondArray::from_iter(with_gaps(|row| row as i64)))),
        ("decimal128", Arc::new(Decimal128Array::from_iter(with_gaps(decimal)).with_precision_and_scale(38, 10).unwrap())),
        ("decimal256", Arc::new(Decimal256Array::from_iter(with_gaps(|row| i256::from_i128(decimal(row)))))),
        ("utf8", Arc::new(StringArray::from_iter(with_gaps(|row| "x".repeat(row))))),
        ("large_utf8", Arc::new(LargeStringArray::from_iter(with_gaps(|row| format!("row {row}"))))),
        ("utf8_view", Arc::new(StringViewArray::from_iter(with_gaps(|row| format!("a string in a view, row {row}"))))),
        ("binary", Arc::new(BinaryArray::from_iter(with_gaps(|row| vec![row as u8; row % 5])))),
        ("binary_view", Arc::new(BinaryViewArray::from_iter(with_gaps(|row| vec![row as u8; row])))),
        ("fixed_binary", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(with_gaps(|row| [row as u8; 3]), 3).unwrap())),
    ]
}

fn half(row: usize) -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_f32(row as f32 / 2.0)
}

fn nested_columns() -> Vec<(&'static str, ArrayRef)> {
    let views: ArrayRef = Arc::new(StringViewArray::from_iter((0..2 * ROWS).map(|i| Some(format!("an item in a list of views {i}")))));
    let item = |array: &ArrayRef| Arc::new(Field::new("item", array.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(vec![2; ROWS]);
    let gaps = NullBuffer::from_iter((0..ROWS).map(|row| row % 5 != 0));
    let list = ListArray::new(item(&views), offsets, Arc::clone(&views), Some(gaps.clone()));
    let large = LargeListArray::new(item(&views), OffsetBuffer::from_lengths(vec![2; ROWS]), Arc::clone(&views), None);
    let fixed = FixedSizeListArray::new(item(&views), 2, Arc::clone(&views), Some(gaps.clone()));
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter(with_gaps(|row| row as i32)));
    let words: DictionaryArray<Int8Type> = (0..ROWS).map(|row| Some(["to", "be", "or", "not"][row % 4])).collect();
    let words: ArrayRef = Arc::new(words);
    let sparse: DictionaryArray<UInt16Type> = (0..ROWS).map(|row| (row % 2 == 0).then_some("even")).collect();
    let pair = StructArray::new(
        Fields::from(vec![
            Field::new("number", DataType::Int32, true),
            Field::new("word", words.data_type().clone(), true),
            Field::new("list", list.data_type().clone(), true),
        ]),
        vec![numbers, Arc::clone(&words), Arc::new(list.clone())],
        Some(gaps),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in 0..ROWS {
        for entry in 0..row % 3 {
            map.keys().append_value(format!("key {entry}"));
            map.values().append_value(row as i64);
        }
        map.append(row % 4 != 0).unwrap();
    }
    let runs = Int32Array::from(vec![40, 90, ROWS as i32]);
    let runs = RunArray::<Int32Type>::try_new(&runs, &StringArray::from(vec!["a", "b", "c"])).unwrap();
    vec![
        ("list", Arc::new(list)),
        ("large_list", Arc::new(large)),
        ("fixed_list", Arc::new(fixed)),
        ("dictionary", words),
        ("other_dictionary", Arc::new(sparse)),
        ("struct", Arc::new(pair)),
        ("map", Arc::new(map.finish())),
        ("runs", Arc::new(runs)),
        ("union", Arc::new(union())),
    ]
}

fn union() -> UnionArray {
    let fields = [(0, Arc::new(Field::new("i", DataType::Int32, true))), (1, Arc::new(Field::new("s", DataType::Utf8, true)))];
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..ROWS as i32));
    let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("word {row}"))));
    let types: ScalarBuffer<i8> = (0..ROWS).map(|row| (row % 2) as i8).collect();
    UnionArray::try_new(fields.into_iter().collect(), types, None, vec![numbers, words]).unwrap()
}

fn every_type() -> RecordBatch {
    let columns: Vec<_> = flat_columns().into_iter().chain(nested_columns()).map(|(name, array)| (name, array, true)).collect();
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Writes `batches`, reads them as `reader`, and compares.
async fn comes_out_equal(holder: &Node, reader: &Node, batches: &[RecordBatch]) {
    let schema = batches[0].schema();
    let written: Vec<_> = batches.iter().map(|batch| (0, batch.clone())).collect();
    holder.produce(producer(0), 1, schema.clone(), &written);
    let read = reader.read(vec![holder.location(producer(0))], &[0], schema.clone()).await.unwrap();
    let read = concat_batches(&schema, &read).unwrap();
    let expected = concat_batches(&schema, batches).unwrap();
    assert_eq!(read.schema(), schema);
    assert_eq!(read.num_rows(), expected.num_rows());
    for (index, field) in schema.fields().iter().enumerate() {
        assert_eq!(read.column(index), expected.column(index), "{field}");
    }
    holder.exchange.forget(super::support::JOB);
}

fn cases() -> Vec<Vec<RecordBatch>> {
    let all = every_type();
    let without_columns = |rows| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap()
    };
    vec![
        vec![all.clone()],
        vec![all.slice(13, 40), all.slice(0, 1), all.slice(0, 0), all.slice(90, 11)],
        vec![all.slice(0, 0)],
        vec![without_columns(5), without_columns(100_000)],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_process() {
    for batches in cases() {
        let node = Node::start(|_| {}).await;
        comes_out_equal(&node, &node, &batches).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_spill_file() {
    for batches in cases() {
        let node = Node::start_with(0, |_| {}).await;
        comes_out_equal(&node, &node, &batches).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_flight_from_memory() {
    for batches in cases() {
        let (holder, reader) = (Node::start(|_| {}).await, Node::start(|config| config.hand_over = false).await);
        comes_out_equal(&holder, &reader, &batches).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_flight_from_disk() {
    for batches in cases() {
        let (holder, reader) = (Node::start_with(0, |_| {}).await, Node::start(|config| config.hand_over = false).await);
        comes_out_equal(&holder, &reader, &batches).await;
    }
}
