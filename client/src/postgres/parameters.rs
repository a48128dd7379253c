//! Parameters of a Bind message as values.

use bytes::{Buf, Bytes};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::ScalarValue;
use postgres_types::{Kind, Type};

use super::encode::{EPOCH_DAYS, EPOCH_MICROS, binary_to_text, unscaled};
use super::error::{Refusal, state};
use super::types::{Format, arrow_type};

/// A value of a type as it was sent; `wanted` is the type that the statement gives the parameter, where it gives one.
pub(super) fn decode(kind: &Type, format: Format, sent: Option<&Bytes>, wanted: Option<&DataType>) -> Result<ScalarValue, Refusal> {
    let own = arrow_type(kind).ok_or_else(|| Refusal::new(state::UNSUPPORTED, format!("parameters of type {kind} are not supported")))?;
    let target = wanted.unwrap_or(&own);
    let Some(sent) = sent else {
        return ScalarValue::try_from(target).map_err(Refusal::from);
    };
    let value = match format {
        Format::Binary => binary(kind, sent.clone())?,
        Format::Text => text(kind, std::str::from_utf8(sent).map_err(|_| Refusal::new("22021", "a parameter is not UTF-8"))?)?,
    };
    // A decimal keeps its digits: to round it to those of what it is compared with would compare with something else.
    if value.data_type() == *target || (matches!(value, ScalarValue::Decimal128(..)) && target.is_decimal()) {
        return Ok(value);
    }
    let is_text = value.data_type() == DataType::Utf8;
    value.cast_to(target).map_err(|error| {
        let (state, shown) = if is_text { (state::BAD_TEXT, format!("'{value}'")) } else { (state::OUT_OF_RANGE, value.to_string()) };
        Refusal::new(state, format!("parameter {shown} is no {target}: {}", error.find_root().strip_backtrace()))
    })
}

fn binary(kind: &Type, mut sent: Bytes) -> Result<ScalarValue, Refusal> {
    if let Kind::Array(item) = kind.kind() {
        return array(item, sent);
    }
    let size = sent.len();
    let wrong = || Refusal::new("22P03", format!("a binary parameter of type {kind} has {size} bytes"));
    let fixed = match *kind {
        Type::BOOL => Some(1),
        Type::INT2 => Some(2),
        Type::INT4 | Type::OID | Type::FLOAT4 | Type::DATE => Some(4),
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => Some(8),
        Type::INTERVAL | Type::UUID => Some(16),
        _ => None,
    };
    if fixed.is_some_and(|fixed| fixed != size) || (*kind == Type::JSONB && size == 0) {
        return Err(wrong());
    }
    if *kind == Type::JSONB {
        // Its version comes first.
        sent.advance(1);
    }
    let beyond = || Refusal::new("22008", "a date is out of range");
    Ok(match *kind {
        Type::BOOL => ScalarValue::Boolean(Some(sent[0] != 0)),
        Type::INT2 => ScalarValue::Int16(Some(sent.get_i16())),
        Type::INT4 => ScalarValue::Int32(Some(sent.get_i32())),
        Type::OID => ScalarValue::Int64(Some(i64::from(sent.get_u32()))),
        Type::INT8 => ScalarValue::Int64(Some(sent.get_i64())),
        Type::FLOAT4 => ScalarValue::Float32(Some(sent.get_f32())),
        Type::FLOAT8 => ScalarValue::Float64(Some(sent.get_f64())),
        Type::NUMERIC => decimal(&binary_to_text(&sent)?)?,
        Type::BYTEA => ScalarValue::Binary(Some(sent.to_vec())),
        Type::DATE => ScalarValue::Date32(Some(sent.get_i32().checked_add(EPOCH_DAYS).ok_or_else(beyond)?)),
        Type::TIME => ScalarValue::Time64Microsecond(Some(sent.get_i64())),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = sent.get_i64().checked_add(EPOCH_MICROS).ok_or_else(beyond)?;
            let zone = (*kind == Type::TIMESTAMPTZ).then(|| "+00:00".into());
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        Type::INTERVAL => {
            let (micros, days, months) = (sent.get_i64(), sent.get_i32(), sent.get_i32());
            let nanos = micros.checked_mul(1000).ok_or_else(|| Refusal::new("22015", "an interval is out of range"))?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
        }
        Type::UUID => ScalarValue::Utf8(Some(uuid::Uuid::from_slice(&sent).map_err(|_| wrong())?.to_string())),
        _ => {
            let text = std::str::from_utf8(&sent).map_err(|_| Refusal::new("22021", "a parameter is not UTF-8"))?;
            ScalarValue::Utf8(Some(text.to_owned()))
        }
    })
}

