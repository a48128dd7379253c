use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::DataType;

use super::super::{Answer, Columns, Difference, Order, PublishedAnswer, Verdict, compare, contained, matches_published};

fn answer(columns: Vec<(&str, ArrayRef)>) -> Answer {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Answer { schema: batch.schema(), batches: vec![batch] }
}

fn ints(name: &'static str, values: &[i64]) -> (&'static str, ArrayRef) {
    (name, Arc::new(Int64Array::from(values.to_vec())))
}

fn floats(name: &'static str, values: &[f64]) -> (&'static str, ArrayRef) {
    (name, Arc::new(Float64Array::from(values.to_vec())))
}

fn texts(name: &'static str, values: &[&str]) -> (&'static str, ArrayRef) {
    (name, Arc::new(StringArray::from(values.to_vec())))
}

fn unordered() -> Order {
    Order::default()
}

#[test]
fn rows_in_another_order_and_in_other_batches_are_equal() {
    let expected = answer(vec![ints("k", &[1, 2, 2]), texts("t", &["a", "b", "b"])]);
    let one = answer(vec![ints("k", &[2]), texts("t", &["b"])]);
    let two = answer(vec![ints("k", &[2, 1]), texts("t", &["b", "a"])]);
    let actual = Answer { schema: one.schema.clone(), batches: [one.batches, two.batches].concat() };
    assert_eq!(compare(&expected, &actual, &unordered()).unwrap(), Verdict::Equal);
}

#[test]
fn a_row_twice_instead_of_another_is_a_difference() {
    let expected = answer(vec![ints("k", &[1, 2, 2])]);
    let actual = answer(vec![ints("k", &[1, 1, 2])]);
    let difference = compare(&expected, &actual, &unordered()).unwrap_err();
    assert_eq!(difference.to_string(), "1 of 3 rows differ; expected but missing: [2]; not expected: [1]");
}

#[test]
fn a_missing_row_is_named() {
    let expected = answer(vec![ints("k", &[1, 2]), texts("t", &["a", "b"])]);
    let actual = answer(vec![ints("k", &[1]), texts("t", &["a"])]);
    let difference = compare(&expected, &actual, &unordered()).unwrap_err();
    assert_eq!(difference.to_string(), "expected 2 rows, got 1; expected but missing: [2|b]; not expected: []");
}

#[test]
fn floats_may_differ_by_a_billionth() {
    let expected = answer(vec![ints("k", &[1, 2]), floats("f", &[3.0, 1e12])]);
    let near = answer(vec![ints("k", &[2, 1]), floats("f", &[1e12 + 100.0, 3.0 + 1e-10])]);
    assert_eq!(compare(&expected, &near, &unordered()).unwrap(), Verdict::Equal);
    let far = answer(vec![ints("k", &[1, 2]), floats("f", &[3.0 + 1e-8, 1e12])]);
    assert!(matches!(compare(&expected, &far, &unordered()), Err(Difference::Rows { count: 1, of: 2, .. })));
}

#[test]
fn near_floats_that_swap_the_sorted_order_of_rows_still_match() {
    let tiny = 1.0 + 1e-12;
    let expected = answer(vec![floats("f", &[1.0, tiny]), floats("g", &[10.0, 20.0])]);
    let actual = answer(vec![floats("f", &[1.0, tiny]), floats("g", &[20.0, 10.0])]);
    assert_eq!(compare(&expected, &actual, &unordered()).unwrap(), Verdict::Equal);
}

#[test]
fn nan_null_and_infinity_are_equal_to_themselves_only() {
    let column = |values: Vec<Option<f64>>| answer(vec![("f", Arc::new(Float64Array::from(values)) as ArrayRef)]);
    let expected = column(vec![Some(f64::NAN), None, Some(f64::INFINITY)]);
    assert_eq!(compare(&expected, &expected.clone(), &unordered()).unwrap(), Verdict::Equal);
    for other in [Some(0.0), None, Some(f64::MAX)] {
        let actual = column(vec![Some(f64::NAN), other, other]);
        assert!(compare(&expected, &actual, &unordered()).is_err(), "{other:?}");
    }
}

#[test]
fn other_types_and_other_names_are_differences() {
    let expected = answer(vec![ints("k", &[1])]);
    let renamed = answer(vec![ints("l", &[1])]);
    let difference = compare(&expected, &renamed, &unordered()).unwrap_err();
    assert_eq!(difference.to_string(), "columns differ: expected k Int64, got l Int64");
    let decimal = Decimal128Array::from(vec![1]).with_precision_and_scale(10, 0).unwrap();
    let retyped = answer(vec![("k", Arc::new(decimal))]);
    assert!(matches!(compare(&expected, &retyped, &unordered()), Err(Difference::Columns { .. })));
}

#[test]
fn keys_out_of_order_are_a_difference_though_the_rows_are_equal() {
    let expected = answer(vec![ints("k", &[1, 2, 2]), texts("t", &["a", "b", "c"])]);
    let order = Order { keys: vec![0], limited: false };
    let tied = answer(vec![ints("k", &[1, 2, 2]), texts("t", &["a", "c", "b"])]);
    assert_eq!(compare(&expected, &tied, &order).unwrap(), Verdict::Equal);
    let swapped = answer(vec![ints("k", &[2, 1, 2]), texts("t", &["b", "a", "c"])]);
    let difference = compare(&expected, &swapped, &order).unwrap_err();
    assert_eq!(difference.to_string(), "ORDER BY columns differ first in row 1: expected [1|a], got [2|b]");
}

