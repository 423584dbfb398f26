//! The second half of the audit: outcomes and dead letters are matched with the escalations.
//!
//! An outcome is matched by the identity of its escalation, a dead letter by the position of its
//! record. Nothing is judged as missing before [`Matcher::judge`], when everything has been read.

use std::num::NonZeroU32;

use jiff::Timestamp;

use super::AuditRules;
use super::audited_outcome::{AuditedOutcome, identity_key, short_hash};
use super::entries::{AuditEntries, AuditEntry, MalformedEntry, OutcomeDigest, RecordId, seconds};
use super::report::{AuditFinding, AuditReport, FindingKind};
use crate::domain::record::Position;

/// The escalations of the range, and the outcomes and dead letters that were read so far.
pub(crate) struct Matcher {
    rules: AuditRules,
    entries: AuditEntries,
    malformed: Vec<MalformedEntry>,
    dead_letters: Vec<DeadLetterEntry>,
    report: AuditReport,
}

/// A dead letter of a record of the range.
struct DeadLetterEntry {
    source: RecordId,
    is_needed: bool,
}

impl Matcher {
    pub(super) fn new(
        rules: AuditRules,
        entries: AuditEntries,
        malformed: Vec<MalformedEntry>,
        report: AuditReport,
    ) -> Self {
        Self { rules, entries, malformed, dead_letters: vec![], report }
    }

    /// Adds an outcome.
    pub(crate) fn add_outcome(&mut self, outcome: &AuditedOutcome) {
        if !outcome.is_final {
            self.report.interim += 1;
            return;
        }
        let source = outcome.source.as_ref();
        let is_in_range = source.is_none_or(|source| self.rules.range.covers(source));
        let digest = digest(outcome);
        let group = self.entries.group_mut(identity_key(&outcome.event_id));
        let is_expected = group.iter().any(|entry| entry.session == digest.session);
        if is_in_range && !is_expected {
            self.report_outcome(FindingKind::Orphan, outcome, "");
            return;
        }
        // An outcome of a record outside the range counts only if its identity occurs in the range.
        let Some(first) = group.first_mut() else {
            self.report.outside += 1;
            return;
        };
        let due = first.due;
        match first.outcome {
            None => {
                first.outcome = Some(digest);
                self.add_first(outcome, due);
            }
            // A crash between publishing and acknowledging repeats the stored outcome, which its topic may
            // have truncated once. Any other difference means that the escalation was decided twice.
            Some(before) if before == digest => {
                self.report_outcome(FindingKind::Repeated, outcome, "");
            }
            Some(OutcomeDigest { session, meaning, .. })
                if (session, meaning) == (digest.session, digest.meaning) =>
            {
                self.report_outcome(FindingKind::Doubled, outcome, "");
            }
            Some(_) => {
                let status = outcome.status.map_or("another status", |status| status.as_str());
                let agent = match outcome.agent_id.as_str() {
                    "" => String::new(),
                    agent => format!(", {agent}"),
                };
                let note = format!("this one says {status}{agent}");
                self.report_outcome(FindingKind::Contradictory, outcome, &note);
            }
        }
    }

    /// Adds an outcome that was published before the range begins. It can only satisfy an identity
    /// that has no outcome yet; it is not judged itself.
    pub(crate) fn add_earlier(&mut self, outcome: &AuditedOutcome) {
        if let Some(first) = self.entries.group_mut(identity_key(&outcome.event_id)).first_mut()
            && outcome.is_final
        {
            first.outcome.get_or_insert_with(|| digest(outcome));
        }
    }

    /// Adds a dead letter of the record at this position.
    pub(crate) fn add_dead_letter(&mut self, source: &Position) {
        match u16::try_from(source.partition) {
            Ok(partition) if self.rules.range.covers(source) => {
                let source = RecordId { partition, offset: source.offset };
                self.dead_letters.push(DeadLetterEntry { source, is_needed: false });
            }
            _ => self.report.outside += 1,
        }
    }

    /// Adds a record that is neither an outcome nor a dead letter.
    pub(crate) fn add_unreadable(&mut self, position: &Position, note: &str) {
        let (source, event_id) = (None, None);
        let seen_at = Some(position.clone());
        let finding = AuditFinding { source, seen_at, event_id, note: note.to_owned() };
        self.report.add(FindingKind::Unreadable, finding, self.rules.max_listed);
    }

    /// Returns how many identities have no final outcome although they are due.
    pub(crate) fn overdue(&self, now: Timestamp) -> usize {
        let now = seconds(now);
        let groups = self.entries.groups();
        groups.filter(|group| group[0].outcome.is_none() && group[0].due < now).count()
    }

    /// Returns the memory that the entries occupy.
    #[cfg(test)]
    pub(crate) fn size_bytes(&self) -> usize {
        self.entries.size_bytes()
            + self.malformed.capacity() * size_of::<MalformedEntry>()
            + self.dead_letters.capacity() * size_of::<DeadLetterEntry>()
    }

    /// Judges what was read, as of `now`. All outcomes and dead letters must have been added.
    pub(crate) fn judge(self, now: Timestamp) -> AuditReport {
        let Self { rules, entries, malformed, mut dead_letters, report } = self;
        dead_letters.sort_unstable_by_key(|dead_letter| dead_letter.source);
        let mut judge = Judge { rules, dead_letters, report, now: seconds(now) };
        for malformed in malformed {
            let found = judge.count_dead_letters(malformed.record);
            judge.judge_dead_letters(malformed, found);
        }
        for group in entries.groups() {
            judge.judge_identity(group);
        }
        // Last, because the passes above mark the dead letters that are needed.
        judge.report_needless_dead_letters();
        judge.report
    }

