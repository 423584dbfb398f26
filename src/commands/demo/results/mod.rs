//! Compares the published escalations with their outcomes: one final outcome each, the expected one.
//!
//! Records that belong to no case are counted too. This is pure: no I/O, no waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use tokio::time::Instant;

use super::case::{DemoCase, Expectation};
use super::fixture::DeskObservations;
use super::published::{PublishedContent, PublishedRecord};
use crate::adapters::kafka::GroupOffsets;
use crate::domain::record::Position;
use crate::domain::wire::dead_letter::DeadLetter;
use crate::domain::wire::outcome::OutcomeRecord;

/// All cases and the records that came of them.
pub(super) struct DemoResults {
    cases: Vec<DemoCase>,
    by_event: HashMap<String, usize>,
    by_position: HashMap<Position, usize>,
    /// Final outcomes of each case.
    finals: Vec<Vec<OutcomeRecord>>,
    /// Dead letters of each case.
    dead_letters: Vec<Vec<DeadLetter>>,
    /// Indexes of cases in the order of their final outcomes.
    order: Vec<usize>,
    /// Records that belong to no case.
    unexpected: Vec<String>,
    /// Cases that still need an outcome or dead letter.
    missing: usize,
    plain_ended: Option<Instant>,
}

/// What was observed elsewhere than in the outcome and dead-letter topics.
#[derive(Debug, Clone)]
pub(super) struct Observations {
    /// Records skipped, as counted by the service.
    pub(super) skipped: u64,
    /// What the service's consumer group has committed.
    pub(super) offsets: GroupOffsets,
    pub(super) desk: DeskObservations,
}