/// An array of one dimension, or an empty one.
fn array(item: &Type, mut sent: Bytes) -> Result<ScalarValue, Refusal> {
    let short = || Refusal::new("22P03", "a binary array is cut short");
    let element = arrow_type(item).ok_or_else(|| Refusal::new(state::UNSUPPORTED, format!("arrays of {item} are not supported")))?;
    let dimensions = sent.try_get_i32().map_err(|_| short())?;
    if sent.len() < 8 || dimensions < 0 {
        return Err(short());
    }
    sent.advance(8);
    if dimensions > 1 {
        return Err(Refusal::new(state::UNSUPPORTED, "parameters with arrays of more than one dimension are not supported"));
    }
    let mut values = vec![];
    if dimensions == 1 {
        let count = sent.try_get_i32().map_err(|_| short())?;
        sent.try_get_i32().map_err(|_| short())?;
        for _ in 0..count {
            let length = sent.try_get_i32().map_err(|_| short())?;
            values.push(match usize::try_from(length) {
                Err(_) => ScalarValue::try_from(&element)?,
                Ok(length) if length > sent.len() => return Err(short()),
                Ok(length) => binary(item, sent.split_to(length))?.cast_to(&element)?,
            });
        }
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &element)))
}

fn text(kind: &Type, sent: &str) -> Result<ScalarValue, Refusal> {
    if let Kind::Array(item) = kind.kind() {
        let element = arrow_type(item).ok_or_else(|| Refusal::new(state::UNSUPPORTED, format!("arrays of {item} are not supported")))?;
        let values = elements(sent)?.into_iter().map(|value| match value {
            None => ScalarValue::try_from(&element).map_err(Refusal::from),
            Some(value) => text(item, &value)?.cast_to(&element).map_err(Refusal::from),
        });
        let values: Result<Vec<_>, Refusal> = values.collect();
        return Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values?, &element)));
    }
    match *kind {
        Type::NUMERIC => decimal(sent),
        Type::BOOL => boolean(sent),
        Type::INTERVAL if interval(sent).is_some() => Ok(ScalarValue::IntervalMonthDayNano(interval(sent))),
        Type::BYTEA => bytea(sent).map(|bytes| ScalarValue::Binary(Some(bytes))),
        _ => {
            let value = ScalarValue::Utf8(Some(sent.to_owned()));
            match arrow_type(kind) {
                Some(DataType::Utf8) | None => Ok(value),
                // Parsed by the engine's own rules.
                Some(target) => value.cast_to(&without_zone(&target)).and_then(|parsed| parsed.cast_to(&target)).map_err(|error| {
                    let reason = error.find_root().strip_backtrace();
                    Refusal::new(state::BAD_TEXT, format!("invalid input syntax for type {kind}: '{sent}' ({reason})"))
                }),
            }
        }
    }
}

/// A moment is parsed with the offset that its text has.
fn without_zone(target: &DataType) -> DataType {
    match target {
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        other => other.clone(),
    }
}

