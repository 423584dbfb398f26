//! Who the event of a record is: the identity under which it was first claimed.
//!
//! The rules that give events their identity may change while an event is unfinished, or while its
//! offset is not committed. Kafka then delivers its record again, and under another key it would be
//! another event: Desk would be asked twice for one escalation. So what was stored first decides.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{EntryState, RecoveredEntry, key};
use crate::domain::record::Record;

/// How far the clocks of publishers and workers may differ.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The identity of an event in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIdentity {
    /// The offset of the record under which the event was claimed.
    pub offset: i64,
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

impl StoredIdentity {
    /// Whether it is that of this record, and not of one that had its offset before the topic was
    /// deleted and created again: an entry is younger than its record.
    pub fn is_of(&self, record: &Record) -> bool {
        let is_younger = record.timestamp.is_none_or(|recorded| {
            recorded.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MIN) <= self.first_seen
        });
        // A key that names the record has its exact timestamp.
        let is_key_of = !key::is_of_record(&self.key)
            || *self.key == *key::of_event(key::name_of(&self.key), record);
        self.offset == record.position.offset && is_younger && is_key_of
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
        let identity = |key: &str| StoredIdentity {
            offset: 7,
            key: key.into(),
            session_id: "s".into(),
            first_seen: at(1000),
            deadline: at(2000),
            is_answered: false,
        };
        let by_id = identity("id:evt-1");
        assert!(by_id.is_of(&record(7, 999)) && by_id.is_of(&record(7, 1300)), "clocks differ");
        assert!(!by_id.is_of(&record(7, 1301)) && !by_id.is_of(&record(8, 999)));
        let by_record = identity("record:t/3/7@999000");
        assert!(by_record.is_of(&record(7, 999)) && !by_record.is_of(&record(7, 998)));
    }
}
