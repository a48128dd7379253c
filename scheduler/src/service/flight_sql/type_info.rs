//! What GetXdbcTypeInfo answers: the SQL types that a column can have, as ODBC and JDBC number them.

use std::sync::LazyLock;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// The protocol numbers the subcode of a date like that of a year.
const SUBCODE_DATE: XdbcDatetimeSubcode = XdbcDatetimeSubcode::XdbcSubcodeYear;

/// The answers; made once.
pub(super) static TYPE_INFO: LazyLock<Result<XdbcTypeInfoData, FlightError>> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    types.append(plain("BOOLEAN", XdbcDataType::XdbcBit, 1));
    types.append(number("TINYINT", XdbcDataType::XdbcTinyint, 3));
    types.append(number("SMALLINT", XdbcDataType::XdbcSmallint, 5));
    types.append(number("INTEGER", XdbcDataType::XdbcInteger, 10));
    types.append(number("BIGINT", XdbcDataType::XdbcBigint, 19));
    types.append(number("REAL", XdbcDataType::XdbcReal, 7));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 15));
    types.append(number("FLOAT", XdbcDataType::XdbcFloat, 15));
    types.append(decimal("DECIMAL", XdbcDataType::XdbcDecimal));
    types.append(decimal("NUMERIC", XdbcDataType::XdbcNumeric));
    types.append(text("CHAR", XdbcDataType::XdbcChar));
    types.append(text("VARCHAR", XdbcDataType::XdbcVarchar));
    types.append(text("TEXT", XdbcDataType::XdbcLongvarchar));
    types.append(binary("BYTEA", XdbcDataType::XdbcVarbinary));
    types.append(moment("DATE", XdbcDataType::XdbcDate, SUBCODE_DATE, 10));
    types.append(moment("TIME", XdbcDataType::XdbcTime, XdbcDatetimeSubcode::XdbcSubcodeTime, 18));
    types.append(moment("TIMESTAMP", XdbcDataType::XdbcTimestamp, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, 29));
    types.build()
});

fn plain(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        column_size: Some(size),
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.into()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: data_type,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    }
}

fn number(name: &str, data_type: XdbcDataType, digits: i32) -> XdbcTypeInfo {
    XdbcTypeInfo { unsigned_attribute: Some(false), num_prec_radix: Some(10), ..plain(name, data_type, digits) }
}

fn decimal(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        ..number(name, data_type, 76)
    }
}

fn text(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        case_sensitive: true,
        ..plain(name, data_type, i32::MAX)
    }
}

fn binary(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo { literal_prefix: Some("X'".into()), literal_suffix: Some("'".into()), ..plain(name, data_type, i32::MAX) }
}

fn moment(name: &str, data_type: XdbcDataType, subcode: XdbcDatetimeSubcode, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(format!("{name} '")),
        literal_suffix: Some("'".into()),
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..plain(name, data_type, size)
    }
}
