//! The result of an audit: exact counts, and the first few findings of each kind.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::record::Position;
use crate::domain::wire::outcome::Status;

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FindingKind {
    /// No final outcome, past deadline and grace.
    Missing,
    /// Two final outcomes that differ in status, agent or session.
    Contradictory,
    /// Two final outcomes that say the same and were decided at different times.
    Doubled,
    /// The same final outcome twice, perhaps truncated once; consumers drop it by its `id`.
    Repeated,
    /// Decided after deadline and grace.
    Late,
    /// A final outcome without an escalation.
    Orphan,
    /// A malformed record or a conflicting id without a dead letter.
    DeadLetterMissing,
    /// More than one dead letter of one record.
    DeadLetterDoubled,
    /// A dead letter of a record that needs none.
    DeadLetterOrphan,
    /// A record of the outcome or dead-letter topic that is neither.
    Unreadable,
}

impl FindingKind {
    /// All kinds, the worst first.
    pub(crate) const ALL: [Self; 10] = [
        Self::Missing,
        Self::Contradictory,
        Self::Doubled,
        Self::Repeated,
        Self::Late,
        Self::Orphan,
        Self::DeadLetterMissing,
        Self::DeadLetterDoubled,
        Self::DeadLetterOrphan,
        Self::Unreadable,
    ];

    /// The word in the table and in the JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Contradictory => "contradictory",
            Self::Doubled => "doubled",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Orphan => "orphan",
            Self::DeadLetterMissing => "dead_letter_missing",
            Self::DeadLetterDoubled => "dead_letter_doubled",
            Self::DeadLetterOrphan => "dead_letter_orphan",
            Self::Unreadable => "unreadable",
        }
    }

    /// Explains the kind in the summary.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Missing => "no final outcome, past deadline and grace",
            Self::Contradictory => "final outcomes that say different things",
            Self::Doubled => "final outcomes that say the same, decided at different times",
            Self::Repeated => "the same final outcome again",
            Self::Late => "decided after deadline and grace",
            Self::Orphan => "a final outcome without an escalation",
            Self::DeadLetterMissing => "malformed or a conflicting id, and no dead letter",
            Self::DeadLetterDoubled => "more than one dead letter",
            Self::DeadLetterOrphan => "a dead letter of a record that needs none",
            Self::Unreadable => "a record that is neither an outcome nor a dead letter",
        }
    }
}

/// One finding, or one escalation that is still open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AuditFinding {
    /// The position of the escalation's record, where it is known.
    pub source: Option<Position>,
    /// The record of the outcome or dead-letter topic that shows the fault, where there is one.
    pub seen_at: Option<Position>,
    /// The identity of the escalation, where it is known.
    pub event_id: Option<String>,
    /// One short line; may be empty.
    pub note: String,
}

/// The findings of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FindingList {
    /// The exact number of findings.
    pub count: u64,
    /// The first few, in the order of the records.
    pub first: BTreeSet<AuditFinding>,
}

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AuditReport {
    /// The number of records in the range.
    pub records: u64,
    /// The number of escalations, each identity counted once.
    pub events: u64,
    /// The number of escalations with a final outcome.
    pub answered: u64,
    /// The number of records that repeat the identity of an earlier one.
    pub duplicates: u64,
    /// The number of records with exactly the one dead letter they need.
    pub dead_letters: u64,
    /// The number of records of another type, those of `handoff check` included.
    pub not_for_us: u64,
    /// The number of records that still have time for their outcome or dead letter.
    pub open: u64,
    /// The first few of them.
    pub first_open: BTreeSet<AuditFinding>,
    /// The number of records whose outcome or dead letter retention may have deleted.
    pub deleted: u64,
    /// The number of interim outcomes.
    pub interim: u64,
    /// The number of outcomes and dead letters of records outside the range.
    pub outside: u64,
    /// The number of escalations by the status of their first final outcome.
    pub statuses: BTreeMap<Status, u64>,
    /// The findings.
    pub findings: BTreeMap<FindingKind, FindingList>,
}

impl AuditReport {
    /// Returns whether there are no findings.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Returns the number of findings of this kind.
    pub(crate) fn count(&self, kind: FindingKind) -> u64 {
        self.findings.get(&kind).map_or(0, |findings| findings.count)
    }

    pub(super) fn add(&mut self, kind: FindingKind, finding: AuditFinding, max_listed: usize) {
        let findings = self.findings.entry(kind).or_default();
        findings.count += 1;
        list(&mut findings.first, finding, max_listed);
    }

    pub(super) fn add_open(&mut self, finding: AuditFinding, max_listed: usize) {
        self.open += 1;
        list(&mut self.first_open, finding, max_listed);
    }
}

fn list(first: &mut BTreeSet<AuditFinding>, finding: AuditFinding, max_listed: usize) {
    first.insert(finding);
    // Findings come in any order; dropping the greatest keeps the first in the order of the records.
    if first.len() > max_listed {
        first.pop_last();
    }
}
