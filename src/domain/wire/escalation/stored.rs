//! From a record that the ledger knows back to its event.
//!
//! The rules of decoding may have changed since its event was first claimed, whether the ledger has
//! stored the record or Kafka delivers it again. So what the ledger has stored decides who it is: identity, session and deadline of the event are
//! those of its row, and only what is asked for is read again.

use jiff::Timestamp;

use super::written::trace;
use super::{DecodeRules, Decoded, decode};
use crate::domain::event::{Correlation, Event, Malformed, TransferRequest};
use crate::domain::ledger_entry::{RecoveredEntry, StoredIdentity, key};
use crate::domain::record::Record;
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
pub fn decode_stored(entry: &RecoveredEntry, rules: &DecodeRules, now: Timestamp) -> StoredRecord {
    let Some(identity) = entry.identity() else {
        return match decode(&entry.record, rules, entry.first_seen) {
            Decoded::Malformed(malformed) => StoredRecord::DeadLetter(malformed),
            _ => StoredRecord::Unreadable("it was a dead letter, and is none now".to_owned()),
        };
    };
    match decode_as(&entry.record, &identity, rules, now) {
        Ok(event) => StoredRecord::Event(event),
        Err(why) => StoredRecord::Unreadable(why),
    }
}

/// Decodes a record as the event that it was when it was first claimed. `rules` are those
/// [of accepted](DecodeRules::of_accepted) records.
///
/// A record that is not read any more needs no reading where its answer is stored, or where it is past
/// its deadline, so that no call will be made: the row says enough for its outcome. An error says how
/// the present rules read the record instead.
pub fn decode_as(
    record: &Record,
    identity: &StoredIdentity,
    rules: &DecodeRules,
    now: Timestamp,
) -> Result<Box<Event>, String> {
    let StoredIdentity { key, session_id, first_seen, deadline, is_answered, .. } = identity;
    let (id, session_id, deadline) = (key::name_of(key).into(), session_id.clone(), *deadline);
    let why = match decode(record, rules, *first_seen) {
        Decoded::Event(event) => {
            return checked(Event { id, session_id, deadline, ..*event }, record, key);
        }
        Decoded::NotForUs(skip) => format!("it counts as no escalation: {}", skip.why),
        Decoded::Malformed(malformed) => malformed.error,
    };
    if !is_answered && !identity.is_overdue(now) {
        return Err(why);
    }
    let recorded = FirstRecord::of(record).timestamp;
    let event = Event {
        id,
        session_id,
        source: record.position.clone(),
        requested_at: recorded.map_or(*first_seen, |recorded| recorded.min(*first_seen)),
        deadline,
        trace: trace(record, &[]),
        request: Ok(TransferRequest::default()),
        notes: vec![format!("the present configuration does not read the escalation: {why}")],
        correlation: Correlation::default(),
    };
    checked(event, record, key)
}

/// The identity that decides about a record that Kafka delivers again: the one of these under which it
/// was first claimed, unless today's rules give it the same key, or another session, which makes it
/// another call.
pub fn stored_identity<'i>(
    decoded: &Decoded,
    record: &Record,
    identities: &'i [StoredIdentity],
) -> Option<&'i StoredIdentity> {
    let of_record = identities.iter().filter(|identity| identity.is_of(record));
    let identity = of_record.max_by_key(|identity| identity.first_seen)?;
    match decoded {
        Decoded::Event(event) if event.session_id != identity.session_id => None,
        Decoded::Event(event) if *key::of_event(&event.id, record) == *identity.key => None,
        _ => Some(identity),
    }
}

/// An event of another key would be another event for the ledger.
fn checked(event: Event, record: &Record, stored: &str) -> Result<Box<Event>, String> {
    let key = key::of_event(&event.id, record);
    if key == stored { Ok(Box::new(event)) } else { Err(format!("its key would be {key:?}")) }
}