fn decimal(text: &str) -> Result<ScalarValue, Refusal> {
    let wrong = || Refusal::new(state::BAD_TEXT, format!("invalid input syntax for type numeric: '{text}'"));
    let (value, scale) = match unscaled(text) {
        Some(found) => found,
        // Exponents and the like.
        None => match ScalarValue::Utf8(Some(text.to_owned())).cast_to(&DataType::Decimal128(38, 12)) {
            Ok(ScalarValue::Decimal128(Some(value), _, _)) => (value, 12),
            _ => return Err(wrong()),
        },
    };
    Ok(ScalarValue::Decimal128(Some(value), 38, scale))
}

fn boolean(text: &str) -> Result<ScalarValue, Refusal> {
    let value = match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => true,
        "f" | "false" | "n" | "no" | "off" | "0" => false,
        _ => return Err(Refusal::new(state::BAD_TEXT, format!("invalid input syntax for type boolean: '{text}'"))),
    };
    Ok(ScalarValue::Boolean(Some(value)))
}

fn bytea(text: &str) -> Result<Vec<u8>, Refusal> {
    let wrong = || Refusal::new(state::BAD_TEXT, "invalid input syntax for type bytea");
    let Some(digits) = text.strip_prefix("\\x") else {
        // The older format, of which only texts without escapes are taken.
        return if text.contains('\\') { Err(wrong()) } else { Ok(text.as_bytes().to_vec()) };
    };
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect::<Option<_>>().ok_or_else(wrong)
}

/// `1 year 2 mons -3 days 04:05:06.5`, as drivers write intervals; `None` for other ways to write one.
fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    let (mut months, mut days, mut nanos) = (0_i32, 0_i32, 0_i64);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        if word.contains(':') {
            nanos = nanos.checked_add(clock(word)?)?;
            continue;
        }
        let count: i32 = word.parse().ok()?;
        match words.next()?.trim_end_matches([',', 's']) {
            "year" => months = months.checked_add(count.checked_mul(12)?)?,
            "mon" | "month" => months = months.checked_add(count)?,
            "week" => days = days.checked_add(count.checked_mul(7)?)?,
            "day" => days = days.checked_add(count)?,
            _ => return None,
        }
    }
    Some(IntervalMonthDayNano::new(months, days, nanos))
}

/// `-04:05:06.5` in nanoseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = unsigned.split(':');
    let (hours, minutes) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let (seconds, fraction) = parts.next().map_or(("0", ""), |seconds| seconds.split_once('.').unwrap_or((seconds, "")));
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds.parse().ok()?)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?.checked_mul(sign)
}

