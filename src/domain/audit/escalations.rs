//! The first half of the audit: the escalations of the range, one compact entry each.

use jiff::Timestamp;

use super::audited_outcome::{identity_key, short_hash};
use super::entries::{AuditEntries, AuditEntry, MalformedEntry, RecordId, seconds};
use super::matcher::Matcher;
use super::{AuditReport, AuditRules};
use crate::domain::event::Event;
use crate::domain::record::{Position, Record};
use crate::domain::wire::escalation::Decoded;
use crate::domain::wire::replay::FirstRecord;

/// The records of the range that were read so far.
pub(crate) struct Escalations {
    rules: AuditRules,
    entries: AuditEntries,
    malformed: Vec<MalformedEntry>,
    report: AuditReport,
    earliest: Option<Timestamp>,
}

impl Escalations {
    /// Returns `None` if the range has a partition beyond 65535, which an entry cannot hold.
    pub(crate) fn new(rules: AuditRules) -> Option<Self> {
        let mut partitions = rules.range.partitions.keys();
        let all_fit = partitions.all(|partition| u16::try_from(*partition).is_ok());
        let (entries, report) = (AuditEntries::default(), AuditReport::default());
        all_fit.then(|| Self { rules, entries, malformed: vec![], report, earliest: None })
    }

    /// Adds a record of the range, decoded as if it had been received at `recorded`. Each record
    /// may be added only once.
    pub(crate) fn add(&mut self, record: &Record, decoded: &Decoded, recorded: Timestamp) {
        self.report.records += 1;
        self.earliest = Some(self.earliest.map_or(recorded, |earliest| earliest.min(recorded)));
        match decoded {
            Decoded::NotForUs(_) => self.report.not_for_us += 1,
            Decoded::Malformed(_) => self.add_malformed(&record.position, recorded),
            Decoded::Event(event) => {
                let is_replay = FirstRecord::of(record).position != record.position;
                self.add_event(event, recorded, is_replay);
            }
        }
    }

    /// Counts a record that is never an escalation, such as one of `handoff check`.
    pub(crate) fn skip(&mut self) {
        self.report.records += 1;
        self.report.not_for_us += 1;
    }

    /// Returns the time of the earliest record.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.earliest
    }

    /// Ends the first half: sorts the entries so that outcomes can be matched.
    pub(crate) fn into_matcher(mut self) -> Matcher {
        self.entries.sort();
        self.malformed.sort_unstable_by_key(|malformed| malformed.record);
        Matcher::new(self.rules, self.entries, self.malformed, self.report)
    }

    fn add_event(&mut self, event: &Event, recorded: Timestamp, is_replay: bool) {
        // An escalation that was recorded after its deadline is answered when it is read.
        let due = event.deadline.max(recorded).saturating_add(self.rules.grace);
        let record = record_id(&event.source);
        self.entries.push(AuditEntry {
            key: identity_key(&event.id),
            offset: record.offset,
            due: seconds(due.unwrap_or(Timestamp::MAX)),
            session: short_hash(&[event.session_id.as_bytes()]),
            outcome: None,
            partition: record.partition,
            may_be_trimmed: self.may_be_trimmed(recorded),
            is_replay,
        });
    }

    fn add_malformed(&mut self, position: &Position, recorded: Timestamp) {
        let due = recorded.saturating_add(self.rules.dead_letter_grace).unwrap_or(Timestamp::MAX);
        self.malformed.push(MalformedEntry {
            record: record_id(position),
            due: seconds(due),
            may_be_trimmed: self.may_be_trimmed(recorded),
        });
    }

    fn may_be_trimmed(&self, recorded: Timestamp) -> bool {
        self.rules.trimmed_until.is_some_and(|until| recorded < until)
    }
}

/// [`Escalations::new`] has checked that the partition fits.
fn record_id(position: &Position) -> RecordId {
    let partition = u16::try_from(position.partition).unwrap_or(u16::MAX);
    RecordId { partition, offset: position.offset }
}
