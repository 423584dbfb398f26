//! Shows a record of the outcome topic, as a row of the table or as its own JSON.
//!
//! Another version or another program may have written it: every field but the status may be
//! missing, and a record that is not an outcome is shown as unreadable.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use super::{OutcomesArgs, OutputItem};
use crate::commands::table::{Cell, TableRow};
use crate::domain::record::Record;
use crate::domain::wire::outcome::{OutcomeRecord, Status};

/// The columns of the table.
pub(super) const COLUMNS: &[&str] =
    &["TIME", "STATUS", "SESSION", "AGENT", "ATTEMPTS", "ELAPSED", "EVENT", "REASON"];

/// The longest part of an unreadable value that is shown, in characters.
const MAX_UNREADABLE_CHARS: usize = 80;

/// Returns what to show of a record, or `None` where the arguments exclude it.
pub(super) fn select(record: &Record, args: &OutcomesArgs) -> Option<OutputItem> {
    let value = record.value.as_deref().unwrap_or_default();
    let outcome = match OutcomeRecord::parse(value) {
        Ok(outcome) => outcome,
        // With a filter it is left out: whether it matches is unknown.
        Err(_) if args.has_filter() => return None,
        Err(error) => return Some(unreadable(record, &error.to_string(), args.json)),
    };
    let matches = |wanted: &[String], value: Option<&String>| {
        wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
    };
    let is_wanted = matches(&args.sessions, outcome.session_id.as_ref())
        && matches(&args.events, outcome.event_id.as_ref())
        && matches(&args.statuses, Some(&outcome.status));
    match (is_wanted, args.json) {
        (false, _) => None,
        (true, true) => Some(OutputItem::Json(one_line(value))),
        (true, false) => Some(OutputItem::Row(row(outcome, record))),
    }
}

fn row(outcome: OutcomeRecord, record: &Record) -> TableRow {
    let decided_at = outcome.decided_at();
    let interim = if outcome.is_final { "" } else { ", interim" };
    let status =
        Cell::styled(style(outcome.known_status()), format!("{}{interim}", outcome.status));
    vec![
        Cell::new(time(decided_at.or(record.timestamp))),
        status,
        Cell::new(outcome.session_id.unwrap_or_default()),
        Cell::new(outcome.agent_id.unwrap_or_default()),
        Cell::new(outcome.attempts.map(|n| n.to_string()).unwrap_or_default()),
        Cell::new(outcome.elapsed_ms.map(elapsed).unwrap_or_default()),
        Cell::new(outcome.event_id.unwrap_or_default()),
        Cell::new(outcome.reason.unwrap_or_default()),
    ]
}

/// Green: an agent has the session, or will have it. Yellow: no agent took over, which happens in
/// normal operation. Red: needs attention.
fn style(status: Option<Status>) -> Style {
    let color = match status {
        Some(Status::Assigned | Status::Queued) => AnsiColor::Green,
        Some(Status::NoAgentOnline | Status::Expired) => AnsiColor::Yellow,
        Some(Status::Rejected | Status::Failed) => AnsiColor::Red,
        None => return Style::new(),
    };
    color.on_default()
}

fn unreadable(record: &Record, error: &str, json: bool) -> OutputItem {
    let error = match &record.value {
        None => "the value is null",
        Some(_) => error,
    };
    let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
    if json {
        let source = &record.position;
        let object = json!({"unreadable": {"source": source, "error": error, "value": value}});
        return OutputItem::Json(object.to_string().into_bytes());
    }
    let start: String = value.chars().take(MAX_UNREADABLE_CHARS).collect();
    let mut row = vec![
        Cell::new(time(record.timestamp)),
        Cell::styled(AnsiColor::Red.on_default(), "unreadable"),
    ];
    row.resize(COLUMNS.len() - 1, Cell::new(""));
    row.push(Cell::new(format!("{}: {error}: {start}", record.position)));
    OutputItem::Row(row)
}

