//! A record of the dead-letter topic: what its headers say, and how large it is.
//!
//! The value is what could not be read, so it is not shown here.
//! This file never decides whether a letter may be sent again.

use anstyle::AnsiColor;
use serde_json::json;

use super::outcome::time;
use super::{Args, Shown};
use crate::commands::table::Cell;
use crate::domain::record::Record;

/// The columns.
pub(super) const COLUMNS: &[&str] = &["TIME", "CLASS", "SIZE", "SOURCE", "LETTER", "ERROR"];

/// What to show of a record; `None`: it was not asked for.
pub(super) fn pick(record: &Record, args: &Args) -> Option<Shown> {
    let text =
        |name: &str| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    let is_wanted = args.sessions.is_empty()
        || key.as_ref().is_some_and(|key| args.sessions.iter().any(|session| session == key));
    if !is_wanted {
        return None;
    }
    let size = || record.value.as_ref().map_or(0, Vec::len).to_string();
    let size = text("handoff-value-omitted").unwrap_or_else(size);
    let first_seen = text("handoff-first-seen");
    let class = text("handoff-error-class");
    let place = |part: &str| text(&format!("handoff-source-{part}"));
    let source = match (place("topic"), place("partition"), place("offset")) {
        (Some(topic), Some(partition), Some(offset)) => format!("{topic}/{partition}/{offset}"),
        _ => String::new(),
    };
    if args.json {
        let object = json!({
            "class": class,
            "error": text("handoff-error"),
            "source": {"topic": place("topic"), "partition": number(place("partition")),
                "offset": number(place("offset")), "timestamp": place("timestamp")},
            "first_seen": first_seen,
            "bytes": number(Some(size)),
            "value_omitted": record.header("handoff-value-omitted").is_some(),
            "key": key,
            "letter": record.position,
        });
        return Some(Shown::Json(object.to_string().into_bytes()));
    }
    let seen = first_seen.and_then(|text| text.parse().ok());
    let class = class.unwrap_or_else(|| "unknown".to_owned());
    Some(Shown::Row(vec![
        Cell::new(time(seen.or(record.timestamp))),
        Cell::styled(AnsiColor::Red.on_default(), class),
        Cell::new(size),
        Cell::new(source),
        Cell::new(record.position.to_string()),
        Cell::new(text("handoff-error").unwrap_or_default()),
    ]))
}

fn number(text: Option<String>) -> Option<i64> {
    text?.parse().ok()
}
