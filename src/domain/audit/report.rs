//! What the audit found: numbers, and the first few of each kind of finding.
//!
//! This file never grows with what went wrong: beyond the first few only the number does.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::record::Position;
use crate::domain::wire::outcome::Status;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Past its deadline and grace, and no final outcome.
    Missing,
    /// Two final outcomes that say different things.
    Contradictory,
    /// Two final outcomes that say the same in different bytes.
    Doubled,
    /// The same final outcome twice, byte for byte: a consumer drops it by its id.
    Repeated,
    /// Decided after its deadline and grace.
    Late,
    /// A final outcome to nothing that was asked.
    Orphan,
    /// Malformed or with a conflicting id, and no dead letter.
    LetterMissing,
    /// More than one dead letter of one record.
    LetterDoubled,
    /// A dead letter of a record that needs none.
    LetterOrphan,
    /// A record of the outcome or dead-letter topic that is neither.
    Unreadable,
}

impl Kind {
    /// All of them, the worst first.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Contradictory,
        Self::Doubled,
        Self::Repeated,
        Self::Late,
        Self::Orphan,
        Self::LetterMissing,
        Self::LetterDoubled,
        Self::LetterOrphan,
        Self::Unreadable,
    ];

    /// The word for people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Contradictory => "contradictory",
            Self::Doubled => "doubled",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Orphan => "orphan",
            Self::LetterMissing => "letter_missing",
            Self::LetterDoubled => "letter_doubled",
            Self::LetterOrphan => "letter_orphan",
            Self::Unreadable => "unreadable",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Missing => "no final outcome, past deadline and grace",
            Self::Contradictory => "final outcomes that say different things",
            Self::Doubled => "final outcomes that say the same in different bytes",
            Self::Repeated => "the same final outcome again, byte for byte",
            Self::Late => "decided after deadline and grace",
            Self::Orphan => "a final outcome to nothing that was asked",
            Self::LetterMissing => "malformed or a conflicting id, and no dead letter",
            Self::LetterDoubled => "more than one dead letter",
            Self::LetterOrphan => "a dead letter of a record that needs none",
            Self::Unreadable => "a record that is no outcome or no dead letter",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The escalation's record, where it is known.
    pub source: Option<Position>,
    /// The record that shows it: of the outcome or the dead-letter topic.
    pub place: Option<Position>,
    /// The escalation, where it is known.
    pub event_id: Option<String>,
    /// One short line, perhaps empty.
    pub note: String,
}

/// All of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first few, in the order of the records.
    pub first: BTreeSet<Finding>,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records of the range.
    pub records: u64,
    /// Escalations, by their identities.
    pub events: u64,
    /// Of them, with a final outcome.
    pub answered: u64,
    /// Records that only repeat an identity.
    pub duplicates: u64,
    /// Records with a dead letter, as it should be.
    pub letters: u64,
    /// Records of another type, and those of `check`.
    pub not_for_us: u64,
    /// Without an answer, and still in time.
    pub open: u64,
    /// The first few of them.
    pub first_open: BTreeSet<Finding>,
    /// Without an answer, perhaps because the topic has deleted it.
    pub deleted: u64,
    /// Outcomes that are not final.
    pub interim: u64,
    /// Outcomes and dead letters of records outside the range.
    pub outside: u64,
    /// Final outcomes by status, to identities of the range, each once.
    pub statuses: BTreeMap<Status, u64>,
    /// What is wrong.
    pub findings: BTreeMap<Kind, Findings>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many of this kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.findings.get(&kind).map_or(0, |findings| findings.count)
    }

    /// Note a finding; of each kind only so many are named.
    pub(super) fn add(&mut self, kind: Kind, finding: Finding, keep: usize) {
        let findings = self.findings.entry(kind).or_default();
        findings.count += 1;
        name(&mut findings.first, finding, keep);
    }

    /// Note that this is open; only so many are named.
    pub(super) fn open(&mut self, finding: Finding, keep: usize) {
        self.open += 1;
        name(&mut self.first_open, finding, keep);
    }
}

fn name(first: &mut BTreeSet<Finding>, finding: Finding, keep: usize) {
    first.insert(finding);
    if first.len() > keep {
        first.pop_last();
    }
}