/// Returns the value unchanged, or on one line where it has several.
fn one_line(value: &[u8]) -> Vec<u8> {
    if !value.contains(&b'\n') {
        return value.to_vec();
    }
    // JSON has newlines only between tokens, so replacing them does not change the content.
    match serde_json::from_slice::<&RawValue>(value) {
        Ok(raw) => raw.get().replace(['\n', '\r'], " ").into_bytes(),
        Err(_) => value.to_vec(),
    }
}

/// Formats a time with a precision of one second.
pub(super) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn elapsed(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{:.1}s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::super::table::Table;
    use super::*;
    use crate::domain::record::Position;

    const VALUE: &str = r#"{"event_id":"e","session_id":"s","status":"no_agent_online",
        "final":false,"attempts":2,"elapsed_ms":61000,"decided_at":"2026-11-23T10:00:00.9Z",
        "reason":"nobody"}"#;

    fn args(words: &[&str]) -> OutcomesArgs {
        let command = OutcomesArgs::augment_args(clap::Command::new("outcomes"));
        let words = ["outcomes"].iter().chain(words);
        OutcomesArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    fn check(words: &[&str], value: Option<&str>, expected: Option<&str>) {
        let record = Record {
            position: Position { topic: "t".into(), partition: 3, offset: 4 },
            timestamp: Timestamp::from_second(0).ok(),
            key: None,
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: vec![],
        };
        let shown = select(&record, &args(words)).map(|item| match item {
            OutputItem::Json(json) => String::from_utf8(json).unwrap(),
            OutputItem::Row(row) => {
                let line = Table::new(COLUMNS).line(&row);
                let line = anstream::adapter::strip_str(&line).to_string();
                line.split("  ")
                    .filter(|cell| !cell.is_empty())
                    .map(str::trim)
                    .collect::<Vec<_>>()
                    .join("|")
            }
        });
        assert_eq!(shown.as_deref(), expected, "{words:?} {value:?}");
    }

    #[test]
    fn a_row_shows_what_the_outcome_has() {
        let row = "2026-11-23T10:00:00Z|no_agent_online, interim|s|-|2|1m01s|e|nobody";
        check(&[], Some(VALUE), Some(row));
        let least = r#"{"status":"new"}"#;
        check(&[], Some(least), Some("1970-01-01T00:00:00Z|new|-|-|-|-|-|-"));
        let bad = "1970-01-01T00:00:00Z|unreadable|-|-|-|-|-|t/3/4: ";
        let missing = format!("{bad}missing field `status` at line 1 column 2: {{}}");
        check(&[], Some("{}"), Some(&missing));
        check(&[], None, Some(&format!("{bad}the value is null:")));
    }

    #[test]
    fn json_output_is_the_value_of_the_record_on_one_line() {
        let one_line = VALUE.replace('\n', " ");
        check(&["--json"], Some(VALUE), Some(&one_line));
        check(&["--json"], Some(r#"{ "status" : "x" }"#), Some(r#"{ "status" : "x" }"#));
        let bad = r#"{"unreadable":{"error":"expected value at line 1 column 1","source":{"offset":4,"partition":3,"topic":"t"},"value":"x"}}"#;
        check(&["--json"], Some("x"), Some(bad));
    }

    #[test]
    fn filters_match_any_value_of_each_option_and_all_options() {
        let value = r#"{"event_id":"e","session_id":"s","status":"failed"}"#;
        let row = Some("1970-01-01T00:00:00Z|failed|s|-|-|-|e|-");
        check(&["--session", "x", "--session", "s"], Some(value), row);
        check(&["--session", "s", "--status", "failed", "--event", "e"], Some(value), row);
        check(&["--session", "s", "--status", "queued"], Some(value), None);
        check(&["--event", "x"], Some(value), None);
        check(&["--event", "x"], Some("x"), None);
    }

    #[test]
    fn elapsed_times_are_shortened() {
        let shown = [0, 999, 1_000, 59_900, 61_000, 3_600_000, 7_380_000].map(elapsed);
        assert_eq!(shown, ["0ms", "999ms", "1.0s", "59.9s", "1m01s", "1h00m", "2h03m"]);
    }
}
