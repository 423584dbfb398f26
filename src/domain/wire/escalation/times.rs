//! Times as publishers write them: every form that can mean only one moment.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde_json::Value;

/// What [`read_time`] reads, for messages.
pub(super) const ALLOWED: &str =
    "a time as 2026-11-23T10:00:00Z, or seconds or milliseconds since 1970";

/// Seconds since 1970 of the end of the year 9999.
const LAST_SECOND: f64 = 253_402_300_800.0;

/// Reads a time. A time beyond the largest [`Timestamp`], which is a day before the end of the year
/// 9999, counts as the largest.
pub(super) fn read_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => since_epoch(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            if let Some(time) = decimal_seconds(text) {
                return Some(time);
            }
            text.parse().ok().and_then(since_epoch).or_else(|| calendar_time(text))
        }
        _ => None,
    }
}

/// Reads seconds with decimals as they are written; a float has not all digits.
fn decimal_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, decimals) = text.split_once('.')?;
    let is_whole = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = seconds.parse().ok().filter(|_| is_whole(seconds) && is_whole(decimals))?;
    let nanos = decimals.get(..9).map_or_else(|| format!("{decimals:0<9}"), str::to_owned);
    let is_plausible = (1e9..LAST_SECOND).contains(&(seconds as f64));
    let time = Timestamp::new(seconds, nanos.parse().ok()?);
    is_plausible.then(|| time.unwrap_or(Timestamp::MAX))
}

/// Reads seconds or milliseconds since 1970, told apart by their size.
fn since_epoch(number: f64) -> Option<Timestamp> {
    let millis = if (1e9..LAST_SECOND).contains(&number) {
        number * 1e3
    } else if (1.9e13..2.1e13).contains(&number) {
        // More likely digits of the calendar, as 20261123100000, than a year after 2570.
        return None;
    } else if (1e12..LAST_SECOND * 1e3).contains(&number) {
        number
    } else {
        // Before 2001 or after 9999: more likely a duration, or a field that was not set.
        return None;
    };
    Some(Timestamp::from_millisecond(millis.round() as i64).unwrap_or(Timestamp::MAX))
}

fn calendar_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Some(time) = iso_time(text) {
        return Some(time);
    }
    // As Ruby and Go write it: "2026-11-23 10:00:00 UTC", "2026-11-23 10:00:00 +0000 UTC".
    let without_zone = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT"));
    let rest = without_zone.unwrap_or(text);
    let joined = match rest.rsplit_once(' ') {
        Some((time, offset)) if offset.starts_with(['+', '-']) => format!("{time}{offset}"),
        _ => rest.to_owned(),
    };
    iso_time(&joined).or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(text).ok())
}

/// Reads a date and a time; without a zone it is in UTC.
fn iso_time(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let has_named_zone = pieces.time_zone_annotation().is_some();
    let offset = match pieces.to_numeric_offset() {
        Some(offset) => offset,
        // "[Europe/Berlin]" alone: its offset is not known here, and an hour may not exist.
        None if has_named_zone => return None,
        None => Offset::UTC,
    };
    // A date alone may mean its begin or its end.
    let time = pieces.date().to_datetime(pieces.time()?);
    let is_future = time.year() > 0;
    let out_of_range = if is_future { Timestamp::MAX } else { Timestamp::MIN };
    Some(offset.to_timestamp(time).unwrap_or(out_of_range))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value, expected: &str) {
        let read = read_time(&value).map(|time| time.to_string());
        assert_eq!(read.as_deref(), Some(expected), "{value}");
    }

    #[test]
    fn every_unambiguous_form_is_read() {
        for text in [
            "2026-11-27T18:00:00Z",
            "2026-11-27T18:00:00.000Z",
            "2026-11-27T18:00:00.0000000Z",
            "2026-11-27t18:00:00z",
            "2026-11-27T18:00:00",
            "2026-11-27 18:00:00",
            " 2026-11-27 18:00:00Z ",
            "2026-11-27 18:00:00+00:00",
            "2026-11-27T18:00:00+0000",
            "2026-11-27T18:00:00+00",
            "2026-11-28T02:00:00+0800",
            "2026-11-28T02:00:00+08:00[Asia/Shanghai]",
            "2026-11-27T18:00:00Z[UTC]",
            "2026-11-27 18:00:00 UTC",
            "2026-11-27 18:00:00 +0000",
            "2026-11-28 02:00:00 +0800",
            "2026-11-27 18:00:00 +0000 UTC",
            "2026-11-27T18:00",
            "20261127T180000Z",
            "Fri, 27 Nov 2026 18:00:00 GMT",
            "Fri, 27 Nov 2026 18:00:00 +0000",
            "1795802400",
            "1795802400000",
            "1795802400.0",
        ] {
            check(json!(text), "2026-11-27T18:00:00Z");
        }
        for number in [json!(1_795_802_400), json!(1_795_802_400_000_u64), json!(1.7958024e9)] {
            check(number, "2026-11-27T18:00:00Z");
        }
        check(json!(1_795_802_400.125), "2026-11-27T18:00:00.125Z");
        check(json!("1795802400.123456"), "2026-11-27T18:00:00.123456Z");
        check(json!("1795802400125"), "2026-11-27T18:00:00.125Z");
    }

    #[test]
    fn a_time_is_read_up_to_the_end_of_the_year_9999() {
        let last = Timestamp::MAX.to_string();
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999+00:00", "9999-12-31 23:59:59"]
        {
            check(json!(text), &last);
        }
        check(json!(253_402_300_799_u64), &last);
        check(json!(253_402_300_799_999_u64), &last);
        check(json!("9999-12-01T00:00:00Z"), "9999-12-01T00:00:00Z");
        check(json!(250_000_000_000_u64), "9892-03-08T12:26:40Z");
    }

    #[test]
    fn what_can_mean_two_moments_or_none_is_not_read() {
        for value in [
            json!(""),
            json!("soon"),
            json!("2026-11-27"),
            json!("27.11.2026 18:00"),
            json!("11/27/2026 18:00:00"),
            json!("18:00:00"),
            json!("2026-11-27T18:00:00[Europe/Berlin]"),
            json!("2026-02-30T18:00:00Z"),
            json!("10000-01-01T00:00:00Z"),
            json!("20261127180000"),
            json!(20_261_127_180_000_u64),
            json!("20261127"),
            json!(0),
            json!(300),
            json!(-1_795_802_400),
            json!(500_000_000_000_u64),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!(true),
            json!([]),
            json!({}),
        ] {
            assert_eq!(read_time(&value), None, "{value}");
        }
    }
}
