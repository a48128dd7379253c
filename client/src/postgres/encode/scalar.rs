//! Values that are not made of others.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, StringArray,
};
use datafusion::arrow::datatypes::DataType;

use super::{Put, downcast, numeric, time};
use crate::postgres::error::{Refusal, state};
use crate::postgres::types::Format;

/// A writer for the non-null values of an array of a wire type.
pub(super) fn writer(array: &ArrayRef, format: Format) -> Result<Put, Refusal> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => booleans(downcast(array)?, format),
        DataType::Int16 => numbers(downcast::<Int16Array>(array)?, format, Int16Array::value, |value, out| out.put_i16(value)),
        DataType::Int32 => numbers(downcast::<Int32Array>(array)?, format, Int32Array::value, |value, out| out.put_i32(value)),
        DataType::Int64 => numbers(downcast::<Int64Array>(array)?, format, Int64Array::value, |value, out| out.put_i64(value)),
        DataType::Float32 => {
            let array: Float32Array = downcast(array)?;
            floats(move |row| array.value(row), format, |value, out| out.put_f32(value), f32::is_nan)
        }
        DataType::Float64 => {
            let array: Float64Array = downcast(array)?;
            floats(move |row| array.value(row), format, |value, out| out.put_f64(value), f64::is_nan)
        }
        DataType::Decimal128(_, scale) => {
            let (array, scale): (Decimal128Array, _) = (downcast(array)?, *scale);
            Box::new(move |row, out| numeric::put(&array.value(row).to_string(), scale, format, out))
        }
        DataType::Decimal256(_, scale) => {
            let (array, scale): (Decimal256Array, _) = (downcast(array)?, *scale);
            Box::new(move |row, out| numeric::put(&array.value(row).to_string(), scale, format, out))
        }
        DataType::Utf8 => {
            let array: StringArray = downcast(array)?;
            Box::new(move |row, out| text(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array: LargeStringArray = downcast(array)?;
            Box::new(move |row, out| text(array.value(row), out))
        }
        DataType::Binary => {
            let array: BinaryArray = downcast(array)?;
            Box::new(move |row, out| bytes(array.value(row), format, out))
        }
        DataType::LargeBinary => {
            let array: LargeBinaryArray = downcast(array)?;
            Box::new(move |row, out| bytes(array.value(row), format, out))
        }
        DataType::FixedSizeBinary(_) => {
            let array: FixedSizeBinaryArray = downcast(array)?;
            Box::new(move |row, out| bytes(array.value(row), format, out))
        }
        _ => return time::writer(array, format),
    })
}

fn booleans(array: BooleanArray, format: Format) -> Put {
    match format {
        Format::Text => Box::new(move |row, out| {
            out.put_u8(if array.value(row) { b't' } else { b'f' });
            Ok(())
        }),
        Format::Binary => Box::new(move |row, out| {
            out.put_u8(u8::from(array.value(row)));
            Ok(())
        }),
    }
}

fn numbers<A, T>(array: A, format: Format, value: fn(&A, usize) -> T, binary: fn(T, &mut BytesMut)) -> Put
where
    A: Array + 'static,
    T: std::fmt::Display + 'static,
{
    match format {
        Format::Text => Box::new(move |row, out| write_text(out, &value(&array, row))),
        Format::Binary => Box::new(move |row, out| {
            binary(value(&array, row), out);
            Ok(())
        }),
    }
}

fn floats<T>(value: impl Fn(usize) -> T + Send + 'static, format: Format, binary: fn(T, &mut BytesMut), is_nan: fn(T) -> bool) -> Put
where
    T: Copy + std::fmt::LowerExp + 'static,
{
    match format {
        Format::Text => Box::new(move |row, out| {
            let value = value(row);
            float(&format!("{value:e}"), is_nan(value), out);
            Ok(())
        }),
        Format::Binary => Box::new(move |row, out| {
            binary(value(row), out);
            Ok(())
        }),
    }
}

/// The fewest digits that mean the same number, which Rust writes as `-1.25e-7`, in PostgreSQL's way.
fn float(scientific: &str, is_nan: bool, out: &mut BytesMut) {
    let (sign, unsigned) = match scientific.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", scientific),
    };
    let split = unsigned.split_once('e').and_then(|(mantissa, exponent)| Some((mantissa, exponent.parse::<i32>().ok()?)));
    let Some((mantissa, exponent)) = split else {
        let name = if is_nan { "NaN" } else { "Infinity" };
        out.put_slice(if is_nan { "" } else { sign }.as_bytes());
        out.put_slice(name.as_bytes());
        return;
    };
    out.put_slice(sign.as_bytes());
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let text = match exponent {
        -4..0 => format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        0..15 => {
            let whole = exponent as usize + 1;
            match digits.len().checked_sub(whole) {
                None | Some(0) => format!("{digits}{}", "0".repeat(whole - digits.len())),
                Some(_) => format!("{}.{}", &digits[..whole], &digits[whole..]),
            }
        }
        _ => format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    };
    out.put_slice(text.as_bytes());
}

fn text(value: &str, out: &mut BytesMut) -> Result<(), Refusal> {
    out.put_slice(value.as_bytes());
    Ok(())
}

fn bytes(value: &[u8], format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    match format {
        Format::Binary => out.put_slice(value),
        Format::Text => {
            out.reserve(2 + 2 * value.len());
            out.put_slice(b"\\x");
            for byte in value {
                out.put_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
        }
    }
    Ok(())
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// Writes what displays itself.
pub(super) fn write_text(out: &mut BytesMut, value: &dyn std::fmt::Display) -> Result<(), Refusal> {
    write!(out, "{value}").map_err(|_| Refusal::new(state::INTERNAL, "a value can't be written"))
}
