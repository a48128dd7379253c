//! Dates, times and intervals.

use std::fmt::Write;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    ArrayRef, Date32Array, DurationMicrosecondArray, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, IntervalUnit};

use super::{Put, downcast};
use crate::postgres::error::{Refusal, state};
use crate::postgres::types::Format;

/// Days from 1970-01-01 to 2000-01-01, from which the binary formats count.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;
const MICROS_OF_SECOND: i64 = 1_000_000;
const MICROS_OF_HOUR: i64 = 3_600 * MICROS_OF_SECOND;

pub(super) fn writer(array: &ArrayRef, format: Format) -> Result<Put, Refusal> {
    Ok(match array.data_type() {
        DataType::Date32 => {
            let array: Date32Array = downcast(array)?;
            Box::new(move |row, out| date(array.value(row), format, out))
        }
        DataType::Time64(_) => {
            let array: Time64MicrosecondArray = downcast(array)?;
            Box::new(move |row, out| time(array.value(row), format, out))
        }
        DataType::Timestamp(_, zone) => {
            let zone = zone.as_deref().map(Tz::from_str).transpose()?;
            let array: TimestampMicrosecondArray = downcast(array)?;
            Box::new(move |row, out| timestamp(array.value(row), zone.as_ref(), format, out))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let array: IntervalYearMonthArray = downcast(array)?;
            Box::new(move |row, out| interval(array.value(row), 0, 0, format, out))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let array: IntervalDayTimeArray = downcast(array)?;
            Box::new(move |row, out| {
                let value = array.value(row);
                interval(0, value.days, i64::from(value.milliseconds) * 1000, format, out)
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let array: IntervalMonthDayNanoArray = downcast(array)?;
            Box::new(move |row, out| {
                let value = array.value(row);
                interval(value.months, value.days, value.nanoseconds / 1000, format, out)
            })
        }
        DataType::Duration(_) => {
            let array: DurationMicrosecondArray = downcast(array)?;
            Box::new(move |row, out| interval(0, 0, array.value(row), format, out))
        }
        other => return Err(Refusal::new(state::UNSUPPORTED, format!("values of type {other} are not supported"))),
    })
}

fn beyond() -> Refusal {
    Refusal::new("22008", "a date is out of range")
}

fn date(days: i32, format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    match format {
        Format::Binary => out.put_i32(days.checked_sub(EPOCH_DAYS).ok_or_else(beyond)?),
        Format::Text => {
            let date = NaiveDate::from_epoch_days(days).ok_or_else(beyond)?;
            put_date(date, out)?;
            put_era(date, out);
        }
    }
    Ok(())
}

fn time(micros: i64, format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    match format {
        Format::Binary => out.put_i64(micros),
        Format::Text => put_clock(micros, out)?,
    }
    Ok(())
}

fn timestamp(micros: i64, zone: Option<&Tz>, format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    if format == Format::Binary {
        out.put_i64(micros.checked_sub(EPOCH_MICROS).ok_or_else(beyond)?);
        return Ok(());
    }
    let utc = DateTime::from_timestamp_micros(micros).ok_or_else(beyond)?.naive_utc();
    let Some(zone) = zone else {
        put_moment(utc, out)?;
        put_era(utc.date(), out);
        return Ok(());
    };
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    let local = utc.checked_add_offset(offset).ok_or_else(beyond)?;
    put_moment(local, out)?;
    put_offset(offset.local_minus_utc(), out)?;
    put_era(local.date(), out);
    Ok(())
}

fn put_moment(moment: NaiveDateTime, out: &mut BytesMut) -> Result<(), Refusal> {
    put_date(moment.date(), out)?;
    out.put_u8(b' ');
    let clock = moment.time();
    put_clock(i64::from(clock.num_seconds_from_midnight()) * MICROS_OF_SECOND + i64::from(clock.nanosecond() / 1000), out)
}

/// Years before the first are counted backwards, without a year 0.
fn put_date(date: NaiveDate, out: &mut BytesMut) -> Result<(), Refusal> {
    let year = if date.year() > 0 { date.year() } else { 1 - date.year() };
    write!(out, "{year:04}-{:02}-{:02}", date.month(), date.day()).map_err(|_| beyond())
}

fn put_era(date: NaiveDate, out: &mut BytesMut) {
    if date.year() <= 0 {
        out.put_slice(b" BC");
    }
}

/// `+02`, or with minutes where there are some.
fn put_offset(seconds: i32, out: &mut BytesMut) -> Result<(), Refusal> {
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    write!(out, "{sign}{:02}", seconds / 3600).map_err(|_| beyond())?;
    match seconds % 3600 / 60 {
        0 => Ok(()),
        minutes => write!(out, ":{minutes:02}").map_err(|_| beyond()),
    }
}

/// `04:05:06.5`: hours may be more than a day has; a fraction has no zeros at its end.
fn put_clock(micros: i64, out: &mut BytesMut) -> Result<(), Refusal> {
    let (hours, rest) = (micros / MICROS_OF_HOUR, micros % MICROS_OF_HOUR);
    let (seconds, fraction) = (rest / MICROS_OF_SECOND, rest % MICROS_OF_SECOND);
    write!(out, "{hours:02}:{:02}:{:02}", seconds / 60, seconds % 60).map_err(|_| beyond())?;
    if fraction == 0 {
        return Ok(());
    }
    let digits = format!("{fraction:06}");
    write!(out, ".{}", digits.trim_end_matches('0')).map_err(|_| beyond())
}

fn interval(months: i32, days: i32, micros: i64, format: Format, out: &mut BytesMut) -> Result<(), Refusal> {
    if format == Format::Binary {
        out.put_i64(micros);
        out.put_i32(days);
        out.put_i32(months);
        return Ok(());
    }
    let mut parts = vec![];
    // After a negative part, a positive one says that it is.
    let mut was_negative = false;
    for (count, name) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let plus = if was_negative && count > 0 { "+" } else { "" };
            parts.push(format!("{plus}{count} {name}{}", if count == 1 { "" } else { "s" }));
            was_negative = count < 0;
        }
    }
    out.put_slice(parts.join(" ").as_bytes());
    if micros == 0 && !parts.is_empty() {
        return Ok(());
    }
    let sign = match (micros < 0, was_negative) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    let space = if parts.is_empty() { "" } else { " " };
    write!(out, "{space}{sign}").map_err(|_| beyond())?;
    put_clock(micros.checked_abs().ok_or_else(beyond)?, out)
}
