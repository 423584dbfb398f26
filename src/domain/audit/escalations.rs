//! What was asked: the records of the range, one compact entry each.
//!
//! A record is judged as the service judges it, received when it was recorded.
//! This file never keeps a text.

use jiff::Timestamp;

use super::answer::{key, short};
use super::entries::{Entries, Entry, seconds};
use super::matcher::Matcher;
use super::{Report, Terms};
use crate::domain::event::{Decoded, Event};
use crate::domain::record::{Position, Record};

/// A record that needs a dead letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Malformed {
    pub(super) place: (i32, i64),
    /// Past this second it must be there.
    pub(super) due: u32,
    pub(super) is_old: bool,
}

/// What was asked, so far.
pub struct Escalations {
    terms: Terms,
    entries: Entries,
    malformed: Vec<Malformed>,
    report: Report,
    earliest: Option<Timestamp>,
}

impl Escalations {
    /// Nothing yet; `None`: a partition's number is beyond what this can keep.
    pub fn new(terms: Terms) -> Option<Self> {
        let all = terms.range.partitions.keys().all(|partition| u16::try_from(*partition).is_ok());
        let (entries, report) = (Entries::default(), Report::default());
        all.then(|| Self { terms, entries, malformed: vec![], report, earliest: None })
    }

    /// Take a record in, as it was read; one of the range, and each only once.
    pub fn take(&mut self, record: &Record, intake: &Decoded, recorded: Timestamp) {
        self.report.records += 1;
        self.earliest = Some(self.earliest.map_or(recorded, |earliest| earliest.min(recorded)));
        match intake {
            Decoded::NotForUs => self.report.not_for_us += 1,
            Decoded::Malformed(_) => self.malformed(&record.position, recorded),
            Decoded::Event(event) => self.event(event, recorded),
        }
    }

    /// The time of the earliest record.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.earliest
    }

    /// A record that is no escalation at all, and is not judged.
    pub fn pass_over(&mut self) {
        self.report.records += 1;
        self.report.not_for_us += 1;
    }

    /// Everything is taken in: now the answers.
    pub fn into_matcher(mut self) -> Matcher {
        self.entries.sort();
        self.malformed.sort_unstable_by_key(|malformed| malformed.place);
        Matcher::new(self.terms, self.entries, (self.malformed, self.report))
    }

    fn event(&mut self, event: &Event, recorded: Timestamp) {
        let due = event.deadline.max(recorded).saturating_add(self.terms.grace);
        self.entries.push(Entry {
            key: key(&event.id),
            offset: event.source.offset,
            due: seconds(due.unwrap_or(Timestamp::MAX)),
            session: short(&[event.session_id.as_bytes()]),
            given: None,
            partition: u16::try_from(event.source.partition).unwrap_or(u16::MAX),
            is_old: self.is_old(recorded),
        });
    }

    fn malformed(&mut self, position: &Position, recorded: Timestamp) {
        let due = recorded.saturating_add(self.terms.letter_after).unwrap_or(Timestamp::MAX);
        self.malformed.push(Malformed {
            place: (position.partition, position.offset),
            due: seconds(due),
            is_old: self.is_old(recorded),
        });
    }

    fn is_old(&self, recorded: Timestamp) -> bool {
        self.terms.trimmed_until.is_some_and(|until| recorded < until)
    }
}
