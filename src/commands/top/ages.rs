//! How spans of time, counts and series are written.

use jiff::Timestamp;

/// The span from `from` to `to`: `0:09`, `12:00`, `1:02:03`, `3d 4h`; a negative one has a minus.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from).as_secs())
}

pub(super) fn span(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let rest = seconds % 60;
    match (days, hours) {
        (0, 0) => format!("{sign}{minutes}:{rest:02}"),
        (0, _) => format!("{sign}{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{sign}{days}d {hours}h"),
    }
}

/// Milliseconds as a person reads them: `88 ms`, `3.1 s`, `41 s`.
pub(super) fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => format!("{} s", ms / 1_000),
    }
}

/// A share of a whole, in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.0} %", part as f64 * 100.0 / whole as f64) }
}

/// A number without a needless fraction.
pub(super) fn decimal(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// One character per number, as high as it is large.
pub(super) fn bars(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let bar = |number: &u64| BARS[usize::try_from(number * 7 / most).unwrap_or(7)];
    numbers.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_long_as_they_need_to_be() {
        let spans = [-9, 0, 59, 720, 3_723, 273_600].map(span);
        assert_eq!(spans, ["-0:09", "0:00", "0:59", "12:00", "1:02:03", "3d 4h"]);
        assert_eq!([88, 3_100, 41_000].map(millis), ["88 ms", "3.1 s", "41 s"]);
        assert_eq!((percent(17, 453), percent(0, 0)), ("4 %".into(), String::new()));
        assert_eq!([25.0, 0.25].map(decimal), ["25", "0.2"]);
        assert_eq!(bars(&[0, 1, 7, 14]), "▁▁▄█");
        assert_eq!(bars(&[]), "");
    }
}
