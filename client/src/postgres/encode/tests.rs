//! Values against what PostgreSQL sends of them.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Float64Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, StringArray, StructArray, Time32SecondArray, TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Int32Type, Int64Type, IntervalMonthDayNano, Schema};

use super::*;

fn written(array: ArrayRef, format: Format) -> Vec<Option<Vec<u8>>> {
    let schema = Arc::new(Schema::new(vec![Field::new("x", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
    let mut rows = Rows::new(&batch, &[format]).unwrap();
    let value = |row| {
        let data = rows.row(row).unwrap().data;
        let length = i32::from_be_bytes(data[..4].try_into().unwrap());
        (length >= 0).then(|| {
            assert_eq!(data.len(), 4 + length as usize);
            data[4..].to_vec()
        })
    };
    (0..batch.num_rows()).map(value).collect()
}

fn texts(array: ArrayRef) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| value.map_or("NULL".to_owned(), |value| String::from_utf8(value).unwrap());
    written(array, Format::Text).into_iter().map(text).collect()
}

#[test]
fn floats_are_as_short_as_they_can_be() {
    let values = [0.0, -0.0, 1.5, 100.0, 123456789012345.0, 1e15, 0.0001, 0.00001, -2.5e-300, f64::NAN, f64::NEG_INFINITY, 0.1];
    let expected = ["0", "-0", "1.5", "100", "123456789012345", "1e+15", "0.0001", "1e-05", "-2.5e-300", "NaN", "-Infinity", "0.1"];
    assert_eq!(texts(Arc::new(Float64Array::from(values.to_vec()))), expected);
}

#[test]
fn plain_values_and_nulls() {
    assert_eq!(texts(Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))), ["t", "NULL", "f"]);
    assert_eq!(texts(Arc::new(UInt64Array::from(vec![u64::MAX]))), ["18446744073709551615"]);
    let decimals = Decimal128Array::from(vec![Some(-150), None]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(texts(Arc::new(decimals)), ["-1.50", "NULL"]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("")].into_iter().collect();
    assert_eq!(texts(Arc::new(dictionary)), ["a", "NULL", ""]);
    assert_eq!(written(Arc::new(Int64Array::from(vec![-2])), Format::Binary), [Some(vec![255, 255, 255, 255, 255, 255, 255, 254])]);
    assert_eq!(texts(datafusion::arrow::array::new_null_array(&DataType::Null, 2)), ["NULL", "NULL"]);
}

#[test]
fn moments_have_no_zeros_at_their_end() {
    let nanos = vec![Some(0), Some(1_700_000_000_120_000_000), Some(-1), None];
    let plain = TimestampNanosecondArray::from(nanos.clone());
    assert_eq!(texts(Arc::new(plain)), ["1970-01-01 00:00:00", "2023-11-14 22:13:20.12", "1970-01-01 00:00:00", "NULL"]);
    let zoned = TimestampNanosecondArray::from(nanos).with_timezone("+05:30");
    assert_eq!(texts(Arc::new(zoned))[1], "2023-11-15 03:43:20.12+05:30");
    assert_eq!(texts(Arc::new(Time32SecondArray::from(vec![3_661]))), ["01:01:01"]);
    let days = datafusion::arrow::array::Date32Array::from(vec![0, -800_000]);
    assert_eq!(texts(Arc::new(days.clone())), ["1970-01-01", "0222-09-04 BC"]);
    assert_eq!(written(Arc::new(days), Format::Binary)[0], Some((-EPOCH_DAYS).to_be_bytes().to_vec()));
}

#[test]
fn intervals_are_in_postgres_style() {
    let values = vec![
        Some(IntervalMonthDayNano::new(14, 3, 4_005_006_000_000)),
        Some(IntervalMonthDayNano::new(0, 0, 0)),
        Some(IntervalMonthDayNano::new(-1, 1, -1_500_000_000)),
        None,
    ];
    assert_eq!(
        texts(Arc::new(IntervalMonthDayNanoArray::from(values))),
        ["1 year 2 mons 3 days 01:06:45.006", "00:00:00", "-1 mons +1 day -00:00:01.5", "NULL"]
    );
}

#[test]
fn lists_are_arrays() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(texts(Arc::new(lists.clone())), ["{1,NULL}", "NULL", "{}"]);
    let binary = written(Arc::new(lists), Format::Binary);
    let one = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255];
    assert_eq!(binary, [Some(one.to_vec()), None, Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20])]);
    let words = StringArray::from(vec!["a b", "NULL", "", "q\"\\", "x", "{"]);
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let fixed = FixedSizeListArray::try_new(item, 3, Arc::new(words), None).unwrap();
    assert_eq!(texts(Arc::new(fixed)), [r#"{"a b","NULL",""}"#, r#"{"q\"\\",x,"{"}"#]);
}

#[test]
fn what_has_no_counterpart_is_json() {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x\"y"), Some("z")]));
    let row = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), a),
        (Arc::new(Field::new("b", DataType::Utf8, true)), b),
    ]);
    assert_eq!(texts(Arc::new(row)), [r#"{"a":1,"b":"x\"y"}"#, r#"{"a":null,"b":"z"}"#]);
}
