//! The keys under which the ledger stores events.
//!
//! The ledger stores the keys, so a changed prefix would orphan its entries. A prefix tells the
//! kinds apart, so that an event whose id looks like the position of a record
//! does not collide with the event at that position.

use crate::domain::record::Position;

const ID: &str = "id";
const RECORD: &str = "record";
const DEAD_LETTER: &str = "dead-letter";

/// The key of an event: by its id, or by the position of its record where it has no id of its own
/// (its `event_id` is that position then).
pub fn of_event(event_id: &str, record: &Position) -> String {
    let kind = if event_id == record.to_string() { RECORD } else { ID };
    format!("{kind}:{event_id}")
}

/// The key of a dead letter.
pub fn of_dead_letter(record: &Position) -> String {
    format!("{DEAD_LETTER}:{record}")
}

/// Every key that an id or a position, as an operator types it, may have.
pub fn candidates(name: &str) -> [String; 3] {
    [ID, RECORD, DEAD_LETTER].map(|kind| format!("{kind}:{name}"))
}