/// A deviation from the expected results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl DemoResults {
    pub(super) fn new(cases: Vec<DemoCase>) -> Self {
        let ids = cases.iter().enumerate().filter(|(_, case)| !case.event.is_empty());
        let by_event = ids.map(|(index, case)| (case.event.clone(), index)).collect();
        let missing = cases.iter().filter(|case| case.expected != Expectation::Skipped).count();
        Self {
            by_event,
            by_position: HashMap::new(),
            finals: vec![Vec::new(); cases.len()],
            dead_letters: vec![Vec::new(); cases.len()],
            order: Vec::new(),
            unexpected: Vec::new(),
            missing,
            plain_ended: None,
            cases,
        }
    }

    pub(super) fn cases(&self) -> &[DemoCase] {
        &self.cases
    }

    /// Sets the positions of the published records, in the order of the cases.
    pub(super) fn set_positions(&mut self, positions: &[Position]) {
        self.by_position = positions.iter().cloned().zip(0..).collect();
    }

    /// Number of partitions with records.
    pub(super) fn partitions(&self) -> usize {
        let partitions: BTreeSet<_> =
            self.by_position.keys().map(|position| position.partition).collect();
        partitions.len()
    }

    /// Counts a record and returns the case it belongs to, if any.
    pub(super) fn add(&mut self, record: &PublishedRecord) -> Option<&DemoCase> {
        let (index, is_answer) = match &record.content {
            PublishedContent::Outcome(outcome, _) => {
                let index = outcome.event_id.as_ref().and_then(|id| self.by_event.get(id));
                (index, outcome.is_final)
            }
            PublishedContent::DeadLetter(dead_letter) => {
                (dead_letter.source().and_then(|source| self.by_position.get(&source)), true)
            }
            PublishedContent::Unreadable(_) => (None, false),
        };
        let Some(&index) = index else {
            self.unexpected.push(record.describe());
            return None;
        };
        let is_first = self.finals[index].is_empty() && self.dead_letters[index].is_empty();
        if is_answer && is_first && self.cases[index].expected != Expectation::Skipped {
            self.missing -= 1;
        }
        match &record.content {
            PublishedContent::Outcome(outcome, _) if outcome.is_final => {
                self.finals[index].push(outcome.clone());
                self.order.push(index);
            }
            PublishedContent::DeadLetter(dead_letter) => {
                self.dead_letters[index].push(dead_letter.clone())
            }
            PublishedContent::Outcome(..) | PublishedContent::Unreadable(_) => {}
        }
        if self.cases[index].plain {
            self.plain_ended = Some(record.at);
        }
        Some(&self.cases[index])
    }

    /// Whether each case that needs an outcome or dead letter has one.
    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Number of escalations that must be answered.
    pub(super) fn escalations(&self) -> usize {
        let is_answered = |case: &&DemoCase| matches!(case.expected, Expectation::Outcome { .. });
        self.cases.iter().filter(is_answered).count()
    }

    /// Number of escalations with a final outcome.
    pub(super) fn answered(&self) -> usize {
        self.finals.iter().filter(|finals| !finals.is_empty()).count()
    }

    /// Number of malformed records.
    pub(super) fn expected_dead_letters(&self) -> usize {
        let is_malformed = |case: &&DemoCase| matches!(case.expected, Expectation::DeadLetter(_));
        self.cases.iter().filter(is_malformed).count()
    }

    pub(super) fn dead_letters(&self) -> usize {
        self.dead_letters.iter().map(Vec::len).sum()
    }

    /// Number of records that the service must skip.
    pub(super) fn expected_skipped(&self) -> u64 {
        self.cases.iter().filter(|case| case.expected == Expectation::Skipped).count() as u64
    }

    /// Number of plain escalations.
    pub(super) fn plain(&self) -> usize {
        self.cases.iter().filter(|case| case.plain).count()
    }

    /// When the last plain escalation was answered.
    pub(super) fn plain_ended(&self) -> Option<Instant> {
        self.plain_ended
    }

    /// Number of final outcomes by status.
    pub(super) fn statuses(&self) -> BTreeMap<String, usize> {
        let mut statuses = BTreeMap::new();
        for outcome in self.finals.iter().flatten() {
            *statuses.entry(outcome.status.clone()).or_default() += 1;
        }
        statuses
    }

    /// All deviations from the expected results.
    pub(super) fn differences(&self, observed: &Observations) -> Vec<Difference> {
        let mut found: Vec<_> = (0..self.cases.len())
            .filter(|&index| !self.is_as_expected(index))
            .map(|index| self.difference(index))
            .collect();
        found.extend(self.unexpected.iter().map(|record| {
            difference("published by the service", "only answers to the cases", record)
        }));
        found.extend(self.out_of_order());
        let transfers = self.expected_transfers().into_iter();
        found.extend(
            transfers.filter_map(|(session, count)| transfers_differ(session, count, observed)),
        );
        if observed.skipped != self.expected_skipped() {
            let expected = self.expected_skipped().to_string();
            found.push(difference("records skipped", &expected, &observed.skipped.to_string()));
        }
        let GroupOffsets { committed, lag } = observed.offsets;
        if (committed, lag) != (self.partitions(), 0) {
            let expected = format!("in {} partitions, to their ends", self.partitions());
            let got = format!("in {committed} partitions, {lag} records from their ends");
            found.push(difference("offsets committed", &expected, &got));
        }
        found
    }

    fn is_as_expected(&self, index: usize) -> bool {
        let case = &self.cases[index];
        match (case.expected, &*self.finals[index], &*self.dead_letters[index]) {
            (Expectation::Outcome { status, confirmed_by }, [outcome], []) => {
                outcome.status == status.as_str()
                    && outcome.session_id.as_deref() == Some(&*case.session)
                    && confirmed_by.is_none_or(|by| outcome.confirmed_by.as_deref() == Some(by))
            }
            (Expectation::DeadLetter(class), [], [dead_letter]) => {
                dead_letter.class.as_deref() == Some(class.as_str())
            }
            (Expectation::Skipped, [], []) => true,
            _ => false,
        }
    }

    fn difference(&self, index: usize) -> Difference {
        let case = &self.cases[index];
        let outcomes = self.finals[index].iter().map(|outcome| match &outcome.confirmed_by {
            Some(by) => format!("{} (confirmed by {by})", outcome.status),
            None => outcome.status.clone(),
        });
        let dead_letters = self.dead_letters[index].iter().map(|dead_letter| {
            format!("dead letter ({})", dead_letter.class.as_deref().unwrap_or("no class"))
        });
        let got: Vec<_> = outcomes.chain(dead_letters).collect();
        let got = if got.is_empty() { "nothing".to_owned() } else { got.join(", then ") };
        let id = if case.event.is_empty() { "a record" } else { &case.event };
        let what = format!("{id} of {} ({})", case.session, case.description);
        difference(&what, &case.expected.describe(), &got)
    }

    /// Two outcomes of one session that were published in the wrong order.
    fn out_of_order(&self) -> Option<Difference> {
        let mut last: HashMap<&str, usize> = HashMap::new();
        for &index in &self.order {
            let case = &self.cases[index];
            if let Some(earlier) = last.insert(&case.session, index).filter(|last| *last > index) {
                let (first, second) = (&case.event, &self.cases[earlier].event);
                let expected = format!("{first} before {second}");
                return Some(difference(&case.session, &expected, "the reverse order"));
            }
        }
        None
    }

    /// How many transfers must take effect, by session.
    fn expected_transfers(&self) -> BTreeMap<&str, u64> {
        let mut transfers: BTreeMap<&str, u64> = BTreeMap::new();
        for case in &self.cases {
            // The second escalation of a session finds it with an agent: still one transfer.
            let count = transfers.entry(&case.session).or_default();
            *count = case.transfers.max(*count);
        }
        transfers
    }
}

fn difference(what: &str, expected: &str, got: &str) -> Difference {
    Difference { what: what.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Compares the transfers that Desk recorded with the expected number, and checks that no two calls
/// of the session overlapped.
fn transfers_differ(session: &str, transfers: u64, observed: &Observations) -> Option<Difference> {
    let report = observed.desk.sessions.get(session);
    let (acted, overlap) =
        report.map_or((0, 0), |report| (report.transfers_acted, report.max_overlap));
    if acted == transfers && overlap <= 1 {
        return None;
    }
    let expected = format!("transfers that took effect: {transfers}, one call at a time");
    let got = format!("transfers that took effect: {acted}, up to {overlap} calls at a time");
    Some(difference(&format!("{session}, as recorded by Desk"), &expected, &got))
}

#[cfg(test)]
mod tests;