#[test]
fn rows_that_tie_at_a_limit_are_looked_up_in_the_unlimited_answer() {
    let order = Order { keys: vec![0], limited: true };
    let all = answer(vec![ints("k", &[1, 2, 2]), texts("t", &["a", "b", "c"])]);
    let expected = answer(vec![ints("k", &[1, 2]), texts("t", &["a", "b"])]);
    let tied = answer(vec![ints("k", &[1, 2]), texts("t", &["a", "c"])]);
    assert_eq!(compare(&expected, &tied, &order).unwrap(), Verdict::MayTie { rows: 1 });
    contained(&all, &tied).unwrap();
    let invented = answer(vec![ints("k", &[1, 2]), texts("t", &["a", "d"])]);
    assert_eq!(compare(&expected, &invented, &order).unwrap(), Verdict::MayTie { rows: 1 });
    assert!(contained(&all, &invented).is_err());
    let wrong_key = answer(vec![ints("k", &[1, 3]), texts("t", &["a", "b"])]);
    assert!(matches!(compare(&expected, &wrong_key, &order), Err(Difference::Rows { count: 1, .. })));
}

#[test]
fn answers_without_rows_are_equal() {
    let empty = Answer { batches: Vec::new(), ..answer(vec![ints("k", &[])]) };
    let order = Order { keys: vec![0], limited: false };
    assert_eq!(compare(&empty, &answer(vec![ints("k", &[])]), &order).unwrap(), Verdict::Equal);
}

#[test]
fn published_numbers_are_rounded_to_their_last_digit() {
    let decimals = |values: Vec<i128>| Arc::new(Decimal128Array::from(values).with_precision_and_scale(12, 4).unwrap()) as ArrayRef;
    let published = PublishedAnswer::parse("t|v\nx |12.35\ny|-0.5\n");
    assert_eq!(published.columns, ["t", "v"]);
    let right = answer(vec![texts("t", &["y", "x"]), ("v", decimals(vec![-5_400, 123_450]))]);
    matches_published(&published, &right, Columns::All).unwrap();
    let wrong = answer(vec![texts("t", &["y", "x"]), ("v", decimals(vec![-5_000, 123_700]))]);
    let difference = matches_published(&published, &wrong, Columns::All).unwrap_err();
    assert_eq!(difference.to_string(), "1 of 2 rows differ; expected but missing: [x|12.35]; not expected: [x|12.3700]");
}

#[test]
fn an_average_with_fewer_digits_than_published_is_right() {
    let average = Arc::new(Decimal128Array::from(vec![25_522_005]).with_precision_and_scale(19, 6).unwrap()) as ArrayRef;
    let actual = answer(vec![("a", average)]);
    matches_published(&PublishedAnswer::parse("a\n25.522005853257337\n"), &actual, Columns::All).unwrap();
    assert!(matches_published(&PublishedAnswer::parse("a\n25.522107\n"), &actual, Columns::All).is_err());
}

#[test]
fn free_text_can_be_left_out() {
    let published = PublishedAnswer::parse("s_name|s_address\na|x\n");
    let actual = answer(vec![texts("s_name", &["a"]), texts("s_address", &["y"])]);
    assert!(matches_published(&published, &actual, Columns::All).is_err());
    matches_published(&published, &actual, Columns::WithoutText).unwrap();
    let other = answer(vec![texts("s_name", &["b"]), texts("s_address", &["x"])]);
    assert!(matches_published(&published, &other, Columns::WithoutText).is_err());
}

mod orders {
    use super::*;
    use crate::verify::without_limit;
    use datafusion::prelude::SessionContext;

    async fn order(sql: &str) -> Order {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t AS VALUES (1, 2, 3)").await.unwrap();
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        Order::of(&plan)
    }

    #[tokio::test]
    async fn keys_are_found_by_their_output_column() {
        let keys = |keys: &[usize], limited| Order { keys: keys.to_vec(), limited };
        assert_eq!(order("SELECT column1 FROM t").await, keys(&[], false));
        assert_eq!(order("SELECT column1 a, column2 b FROM t ORDER BY b DESC, a").await, keys(&[1, 0], false));
        assert_eq!(order("SELECT column1 a FROM t ORDER BY a LIMIT 3").await, keys(&[0], true));
        assert_eq!(order("SELECT column1 a FROM t ORDER BY column2, a").await, keys(&[], false));
        assert_eq!(order("SELECT column1 a FROM t ORDER BY a, column1 + column2").await, keys(&[0], false));
        assert_eq!(order("SELECT column2, sum(column1) FROM t GROUP BY column2 ORDER BY sum(column1)").await, keys(&[1], false));
        assert_eq!(order("SELECT * FROM (SELECT column3 c, column1 FROM t ORDER BY column1 LIMIT 5) s").await, keys(&[1], true));
    }

    #[tokio::test]
    async fn a_limit_is_taken_off() {
        let context = SessionContext::new();
        let sql = "SELECT c FROM (SELECT * FROM (VALUES (1), (2), (3)) AS v(c)) s ORDER BY c LIMIT 1 OFFSET 1";
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        let plan = without_limit(plan).unwrap();
        assert_eq!(plan.schema().field(0).data_type(), &DataType::Int64);
        let rows = context.execute_logical_plan(plan).await.unwrap().count().await.unwrap();
        assert_eq!(rows, 3);
    }
}
