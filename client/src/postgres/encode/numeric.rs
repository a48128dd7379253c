//! Decimals, of any precision: their digits as text are all that is needed of them.

use bytes::{Buf, BufMut, BytesMut};

use crate::postgres::error::{Refusal, state};
use crate::postgres::types::Format;

/// Digits of a decimal in one digit of the binary format.
const GROUP: usize = 4;
const NEGATIVE: u16 = 0x4000;
const NOT_A_NUMBER: u16 = 0xC000;

/// Writes the number `unscaled` times ten to the power of -`scale`.
pub(super) fn put(unscaled: &str, scale: i8, format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    let (is_negative, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, unscaled),
    };
    // A negative scale stands for zeros at the end.
    let zeros = "0".repeat(usize::from(scale.min(0).unsigned_abs()));
    let scale = usize::from(scale.max(0).unsigned_abs());
    let padding = "0".repeat((scale + 1).saturating_sub(digits.len()));
    let all = if digits == "0" && !zeros.is_empty() { digits.to_owned() } else { format!("{padding}{digits}{zeros}") };
    let (whole, fraction) = all.split_at(all.len() - scale);
    match format {
        Format::Text => {
            out.put_slice(if is_negative { "-" } else { "" }.as_bytes());
            out.put_slice(whole.as_bytes());
            if !fraction.is_empty() {
                out.put_u8(b'.');
                out.put_slice(fraction.as_bytes());
            }
        }
        Format::Binary => put_binary(is_negative, whole, fraction, out),
    }
    Ok(())
}

fn put_binary(is_negative: bool, whole: &str, fraction: &str, out: &mut BytesMut) {
    let ahead = (GROUP - whole.len() % GROUP) % GROUP;
    let behind = (GROUP - fraction.len() % GROUP) % GROUP;
    let aligned = format!("{}{whole}{fraction}{}", "0".repeat(ahead), "0".repeat(behind));
    let value = |group: &[u8]| group.iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    let groups: Vec<u16> = aligned.as_bytes().chunks(GROUP).map(value).collect();
    let skipped = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups[skipped..].iter().rev().take_while(|group| **group == 0).count();
    let kept = &groups[skipped..groups.len() - trailing];
    let weight = ((whole.len() + ahead) / GROUP) as i16 - 1 - skipped as i16;
    out.put_i16(kept.len() as i16);
    out.put_i16(if kept.is_empty() { 0 } else { weight });
    out.put_u16(if is_negative && !kept.is_empty() { NEGATIVE } else { 0 });
    out.put_u16(fraction.len() as u16);
    kept.iter().for_each(|group| out.put_u16(*group));
}

/// A decimal in the binary format as text.
pub(crate) fn binary_to_text(mut bytes: &[u8]) -> Result<String, Refusal> {
    let short = || Refusal::new(state::BAD_PARAMETER, "a numeric parameter is cut short");
    if bytes.len() < 8 {
        return Err(short());
    }
    let (count, weight, sign, scale) = (bytes.get_i16(), i32::from(bytes.get_i16()), bytes.get_u16(), usize::from(bytes.get_u16()));
    let count = usize::try_from(count).map_err(|_| short())?;
    if bytes.len() != 2 * count {
        return Err(short());
    }
    if sign >= NOT_A_NUMBER {
        return Err(Refusal::new(state::UNSUPPORTED, "a numeric parameter that is no number is not supported"));
    }
    let groups: Vec<u16> = (0..count).map(|_| bytes.get_u16()).collect();
    // Groups of which number 0 has the digits before the point.
    let group = |index: i32| usize::try_from(weight - index).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let whole: String = (0..=weight.max(0)).rev().map(|index| format!("{:04}", group(index))).collect();
    let fraction: String = (1..=scale.div_ceil(GROUP) as i32).map(|index| format!("{:04}", group(-index))).collect();
    let whole = whole.trim_start_matches('0');
    let sign = if sign == NEGATIVE { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.get(..scale).unwrap_or_default();
    Ok(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// A decimal text without its point, and the number of digits behind that; `None` for what is none or has more than 38 digits.
pub(crate) fn unscaled(text: &str) -> Option<(i128, i8)> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = i8::try_from(fraction.len()).ok().filter(|scale| *scale <= 38)?;
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    (value.unsigned_abs() < 10_u128.pow(38)).then_some((value, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(unscaled: &str, scale: i8, format: Format) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(unscaled, scale, format, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn decimals_are_written_and_read() {
        for (unscaled, scale, text) in [
            ("0", 0, "0"),
            ("0", 2, "0.00"),
            ("12345", 2, "123.45"),
            ("-5", 3, "-0.005"),
            ("-123456789012345678901234567890123456789", 10, "-12345678901234567890123456789.0123456789"),
            ("100000000", 4, "10000.0000"),
            ("7", 8, "0.00000007"),
            ("12", -3, "12000"),
        ] {
            assert_eq!(String::from_utf8(written(unscaled, scale, Format::Text)).unwrap(), text);
            assert_eq!(binary_to_text(&written(unscaled, scale, Format::Binary)).unwrap(), text);
        }
        // As PostgreSQL sends 12345.678.
        assert_eq!(written("12345678", 3, Format::Binary), [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
    }

    #[test]
    fn lies_about_a_decimal_are_refused() {
        for bytes in [&[0, 1][..], &[0, 2, 0, 0, 0, 0, 0, 0, 0, 1], &[255, 255, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0xC0, 0, 0, 0]] {
            assert!(binary_to_text(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn texts_lose_their_point() {
        assert_eq!(unscaled("-1.50"), Some((-150, 2)));
        assert_eq!(unscaled("7"), Some((7, 0)));
        assert_eq!(unscaled("x"), None);
        assert_eq!(unscaled(&"9".repeat(39)), None);
    }
}
