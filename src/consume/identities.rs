//! Under which identity events were claimed whose records Kafka delivers again.
//!
//! Today's rules may give a record another key than the one under which its event was claimed: see
//! [`StoredIdentity`]. Before the first record that may have been read before is started, the
//! identities of a range of records are read. Records that nobody has read need none, and these are
//! all but the first of an assignment.

use std::collections::VecDeque;
use std::ops::Range;

use jiff::Timestamp;

use super::assignment::AssignmentId;
use super::{EventLoop, Source};
use crate::deliver::Ports;
use crate::domain::ledger_entry::{StoredDeadLetter, StoredIdentities, StoredIdentity};
use crate::domain::record::Record;

/// Offsets whose identities are read at once.
const MAX_OFFSETS: i64 = 1000;

/// What is known of one reading of a partition.
#[derive(Debug, Default)]
pub(super) struct KnownIdentities {
    /// Everything is known of the records below this offset.
    up_to: i64,
    is_asked: bool,
    /// In the order of the offsets.
    events: VecDeque<StoredIdentity>,
    /// The same.
    dead_letters: VecDeque<StoredDeadLetter>,
}

/// Of which records the identities are to be read.
pub(super) struct IdentityQuestion {
    pub(super) assignment: AssignmentId,
    /// The number of the reading that delivers them.
    pub(super) reading: u64,
    pub(super) offsets: Range<i64>,
}

/// What a task has read for a question.
pub(super) struct IdentityAnswer {
    pub(super) question: IdentityQuestion,
    pub(super) found: StoredIdentities,
}

/// A record that is not read as the event that it was; it waits until the deadline of that.
#[derive(Debug)]
pub(super) struct HeldRecord {
    pub(super) until: Timestamp,
    pub(super) record: Record,
    pub(super) identity: StoredIdentity,
}

impl KnownIdentities {
    /// The records whose identities must be known before the one at this offset is started, and some
    /// behind it; `unread_from` is the first offset that nobody has read.
    pub(super) fn unknown(&self, offset: i64, unread_from: i64) -> Option<Range<i64>> {
        let end = unread_from.min(offset.saturating_add(MAX_OFFSETS));
        (self.up_to <= offset && offset < end).then_some(offset..end)
    }

    /// The same, once: it is to be read now.
    pub(super) fn ask(&mut self, offset: i64, unread_from: i64) -> Option<Range<i64>> {
        let unknown = self.unknown(offset, unread_from).filter(|_| !self.is_asked)?;
        self.is_asked = true;
        Some(unknown)
    }

    pub(super) fn on_read(&mut self, offsets: &Range<i64>, found: StoredIdentities) {
        self.is_asked = false;
        self.up_to = offsets.end;
        self.events = found.events.into();
        self.dead_letters = found.dead_letters.into();
    }

    /// Whether a dead letter is stored for this record, and no open event: an earlier version has claimed
    /// both.
    pub(super) fn has_dead_letter(&self, record: &Record) -> bool {
        let is_open = |event: &StoredIdentity| !event.is_answered && event.is_of(record);
        self.dead_letters.iter().any(|dead_letter| dead_letter.is_of(record))
            && !self.events.iter().any(is_open)
    }

    /// The events that were stored for the record at this offset. What was stored for it and for those
    /// before it is forgotten.
    pub(super) fn take(&mut self, offset: i64) -> Vec<StoredIdentity> {
        while self.dead_letters.pop_front_if(|first| first.offset <= offset).is_some() {}
        let mut taken = Vec::new();
        while let Some(identity) = self.events.pop_front_if(|first| first.offset <= offset) {
            if identity.offset == offset {
                taken.push(identity);
            }
        }
        taken
    }
}

impl<P: Ports, S: Source> EventLoop<P, S> {
    /// Read the identities that are to be known before records can be started.
    pub(super) fn ask_identities(&mut self) {
        for question in self.assignments.ask_identities() {
            self.recovery.read_identities(question);
        }
    }

    pub(super) fn on_identities(&mut self, IdentityAnswer { question, found }: IdentityAnswer) {
        let AssignmentId { partition, .. } = question.assignment;
        let assignment = self.assignments.of_epoch(partition, question.assignment.epoch());
        if let Some(assignment) = assignment {
            assignment.on_identities(&question, found);
        }
    }

    /// Start the records that were held until now, or all, where new rules may read them.
    pub(super) fn start_held(&mut self) {
        let now = self.context.clock.now();
        let until = if self.tasks.rules.renew() { Timestamp::MAX } else { now };
        for HeldRecord { record, identity, .. } in self.assignments.take_held(until) {
            self.start_task(record, &[identity], false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(offset: i64, key: &str) -> StoredIdentity {
        StoredIdentity {
            offset,
            recorded_at: None,
            key: key.into(),
            session_id: "s".into(),
            first_seen: Timestamp::UNIX_EPOCH,
            deadline: Timestamp::UNIX_EPOCH,
            is_answered: false,
        }
    }

    #[test]
    fn identities_are_read_once_for_records_that_may_have_been_read() {
        let mut known = KnownIdentities::default();
        assert_eq!(known.ask(5, 5), None, "nobody has read it");
        assert_eq!(known.ask(5, 7), Some(5..7));
        assert_eq!(known.ask(5, 7), None, "it is being read");
        assert_eq!(known.unknown(5, 7), Some(5..7), "but not known");
        let events = vec![identity(5, "a"), identity(6, "b"), identity(6, "c")];
        let dead_letters = vec![StoredDeadLetter { offset: 6, recorded_at: None }];
        known.on_read(&(5..7), StoredIdentities { events, dead_letters });
        assert_eq!(known.unknown(6, 7), None);
        assert_eq!(known.take(6).len(), 2);
        assert!(known.events.is_empty(), "no record comes twice in a reading");
        assert!(known.dead_letters.is_empty(), "so nothing is compared with later records");
        assert_eq!(known.ask(7, i64::MAX), Some(7..7 + MAX_OFFSETS));
    }
}
