//! Arrow's types as PostgreSQL's.
//!
//! Columns are cast to the few types that have a counterpart ([`wire_type`]) before they are written. What has none, such as a struct, is
//! sent as JSON.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use pgwire::messages::data::{FieldDescription, RowDescription};
use postgres_types::{Kind, Type};

/// Marks of columns of the catalog, as datafusion-pg-catalog sets them.
const OID_KIND: &str = "pg.oid_alias";
const IS_CHAR: &str = "pg.char";

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    pub(super) kind: Type,
    modifier: i32,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl From<i16> for Format {
    fn from(code: i16) -> Self {
        if code == 1 { Self::Binary } else { Self::Text }
    }
}

/// The formats of so many values by the codes of a Bind message: none for text, one for all, or one for each.
pub(super) fn formats(codes: &[i16], count: usize) -> Option<Vec<Format>> {
    match codes {
        [] => Some(vec![Format::Text; count]),
        [code] => Some(vec![Format::from(*code); count]),
        codes => (codes.len() == count).then(|| codes.iter().map(|code| Format::from(*code)).collect()),
    }
}

/// The columns of rows with this schema.
pub(super) fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        kind: marked(field).unwrap_or_else(|| pg_type(field.data_type())),
        modifier: modifier(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

/// What the protocol says of columns.
pub(super) fn description(columns: &[Column], formats: &[Format]) -> RowDescription {
    let describe = |(index, column): (usize, &Column)| {
        let format = formats.get(index).copied().unwrap_or(Format::Text) as i16;
        FieldDescription::new(column.name.clone(), 0, 0, column.kind.oid(), width(&column.kind), column.modifier, format)
    };
    RowDescription::new(columns.iter().enumerate().map(describe).collect())
}

/// The type that a column of the catalog is marked with.
fn marked(field: &Field) -> Option<Type> {
    let metadata = field.metadata();
    match (field.data_type(), metadata.get(OID_KIND).map(String::as_str)) {
        (DataType::Int32, Some("oid")) => Some(Type::OID),
        (DataType::Utf8 | DataType::Utf8View, None) if metadata.contains_key(IS_CHAR) => Some(Type::CHAR),
        _ => None,
    }
}

/// The type that values of an Arrow type have on the wire.
pub(super) fn pg_type(data_type: &DataType) -> Type {
    match wire_type(data_type) {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 => Type::TEXT,
        DataType::Boolean => Type::BOOL,
        DataType::Int16 => Type::INT2,
        DataType::Int32 => Type::INT4,
        DataType::Int64 => Type::INT8,
        DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Decimal128(..) | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 => Type::DATE,
        DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::List(item) => array_of(&pg_type(item.data_type())).unwrap_or(Type::JSON),
        _ => Type::JSON,
    }
}

/// The type of arrays of a type; `None` where they are sent as JSON.
fn array_of(item: &Type) -> Option<Type> {
    Some(match *item {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        _ => return None,
    })
}

/// The type that a column is cast to before it is written.
pub(super) fn wire_type(data_type: &DataType) -> DataType {
    let listed = |item: &Arc<Field>| DataType::List(Arc::new(Field::new("item", wire_type(item.data_type()), true)));
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::RunEndEncoded(_, value) => wire_type(value.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => listed(item),
        other => other.clone(),
    }
}

/// The Arrow type that a parameter of a type has; `None` for types that are not taken.
pub(super) fn arrow_type(kind: &Type) -> Option<DataType> {
    if let Kind::Array(item) = kind.kind() {
        return Some(DataType::List(Arc::new(Field::new("item", arrow_type(item)?, true))));
    }
    Some(match *kind {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 12),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON | Type::JSONB | Type::UUID | Type::CHAR => {
            DataType::Utf8
        }
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        Type::INTERVAL => DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano),
        _ => return None,
    })
}

/// The name that a type has in `CAST(.. AS name)`; `None` for types that are not taken.
pub(super) fn sql_name(kind: &Type) -> Option<String> {
    if let Kind::Array(item) = kind.kind() {
        return Some(format!("{}[]", sql_name(item)?));
    }
    let name = match arrow_type(kind)? {
        DataType::Boolean => "BOOLEAN",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal128(..) => "DECIMAL(38, 12)",
        DataType::Binary => "BYTEA",
        DataType::Date32 => "DATE",
        DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Interval(_) => "INTERVAL",
        _ => "VARCHAR",
    };
    Some(name.to_owned())
}

/// The type with a name in SQL, which is in capitals.
pub(super) fn by_name(name: &str) -> Option<Type> {
    if let Some(item) = name.strip_suffix("[]") {
        let item = by_name(item)?;
        return if item == Type::OID { Some(Type::OID_ARRAY) } else { array_of(&item) };
    }
    Some(match name {
        "BOOL" | "BOOLEAN" => Type::BOOL,
        "SMALLINT" | "INT2" => Type::INT2,
        "INT" | "INTEGER" | "INT4" => Type::INT4,
        "BIGINT" | "INT8" => Type::INT8,
        "REAL" | "FLOAT4" => Type::FLOAT4,
        "DOUBLE" | "DOUBLE PRECISION" | "FLOAT8" | "FLOAT" => Type::FLOAT8,
        "DECIMAL" | "NUMERIC" => Type::NUMERIC,
        "TEXT" | "VARCHAR" | "CHARACTER VARYING" | "STRING" | "CHAR" | "NAME" => Type::TEXT,
        "BYTEA" => Type::BYTEA,
        "DATE" => Type::DATE,
        "TIME" | "TIME WITHOUT TIME ZONE" => Type::TIME,
        "TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE" => Type::TIMESTAMP,
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => Type::TIMESTAMPTZ,
        "INTERVAL" => Type::INTERVAL,
        "OID" => Type::OID,
        _ => return None,
    })
}

fn width(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// Precision and scale of a decimal, from which clients take how to show it; -1 for nothing to say.
fn modifier(data_type: &DataType) -> i32 {
    match wire_type(data_type) {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) if scale >= 0 => {
            (i32::from(precision) << 16 | i32::from(scale)) + 4
        }
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(item: DataType) -> DataType {
        DataType::LargeList(Arc::new(Field::new("x", item, false)))
    }

    #[test]
    fn types_have_counterparts_or_are_json() {
        let fields = datafusion::arrow::datatypes::Fields::from(vec![Field::new("a", DataType::Int64, true)]);
        for (arrow, kind) in [
            (DataType::UInt64, Type::NUMERIC),
            (DataType::Utf8View, Type::TEXT),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), Type::TEXT),
            (DataType::Timestamp(TimeUnit::Second, Some("+02:00".into())), Type::TIMESTAMPTZ),
            (list(DataType::UInt8), Type::INT2_ARRAY),
            (list(list(DataType::Int64)), Type::JSON),
            (list(DataType::Struct(fields.clone())), Type::JSON),
            (DataType::Struct(fields), Type::JSON),
            (DataType::Null, Type::TEXT),
        ] {
            assert_eq!(pg_type(&arrow), kind, "{arrow}");
        }
    }

    #[test]
    fn formats_are_none_one_or_all() {
        assert_eq!(formats(&[], 2), Some(vec![Format::Text; 2]));
        assert_eq!(formats(&[1], 2), Some(vec![Format::Binary; 2]));
        assert_eq!(formats(&[0, 1], 2), Some(vec![Format::Text, Format::Binary]));
        assert_eq!(formats(&[0, 1, 1], 2), None);
    }
}
