//! Values that several commands take as arguments.
//!
//! A parser says what is allowed, because its message is all that people see.
//! This file never reads the clock: a time that is relative is given `now`.

use std::time::Duration;

use jiff::Timestamp;

/// A span of time as people write it: `90s`, `10m`, `1h30m`, `2d`, `500ms`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; write it as 90s, 10m, 1h30m or 2d");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(unit_ms).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    if text.trim().is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A moment: itself, or a span before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// This moment.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// As a time.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.saturating_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

/// A moment as people write it: `1h` (ago), or a time by RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse() {
        return Ok(Moment::At(time));
    }
    parse_span(text).map(Moment::Ago).map_err(|_| {
        format!(
            "{text:?} is no moment; write how long ago, as 90s or 1h30m, or a time, as \
             2026-11-23T10:00:00Z"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(parse_span(text).ok(), ms.map(Duration::from_millis), "{text:?}");
        };
        check("90s", Some(90_000));
        check(" 1h30m ", Some(5_400_000));
        check("2d 1ms", Some(172_800_001));
        check("0s", Some(0));
        for wrong in
            ["", " ", "90", "s", "1x", "-1s", "1.5h", "99999999999999999999s", "9999999999999999d"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn moments() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_moment(text).unwrap().from(now).to_string(), expected, "{text:?}");
        };
        check("1h", "2026-11-23T09:00:00Z");
        check("2026-11-23T09:30:00+01:00", "2026-11-23T08:30:00Z");
        assert_eq!(parse_moment("300000000d").unwrap().from(now), Timestamp::MIN);
        assert!(parse_moment("yesterday").is_err());
    }
}