/// The elements of `{1,NULL,"a b"}`.
fn elements(text: &str) -> Result<Vec<Option<String>>, Refusal> {
    let wrong = || Refusal::new(state::BAD_TEXT, format!("malformed array literal: '{text}'"));
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let mut found = vec![];
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some() {
        let (mut value, mut quoted) = (String::new(), false);
        loop {
            match chars.next() {
                None | Some(',') => break,
                Some('{' | '}') => return Err(wrong()),
                Some('"') => {
                    quoted = true;
                    loop {
                        match chars.next().ok_or_else(wrong)? {
                            '"' => break,
                            '\\' => value.push(chars.next().ok_or_else(wrong)?),
                            other => value.push(other),
                        }
                    }
                }
                Some('\\') => value.push(chars.next().ok_or_else(wrong)?),
                Some(other) => value.push(other),
            }
        }
        let bare = value.trim();
        found.push(if quoted {
            Some(value)
        } else if bare.eq_ignore_ascii_case("null") {
            None
        } else {
            Some(bare.to_owned())
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(kind: Type, format: Format, sent: &[u8], wanted: Option<DataType>) -> Result<ScalarValue, Refusal> {
        decode(&kind, format, Some(&Bytes::copy_from_slice(sent)), wanted.as_ref())
    }

    #[test]
    fn texts_and_bytes_mean_the_same() {
        for (kind, text, binary, value) in [
            (Type::INT4, "-7", (-7_i32).to_be_bytes().to_vec(), ScalarValue::Int32(Some(-7))),
            (Type::BOOL, "t", vec![1], ScalarValue::Boolean(Some(true))),
            (Type::TEXT, "ä", "ä".as_bytes().to_vec(), ScalarValue::from("ä")),
            (Type::BYTEA, "\\x00ff", vec![0, 255], ScalarValue::Binary(Some(vec![0, 255]))),
            (Type::DATE, "2000-01-02", vec![0, 0, 0, 1], ScalarValue::Date32(Some(EPOCH_DAYS + 1))),
            (Type::NUMERIC, "1.50", vec![0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x13, 0x88], ScalarValue::Decimal128(Some(150), 38, 2)),
            (
                Type::TIMESTAMPTZ,
                "2000-01-01 02:00:00.5+02",
                500_000_i64.to_be_bytes().to_vec(),
                ScalarValue::TimestampMicrosecond(Some(EPOCH_MICROS + 500_000), Some("+00:00".into())),
            ),
        ] {
            assert_eq!(decoded(kind.clone(), Format::Text, text.as_bytes(), None).unwrap(), value, "{kind} {text}");
            assert_eq!(decoded(kind.clone(), Format::Binary, &binary, None).unwrap(), value, "{kind}");
        }
    }

    #[test]
    fn the_statements_type_is_taken_where_nothing_is_lost() {
        let wide = decoded(Type::INT2, Format::Text, b"7", Some(DataType::Int64)).unwrap();
        assert_eq!(wide, ScalarValue::Int64(Some(7)));
        let narrow = decoded(Type::INT8, Format::Text, b"70000", Some(DataType::Int16)).unwrap_err();
        assert_eq!(narrow.state, "22003");
        let exact = decoded(Type::NUMERIC, Format::Text, b"1.555", Some(DataType::Decimal128(15, 2))).unwrap();
        assert_eq!(exact, ScalarValue::Decimal128(Some(1555), 38, 3));
        assert_eq!(decode(&Type::INT4, Format::Text, None, Some(&DataType::Int64)).unwrap(), ScalarValue::Int64(None));
    }

    #[test]
    fn arrays_are_read() {
        let text = decoded(Type::TEXT_ARRAY, Format::Text, br#"{a,"b \"c",NULL,"NULL",""}"#, None).unwrap();
        let ScalarValue::List(list) = text else { panic!("no list") };
        let shown = datafusion::arrow::util::display::array_value_to_string(list.as_ref(), 0).unwrap();
        assert_eq!(shown, r#"[a, b "c, , NULL, ]"#);
        let binary = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9];
        let ScalarValue::List(list) = decoded(Type::INT4_ARRAY, Format::Binary, &binary, None).unwrap() else { panic!("no list") };
        assert_eq!(datafusion::arrow::util::display::array_value_to_string(list.as_ref(), 0).unwrap(), "[9]");
        assert!(decoded(Type::INT4_ARRAY, Format::Binary, &binary[..20], None).is_err());
    }

    #[test]
    fn intervals_are_read_as_drivers_write_them() {
        for (text, value) in [
            ("1 day 0:00:02", (0, 1, 2_000_000_000)),
            ("1 year 2 mons -3 days -04:05:06.5", (14, -3, -14_706_500_000_000)),
            ("2 weeks", (0, 14, 0)),
        ] {
            assert_eq!(interval(text), Some(IntervalMonthDayNano::new(value.0, value.1, value.2)), "{text}");
        }
        assert_eq!(interval("a while"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for (kind, format, sent) in [
            (Type::INT4, Format::Binary, &[1][..]),
            (Type::INT4, Format::Text, b"many"),
            (Type::BYTEA, Format::Text, b"\\xzz"),
            (Type::JSONB, Format::Binary, &[]),
            (Type::TEXT, Format::Binary, &[255]),
            (Type::POINT, Format::Text, b"(1,2)"),
            (Type::INT4_ARRAY, Format::Text, b"1,2"),
        ] {
            assert!(decoded(kind, format, sent, None).is_err(), "{sent:?}");
        }
    }
}
