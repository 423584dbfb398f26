//! From a record that the ledger has stored back to its event.
//!
//! The rules of decoding may have changed since it was stored, and no other instance will deliver it.
//! So what the ledger has stored decides who it is: identity, session and deadline of the event are
//! those of its row, and only what is asked for is read again.

use jiff::Timestamp;

use super::written::trace;
use super::{DecodeRules, Decoded, decode};
use crate::domain::event::{Correlation, Event, Malformed, TransferRequest};
use crate::domain::ledger_entry::{EntryState, RecoveredEntry, key};
use crate::domain::wire::replay::FirstRecord;

/// What a stored record is.
#[derive(Debug, PartialEq)]
pub enum StoredRecord {
    /// The event of its row.
    Event(Box<Event>),
    /// A dead letter that was not finished.
    DeadLetter(Malformed),
    /// The present rules do not read it as what it was; says how they read it.
    Unreadable(String),
}

/// Decodes a record of the ledger. `rules` are those [of accepted](DecodeRules::of_accepted) records.
///
/// A record that is not read any more needs no reading where its answer is stored, or where it is past
/// its deadline, so that no call will be made: the row says enough for its outcome.
pub fn decode_stored(entry: &RecoveredEntry, rules: &DecodeRules, now: Timestamp) -> StoredRecord {
    let decoded = decode(&entry.record, rules, entry.first_seen);
    let (Some(session_id), Some(deadline)) = (&entry.session_id, entry.deadline) else {
        return match decoded {
            Decoded::Malformed(malformed) => StoredRecord::DeadLetter(malformed),
            _ => StoredRecord::Unreadable("it was a dead letter, and is none now".to_owned()),
        };
    };
    let id = key::name_of(&entry.key).into();
    let why = match decoded {
        Decoded::Event(event) => {
            let session_id = session_id.clone();
            return checked(Event { id, session_id, deadline, ..*event }, entry);
        }
        Decoded::NotForUs(skip) => format!("it counts as no escalation: {}", skip.why),
        Decoded::Malformed(malformed) => malformed.error,
    };
    let is_answered = matches!(entry.state, EntryState::Settled { .. });
    if !is_answered && !entry.is_overdue(now) {
        return StoredRecord::Unreadable(why);
    }
    let RecoveredEntry { record, first_seen, .. } = entry;
    let recorded = FirstRecord::of(record).timestamp;
    let event = Event {
        id,
        session_id: session_id.clone(),
        source: record.position.clone(),
        requested_at: recorded.map_or(*first_seen, |recorded| recorded.min(*first_seen)),
        deadline,
        trace: trace(record, &[]),
        request: Ok(TransferRequest::default()),
        notes: vec![format!("the present configuration does not read the escalation: {why}")],
        correlation: Correlation::default(),
    };
    checked(event, entry)
}

/// An event of another key would be another event for the ledger.
fn checked(event: Event, entry: &RecoveredEntry) -> StoredRecord {
    let key = key::of_event(&event.id, &entry.record);
    if key == *entry.key {
        StoredRecord::Event(Box::new(event))
    } else {
        StoredRecord::Unreadable(format!("its key would be {key:?}"))
    }
}
