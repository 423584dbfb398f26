//! Types of arguments that several commands use, and how they show a time.
//!
//! The message of a parser says what is allowed, because clap shows nothing else.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Unit};

/// A parser of whole numbers in this range.
pub(crate) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("it must be a whole number from {least} to {most}")
        })
    }
}

/// Parses an RFC 3339 time.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "it must be an RFC 3339 time, as 2026-11-23T10:05:00Z".to_owned())
}

/// Parses a span of time: `90s`, `10m`, `1h30m`, `2d`, `500ms`. A day has 24 hours.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a span of time; write it as 90s, 10m, 1h30m or 2d");
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// A point in time as an argument: absolute, or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeArg {
    At(Timestamp),
    Ago(Duration),
}

impl TimeArg {
    /// The point in time; a time before the earliest timestamp becomes the earliest.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.saturating_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Parses a point in time: `1h` (ago), or an RFC 3339 time.
pub(crate) fn parse_time(text: &str) -> Result<TimeArg, String> {
    if let Ok(time) = text.parse() {
        return Ok(TimeArg::At(time));
    }
    parse_span(text).map(TimeArg::Ago).map_err(|_| {
        format!(
            "{text:?} is not a time; write how long ago, as 90s or 1h30m, or an RFC 3339 time, as \
             2026-11-23T10:00:00Z"
        )
    })
}

/// A time, and how far it is from now.
pub(crate) fn time_and_distance(time: Timestamp, now: Timestamp) -> String {
    let distance = time.duration_since(now);
    let distance = distance.round(Unit::Second).unwrap_or(distance);
    let span = SignedDuration::try_from(distance.unsigned_abs()).unwrap_or(SignedDuration::MAX);
    if distance.is_negative() {
        format!("{time:.3} ({span:#} ago)")
    } else {
        format!("{time:.3} (in {span:#})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_units_and_is_not_negative() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(parse_span(text).ok(), ms.map(Duration::from_millis), "{text:?}");
        };
        check("90s", Some(90_000));
        check(" 1h30m ", Some(5_400_000));
        check("2d 1ms", Some(172_800_001));
        check("0s", Some(0));
        for wrong in
            ["", " ", "90", "s", "1x", "-1s", "1mo", "99999999999999999999s", "9999999999999999d"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_number_outside_its_range_is_refused_with_the_range() {
        let parse = whole::<u16>(1..=1_000);
        assert_eq!(parse("1000"), Ok(1_000));
        for wrong in ["0", "1001", "x", "-1", "1.5", "", "99999999999999999999"] {
            let error = Err("it must be a whole number from 1 to 1000".to_owned());
            assert_eq!(parse(wrong), error, "{wrong:?}");
        }
    }

    #[test]
    fn a_time_is_absolute_or_relative_to_now() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_time(text).unwrap().resolve(now).to_string(), expected, "{text:?}");
        };
        check("1h", "2026-11-23T09:00:00Z");
        check("2026-11-23T09:30:00+01:00", "2026-11-23T08:30:00Z");
        assert_eq!(parse_time("7000000d").unwrap().resolve(now), Timestamp::MIN);
        assert!(parse_time("yesterday").is_err());
    }
}
