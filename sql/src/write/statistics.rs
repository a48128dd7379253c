//! What the log of a Delta Lake table says of a file: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics>.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::scalar::ScalarValue;
use serde_json::{Map, Number, Value, json};

/// Columns of which bounds are kept, as the format has it where a table does not say otherwise.
const INDEXED_COLUMNS: usize = 32;

/// The number of rows of a file, and the bounds and null counts of its first columns, as far as its footer has them.
pub(super) fn statistics_of(metadata: &ParquetMetaData, schema: &Schema) -> Result<Value> {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in schema.fields().iter().filter(|field| !field.data_type().is_nested()).take(INDEXED_COLUMNS) {
        let converter = StatisticsConverter::try_new(field.name(), schema, metadata.file_metadata().schema_descr())?;
        let groups = metadata.row_groups();
        let counts = converter.row_group_null_counts(groups)?;
        if counts.null_count() == 0 {
            let count: u64 = counts.iter().flatten().sum();
            nulls.insert(field.name().clone(), count.into());
        }
        let bounds = (converter.row_group_mins(groups)?, converter.row_group_maxes(groups)?);
        if let (Some(min), Some(max)) = (extreme(&bounds.0, false)?, extreme(&bounds.1, true)?) {
            least.insert(field.name().clone(), min);
            greatest.insert(field.name().clone(), max);
        }
    }
    let rows = metadata.file_metadata().num_rows();
    Ok(json!({ "numRecords": rows, "minValues": least, "maxValues": greatest, "nullCount": nulls }))
}

/// The least or greatest of the bounds of row groups; `None` where one of them has none.
fn extreme(bounds: &ArrayRef, is_upper: bool) -> Result<Option<Value>> {
    let bounds = match bounds.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => &datafusion::arrow::compute::cast(bounds, &DataType::Utf8)?,
        _ => bounds,
    };
    if bounds.is_empty() || bounds.null_count() > 0 {
        return Ok(None);
    }
    let mut extreme = ScalarValue::try_from_array(bounds, 0)?;
    for row in 1..bounds.len() {
        let other = ScalarValue::try_from_array(bounds, row)?;
        let is_further = if is_upper { other > extreme } else { other < extreme };
        if is_further {
            extreme = other;
        }
    }
    Ok(bound_json(&extreme))
}

/// A bound as JSON; `None` for types that have none there.
fn bound_json(bound: &ScalarValue) -> Option<Value> {
    match bound {
        ScalarValue::Int8(Some(value)) => Some((*value).into()),
        ScalarValue::Int16(Some(value)) => Some((*value).into()),
        ScalarValue::Int32(Some(value)) => Some((*value).into()),
        ScalarValue::Int64(Some(value)) => Some((*value).into()),
        ScalarValue::Float32(Some(value)) => Number::from_f64(f64::from(*value)).map(Value::Number),
        ScalarValue::Float64(Some(value)) => Number::from_f64(*value).map(Value::Number),
        ScalarValue::Utf8(Some(text)) => Some(Value::String(text.clone())),
        // Readers take the number for a float, which holds so many digits.
        ScalarValue::Decimal128(Some(_), ..=15, _) => serde_json::from_str(&bound.to_string()).ok(),
        ScalarValue::Date32(Some(days)) => {
            let date = NaiveDate::default().checked_add_signed(TimeDelta::days(i64::from(*days)))?;
            Some(Value::String(date.to_string()))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), _) => {
            Some(Value::String(DateTime::from_timestamp_micros(*micros)?.to_rfc3339_opts(SecondsFormat::Micros, true)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Date32Array, Int64Array, RecordBatch, StringArray};
    use datafusion::parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn a_footer_gives_bounds_and_null_counts() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int64Array::from(vec![Some(3), None, Some(-1)]))),
            ("s", Arc::new(StringArray::from(vec!["x", "y", "b"]))),
            ("d", Arc::new(Date32Array::from(vec![0, 1, 2]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let metadata = writer.close().unwrap();
        let expected = json!({
            "numRecords": 3,
            "minValues": { "a": -1, "s": "b", "d": "1970-01-01" },
            "maxValues": { "a": 3, "s": "y", "d": "1970-01-03" },
            "nullCount": { "a": 1, "s": 0, "d": 0 },
        });
        assert_eq!(statistics_of(&metadata, &batch.schema()).unwrap(), expected);
    }
}
