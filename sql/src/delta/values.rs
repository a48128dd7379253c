//! Values as the log has them: text, or JSON.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;
use serde_json::Value;

/// A partition value, which the log has as text. Nothing and the empty text are NULL.
pub(super) fn partition_value(text: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    match text {
        None | Some("") => ScalarValue::try_from(data_type),
        Some(text) => ScalarValue::Utf8(Some(text.to_owned())).cast_to(data_type),
    }
}

/// A bound of a column in the statistics of a file; `None` where it can't be used.
pub(super) fn bound(value: &Value, data_type: &DataType, is_upper: bool) -> Option<ScalarValue> {
    // Readers and writers have passed such numbers through floats, and bytes through escapes.
    let is_inexact = match data_type {
        DataType::Decimal128(precision, _) => *precision > 15,
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::Decimal256(..) => true,
        _ => false,
    };
    if is_inexact {
        return None;
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let bound = ScalarValue::Utf8(Some(text)).cast_to(data_type).ok().filter(|bound| !bound.is_null())?;
    match bound {
        // Writers cut what is finer than a millisecond.
        ScalarValue::TimestampMicrosecond(Some(micros), zone) if is_upper => {
            Some(ScalarValue::TimestampMicrosecond(Some(micros.checked_add(999)?), zone))
        }
        other => Some(other),
    }
}

/// The text of a partition value in the log, from that of the directory of a file.
pub(super) fn partition_text(text: &str, data_type: &DataType) -> String {
    match data_type {
        // The engine writes `T` and `Z`; the log has a space and no zone.
        DataType::Timestamp(TimeUnit::Microsecond, _) => text.replacen('T', " ", 1).trim_end_matches('Z').to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_text_or_numbers() {
        let days = bound(&Value::String("1970-01-11".into()), &DataType::Date32, false);
        assert_eq!(days, Some(ScalarValue::Date32(Some(10))));
        assert_eq!(bound(&serde_json::json!(-1.25), &DataType::Decimal128(10, 2), true), Some(ScalarValue::Decimal128(Some(-125), 10, 2)));
        assert_eq!(bound(&serde_json::json!(1_234_567_890_123_456.0), &DataType::Decimal128(18, 2), true), None);
        assert_eq!(bound(&serde_json::json!({ "nested": 1 }), &DataType::Int64, true), None);
    }

    #[test]
    fn an_upper_bound_of_a_time_covers_what_was_cut() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let written = Value::String("2024-05-06T07:08:09.123Z".into());
        let least = bound(&written, &micros, false).unwrap();
        let greatest = bound(&written, &micros, true).unwrap();
        let (ScalarValue::TimestampMicrosecond(Some(least), _), ScalarValue::TimestampMicrosecond(Some(greatest), _)) = (least, greatest)
        else {
            panic!("no timestamps");
        };
        assert_eq!(greatest - least, 999);
    }

    #[test]
    fn partition_values_are_text() {
        assert_eq!(partition_value(Some("7"), &DataType::Int32).unwrap(), ScalarValue::Int32(Some(7)));
        assert!(partition_value(Some(""), &DataType::Utf8View).unwrap().is_null());
        assert!(partition_value(None, &DataType::Date32).unwrap().is_null());
        assert!(partition_value(Some("x"), &DataType::Int32).is_err());
    }
}
