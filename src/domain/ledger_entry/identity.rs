//! Who the event of a record is: the identity under which it was first claimed.
//!
//! The rules that give events their identity may change while an event is unfinished, or while its
//! offset is not committed. Kafka then delivers its record again, and under another key it would be
//! another event: Desk would be asked twice for one escalation. So what was stored first decides.

use std::sync::Arc;

use jiff::Timestamp;

use super::{EntryState, RecoveredEntry};
use crate::domain::record::Record;

/// The identity of an event in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIdentity {
    /// The offset of the record under which the event was claimed.
    pub offset: i64,
    /// The timestamp of that record.
    pub recorded_at: Option<Timestamp>,
    /// The key of the entry.
    pub key: Arc<str>,
    /// The session.
    pub session_id: Arc<str>,
    /// When an instance read the record for the first time.
    pub first_seen: Timestamp,
    /// After this time no transfer is requested.
    pub deadline: Timestamp,
    /// The final answer is stored.
    pub is_answered: bool,
}

/// What records were when they were first claimed, in the order of the offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredIdentities {
    /// The events.
    pub events: Vec<StoredIdentity>,
    /// The dead letters that are stored.
    pub dead_letters: Vec<StoredDeadLetter>,
}

/// A record whose dead letter is stored: that is its final answer, whatever today's rules make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The offset of the record.
    pub offset: i64,
    /// The timestamp of the record.
    pub recorded_at: Option<Timestamp>,
}

impl StoredDeadLetter {
    /// As [`StoredIdentity::is_of`]; not known of a record without a timestamp.
    pub fn is_of(&self, record: &Record) -> bool {
        self.recorded_at.is_some()
            && (self.offset, self.recorded_at) == (record.position.offset, record.timestamp)
    }
}

impl StoredIdentity {
    /// Whether it is that of this record, and not of one that had its offset before the topic was
    /// deleted and created again.
    pub fn is_of(&self, record: &Record) -> bool {
        (self.offset, self.recorded_at) == (record.position.offset, record.timestamp)
    }

    /// Whether the event is past its deadline, so that no call will be made.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline <= now
    }
}

impl RecoveredEntry {
    /// The identity of its event; `None` for a dead letter.
    pub fn identity(&self) -> Option<StoredIdentity> {
        Some(StoredIdentity {
            offset: self.record.position.offset,
            recorded_at: self.record.timestamp,
            key: self.key.clone(),
            session_id: self.session_id.clone()?,
            first_seen: self.first_seen,
            deadline: self.deadline?,
            is_answered: matches!(self.state, EntryState::Settled { .. }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Position;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_entry_of_a_topic_that_was_deleted_is_of_no_record_of_the_new_one() {
        let record = |offset, second| {
            let position = Position { topic: "t".into(), partition: 3, offset };
            let timestamp = Some(at(second));
            Record { position, timestamp, key: None, value: None, headers: vec![] }
        };
        let identity = StoredIdentity {
            offset: 7,
            recorded_at: Some(at(999)),
            key: "id:evt-1".into(),
            session_id: "s".into(),
            first_seen: at(1000),
            deadline: at(2000),
            is_answered: false,
        };
        assert!(identity.is_of(&record(7, 999)));
        assert!(!identity.is_of(&record(7, 1001)), "the topic may have been deleted just now");
        assert!(!identity.is_of(&record(8, 999)));
    }
}
