//! The keys under which the ledger stores events.
//!
//! The ledger stores the keys, so a changed prefix would orphan its entries. A prefix tells the
//! kinds apart, so that an event whose id looks like the position of a record
//! does not collide with the event at that position.
//!
//! The position of a record occurs again when its topic is deleted and created again, so its
//! timestamp is part of the key: `record:TOPIC/PARTITION/OFFSET@MILLISECONDS`.

use std::ops::Range;

use crate::domain::record::Record;
use crate::domain::wire::replay::FirstRecord;

const ID: &str = "id";
const RECORD: &str = "record";
const DEAD_LETTER: &str = "dead-letter";

/// The key of an event: by its id, or by its record where it has no id of its own (its `event_id`
/// is the position of the record then). A replayed record stands for the one that was read first.
pub fn of_event(event_id: &str, record: &Record) -> String {
    let first = FirstRecord::of(record);
    if event_id == first.position.to_string() {
        of_record(RECORD, &first)
    } else {
        format!("{ID}:{event_id}")
    }
}

/// The key of a dead letter. A replayed record that cannot be read either is another dead letter.
pub fn of_dead_letter(record: &Record) -> String {
    let Record { position, timestamp, .. } = record;
    let itself = FirstRecord { position: position.clone(), timestamp: *timestamp };
    of_record(DEAD_LETTER, &itself)
}

fn of_record(kind: &str, FirstRecord { position, timestamp }: &FirstRecord) -> String {
    let timestamp = timestamp.map(|at| at.as_millisecond().to_string()).unwrap_or_default();
    format!("{kind}:{position}@{timestamp}")
}

/// The id or position in a key, as an operator types it.
pub fn name_of(key: &str) -> &str {
    let (kind, name) = key.split_once(':').unwrap_or_default();
    match kind {
        ID => name,
        RECORD | DEAD_LETTER => name.rsplit_once('@').map_or(name, |(position, _)| position),
        _ => key,
    }
}

/// The keys that an id or a position, as an operator types it, may have.
pub struct KeysOfName {
    /// The key of the event with this id.
    pub id: String,
    /// The keys of the event, and of the dead letter, of the records at this position.
    pub at_position: [Range<String>; 2],
}

/// Every key that an id or a position, as an operator types it, may have.
pub fn of_name(name: &str) -> KeysOfName {
    // `A` follows `@`.
    let at_position = |kind| format!("{kind}:{name}@")..format!("{kind}:{name}A");
    KeysOfName { id: format!("{ID}:{name}"), at_position: [RECORD, DEAD_LETTER].map(at_position) }
}
