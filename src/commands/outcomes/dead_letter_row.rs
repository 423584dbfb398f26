//! Shows a record of the dead-letter topic: what its headers say, and its size.
//!
//! The value is not shown. It is what could not be read, and may be large or binary.

use anstyle::AnsiColor;
use serde_json::json;

use super::outcome_row::time;
use super::{OutcomesArgs, OutputItem};
use crate::commands::table::Cell;
use crate::domain::record::Record;
use crate::domain::wire::dead_letter::DeadLetter;

/// The columns of the table.
pub(super) const COLUMNS: &[&str] = &["TIME", "CLASS", "SIZE", "SOURCE", "DEAD LETTER", "ERROR"];

/// Returns what to show of a record, or `None` where the arguments exclude it.
pub(super) fn select(record: &Record, args: &OutcomesArgs) -> Option<OutputItem> {
    let key = record.key.as_deref().map(String::from_utf8_lossy);
    let is_wanted = args.sessions.is_empty()
        || key.as_ref().is_some_and(|key| args.sessions.iter().any(|session| session == key));
    if !is_wanted {
        return None;
    }
    // Dead letters keep the key of the malformed record, which publishers set to the session id.
    let dead_letter = DeadLetter::read(&record.headers);
    let value_bytes = record.value.as_ref().map_or(0, Vec::len) as u64;
    let bytes = dead_letter.omitted_value_bytes.unwrap_or(value_bytes);
    if args.json {
        let object = json!({
            "class": dead_letter.class,
            "error": dead_letter.error,
            "source": {
                "topic": dead_letter.source_topic,
                "partition": dead_letter.source_partition,
                "offset": dead_letter.source_offset,
                "timestamp": dead_letter.source_timestamp,
            },
            "first_seen": dead_letter.first_seen,
            "bytes": bytes,
            "value_omitted": dead_letter.omitted_value_bytes.is_some(),
            "key": key,
            "dead_letter": record.position,
        });
        return Some(OutputItem::Json(object.to_string().into_bytes()));
    }
    let source = dead_letter.source().map(|source| source.to_string());
    let first_seen = dead_letter.first_seen.and_then(|text| text.parse().ok());
    Some(OutputItem::Row(vec![
        Cell::new(time(first_seen.or(record.timestamp))),
        Cell::styled(
            AnsiColor::Red.on_default(),
            dead_letter.class.as_deref().unwrap_or("unknown"),
        ),
        Cell::new(bytes.to_string()),
        Cell::new(source.unwrap_or_default()),
        Cell::new(record.position.to_string()),
        Cell::new(dead_letter.error.unwrap_or_default()),
    ]))
}