    fn add_first(&mut self, outcome: &AuditedOutcome, due: u32) {
        if let Some(status) = outcome.status {
            *self.report.statuses.entry(status).or_default() += 1;
        }
        if let Some(decided_at) = outcome.decided_at.filter(|at| at.as_second() > i64::from(due)) {
            let note = format!("decided at {decided_at:.0}");
            self.report_outcome(FindingKind::Late, outcome, &note);
        }
    }

    fn report_outcome(&mut self, kind: FindingKind, outcome: &AuditedOutcome, note: &str) {
        let finding = AuditFinding {
            source: outcome.source.clone(),
            seen_at: Some(outcome.position.clone()),
            event_id: Some(outcome.event_id.clone()),
            note: note.to_owned(),
        };
        self.report.add(kind, finding, self.rules.max_listed);
    }
}

fn digest(outcome: &AuditedOutcome) -> OutcomeDigest {
    OutcomeDigest {
        session: short_hash(&[outcome.session_id.as_bytes()]),
        meaning: outcome.meaning,
        decision: NonZeroU32::new(outcome.decision).unwrap_or(NonZeroU32::MIN),
    }
}

/// The last pass, over the entries.
struct Judge {
    rules: AuditRules,
    dead_letters: Vec<DeadLetterEntry>,
    report: AuditReport,
    now: u32,
}

impl Judge {
    /// Judges the records of one identity. They may name several sessions; the service answers the
    /// one it claimed first and sends the others to the dead-letter topic as conflicts.
    fn judge_identity(&mut self, group: &[AuditEntry]) {
        self.report.events += 1;
        let first = &group[0];
        self.report.answered += u64::from(first.outcome.is_some());
        // The outcome names the session that was claimed. Without one, assume the first record
        // that was not sent to the dead-letter topic.
        let owner = match first.outcome {
            Some(outcome) => Some(outcome.session),
            None => {
                let kept = group.iter().find(|entry| self.count_dead_letters(entry.record()) == 0);
                kept.map(|entry| entry.session)
            }
        };
        // The record could not be read until the configuration was changed.
        let was_replayed = group.iter().any(|entry| entry.is_replay);
        let mut is_answered_by_earlier_record = false;
        for entry in group {
            let found = self.count_dead_letters(entry.record());
            let is_conflict =
                owner != Some(entry.session) || (first.outcome.is_none() && found > 0);
            if is_conflict {
                let AuditEntry { due, may_be_trimmed, .. } = *entry;
                let record = entry.record();
                self.judge_dead_letters(MalformedEntry { record, due, may_be_trimmed }, found);
                continue;
            }
            if found == 1 && was_replayed {
                self.report.dead_letters += 1;
            } else if found > 0 {
                self.add(FindingKind::DeadLetterOrphan, entry.record());
            }
            if is_answered_by_earlier_record {
                self.report.duplicates += 1;
            } else if first.outcome.is_none() {
                self.judge_unanswered(first, entry);
            }
            is_answered_by_earlier_record = true;
        }
    }

    fn judge_unanswered(&mut self, first: &AuditEntry, entry: &AuditEntry) {
        if self.now <= first.due {
            self.add_open(entry.record());
        } else if first.may_be_trimmed {
            self.report.deleted += 1;
        } else {
            self.add(FindingKind::Missing, entry.record());
        }
    }

    /// Judges a record that needs exactly one dead letter.
    fn judge_dead_letters(&mut self, malformed: MalformedEntry, found: usize) {
        match found {
            0 if self.now <= malformed.due => self.add_open(malformed.record),
            0 if malformed.may_be_trimmed => self.report.deleted += 1,
            0 => self.add(FindingKind::DeadLetterMissing, malformed.record),
            1 => self.report.dead_letters += 1,
            _ => self.add(FindingKind::DeadLetterDoubled, malformed.record),
        }
    }

    fn report_needless_dead_letters(&mut self) {
        let mut last = None;
        for dead_letter in std::mem::take(&mut self.dead_letters) {
            if !dead_letter.is_needed && last != Some(dead_letter.source) {
                last = Some(dead_letter.source);
                self.add(FindingKind::DeadLetterOrphan, dead_letter.source);
            }
        }
    }

    /// Counts the dead letters of this record and marks them as needed.
    fn count_dead_letters(&mut self, source: RecordId) -> usize {
        let start = self.dead_letters.partition_point(|dead_letter| dead_letter.source < source);
        let rest = self.dead_letters[start..].iter_mut();
        let of_record = rest.take_while(|dead_letter| dead_letter.source == source);
        of_record.map(|dead_letter| dead_letter.is_needed = true).count()
    }

    fn add(&mut self, kind: FindingKind, record: RecordId) {
        self.report.add(kind, self.finding(record), self.rules.max_listed);
    }

    fn add_open(&mut self, record: RecordId) {
        self.report.add_open(self.finding(record), self.rules.max_listed);
    }

    fn finding(&self, record: RecordId) -> AuditFinding {
        let source = Some(self.rules.range.position(record));
        AuditFinding { source, seen_at: None, event_id: None, note: String::new() }
    }
}
