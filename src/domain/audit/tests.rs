//! The audit against generated topics whose faults are known.
//!
//! The property draws a fate for each escalation and expects exactly the findings of that fate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::record::Record;
use crate::domain::wire::escalation::{DecodeRules, decode};

const DAY: i64 = 1_800_000_000;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(DAY + second).unwrap()
}

pub(super) fn position(topic: &str, partition: i32, offset: i64) -> Position {
    Position { topic: topic.into(), partition, offset }
}

pub(super) fn record(position: Position, value: &str) -> Record {
    let (value, headers) = (Some(value.as_bytes().to_vec()), vec![]);
    Record { position, timestamp: Some(at(0)), key: None, value, headers }
}

/// A partition and an offset of the escalations topic.
type SourceOffset = (i32, i64);

/// The three topics, and what the audit should find in them.
struct TopicContents {
    rules: AuditRules,
    escalations: Vec<Record>,
    outcomes: Vec<Record>,
    dead_letters: Vec<Position>,
    expected: BTreeMap<FindingKind, BTreeSet<SourceOffset>>,
    open: u64,
    fates: usize,
}

/// The identity and the session of an escalation.
#[derive(Clone, Copy)]
struct EventIds<'a> {
    event: &'a str,
    session: &'a str,
}

impl TopicContents {
    fn new() -> Self {
        let rules = AuditRules {
            range: AuditRange {
                topic: "in".into(),
                partitions: (0..3).map(|p| (p, 10..1_000)).collect(),
            },
            grace: Duration::from_secs(90),
            dead_letter_grace: Duration::from_secs(690),
            trimmed_until: None,
            max_listed: 1_000,
        };
        Self {
            rules,
            escalations: vec![],
            outcomes: vec![],
            dead_letters: vec![],
            expected: BTreeMap::new(),
            open: 0,
            fates: 0,
        }
    }

    /// Publishes a record to the escalations topic.
    fn publish(&mut self, value: &str) -> Position {
        let n = self.escalations.len();
        let position = position("in", i32::try_from(n % 3).unwrap(), 10 + n as i64 / 3);
        self.escalations.push(record(position.clone(), value));
        position
    }

    fn event(&mut self, id: &str, session: &str, due: i64) -> Position {
        let value = json!({"id": id, "session_id": session, "expires_at": at(due)});
        self.publish(&value.to_string())
    }

    fn publish_outcome(
        &mut self,
        ids: EventIds<'_>,
        source: &Position,
        status: &str,
        decided: i64,
    ) {
        let EventIds { event, session } = ids;
        let value = json!({"id": format!("{event}/final"), "event_id": event, "session_id": session,
            "status": status, "final": true, "decided_at": at(decided), "source": source});
        let position = position("out", 0, self.outcomes.len() as i64);
        self.outcomes.push(record(position, &value.to_string()));
    }

    fn expect(&mut self, kind: FindingKind, source: &Position) {
        self.expected.entry(kind).or_default().insert((source.partition, source.offset));
    }

    fn escalations(&self) -> Escalations {
        let decode_rules = DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 1_000,
            time_to_live: Duration::from_secs(600),
            input: Arc::default(),
        };
        let mut escalations = Escalations::new(self.rules.clone()).unwrap();
        for record in &self.escalations {
            escalations.add(record, &decode(record, &decode_rules, at(0)), at(0));
        }
        escalations
    }

    fn report(&self, now: i64) -> AuditReport {
        let mut matcher = self.escalations().into_matcher();
        for record in &self.outcomes {
            match AuditedOutcome::read(record) {
                Ok(outcome) => matcher.add_outcome(&outcome),
                Err(error) => matcher.add_unreadable(&record.position, &error),
            }
        }
        for source in &self.dead_letters {
            matcher.add_dead_letter(source);
        }
        matcher.judge(at(now))
    }
}

fn found(report: &AuditReport) -> BTreeMap<FindingKind, BTreeSet<SourceOffset>> {
    let sources = |findings: &super::report::FindingList| {
        let sources = findings.first.iter().filter_map(|finding| finding.source.as_ref());
        sources.map(|source| (source.partition, source.offset)).collect()
    };
    report.findings.iter().map(|(kind, findings)| (*kind, sources(findings))).collect()
}

/// What happens to an escalation.
#[derive(Debug, Clone, Copy)]
enum EscalationFate {
    Answered,
    Lost,
    NotDue,
    Repeated,
    Doubled,
    Contradictory,
    Late,
    PublishedTwice,
    PublishedTwiceAndLost,
    OtherSession,
    OtherSessionWithoutDeadLetter,
    RefusedWithoutOutcome,
    Orphan,
    Interim,
    Malformed,
    MalformedWithoutDeadLetter,
    MalformedWithTwoDeadLetters,
    NeedlessDeadLetter,
    NotForUs,
    OutsideRange,
}

const FATES: [EscalationFate; 20] = [
    EscalationFate::Answered,
    EscalationFate::Lost,
    EscalationFate::NotDue,
    EscalationFate::Repeated,
    EscalationFate::Doubled,
    EscalationFate::Contradictory,
    EscalationFate::Late,
    EscalationFate::PublishedTwice,
    EscalationFate::PublishedTwiceAndLost,
    EscalationFate::OtherSession,
    EscalationFate::OtherSessionWithoutDeadLetter,
    EscalationFate::RefusedWithoutOutcome,
    EscalationFate::Orphan,
    EscalationFate::Interim,
    EscalationFate::Malformed,
    EscalationFate::MalformedWithoutDeadLetter,
    EscalationFate::MalformedWithTwoDeadLetters,
    EscalationFate::NeedlessDeadLetter,
    EscalationFate::NotForUs,
    EscalationFate::OutsideRange,
];

impl TopicContents {
    fn apply(&mut self, fate: EscalationFate) {
        let (event, session) = (format!("e-{}", self.fates), format!("s-{}", self.fates));
        self.fates += 1;
        let ids = EventIds { event: &event, session: &session };
        match fate {
            EscalationFate::Orphan => {
                let source = position("in", 0, 900);
                self.publish_outcome(ids, &source, "assigned", 5);
                return self.expect(FindingKind::Orphan, &source);
            }
            EscalationFate::OutsideRange => {
                let other = EventIds { event: "other", session: "o" };
                self.publish_outcome(other, &position("in", 0, 5), "assigned", 5);
                return self.dead_letters.push(position("elsewhere", 0, 10));
            }
            EscalationFate::NotForUs => return drop(self.publish(r#"{"type":"chat"}"#)),
            EscalationFate::Malformed
            | EscalationFate::MalformedWithoutDeadLetter
            | EscalationFate::MalformedWithTwoDeadLetters => return self.apply_malformed(fate),
            _ => {}
        }
        let due = if matches!(fate, EscalationFate::NotDue) { 5_000 } else { 300 };
        let source = self.event(&event, &session, due);
        match fate {
            EscalationFate::Lost => return self.expect(FindingKind::Missing, &source),
            EscalationFate::NotDue => return self.open += 1,
            EscalationFate::Late => {
                self.expect(FindingKind::Late, &source);
                return self.publish_outcome(ids, &source, "expired", 391);
            }
            EscalationFate::PublishedTwiceAndLost => {
                let again = self.event(&event, &session, due);
                let first = [&source, &again].into_iter().min().unwrap().clone();
                return self.expect(FindingKind::Missing, &first);
            }
            EscalationFate::RefusedWithoutOutcome => return self.dead_letters.push(source),
            _ => self.publish_outcome(ids, &source, "assigned", 390),
        }
        self.apply_after_outcome(fate, ids, &source);
    }

    fn apply_malformed(&mut self, fate: EscalationFate) {
        let source = self.publish("{oops");
        match fate {
            EscalationFate::MalformedWithoutDeadLetter => {
                return self.expect(FindingKind::DeadLetterMissing, &source);
            }
            EscalationFate::MalformedWithTwoDeadLetters => {
                self.expect(FindingKind::DeadLetterDoubled, &source);
                self.dead_letters.push(source.clone());
            }
            _ => {}
        }
        self.dead_letters.push(source);
    }

    /// The second half of a fate: the escalation has an outcome already.
    fn apply_after_outcome(&mut self, fate: EscalationFate, ids: EventIds<'_>, source: &Position) {
        match fate {
            EscalationFate::Repeated => {
                self.expect(FindingKind::Repeated, source);
                self.publish_outcome(ids, source, "assigned", 390);
            }
            EscalationFate::Doubled => {
                self.expect(FindingKind::Doubled, source);
                self.publish_outcome(ids, source, "assigned", 389);
            }
            EscalationFate::Contradictory => {
                self.expect(FindingKind::Contradictory, source);
                self.publish_outcome(ids, source, "failed", 390);
            }
            EscalationFate::PublishedTwice => drop(self.event(ids.event, ids.session, 300)),
            EscalationFate::OtherSession => {
                let other = self.event(ids.event, "other", 300);
                self.dead_letters.push(other);
            }
            EscalationFate::OtherSessionWithoutDeadLetter => {
                let other = self.event(ids.event, "other", 300);
                self.expect(FindingKind::DeadLetterMissing, &other);
            }
            EscalationFate::NeedlessDeadLetter => {
                self.expect(FindingKind::DeadLetterOrphan, source);
                self.dead_letters.push(source.clone());
            }
            EscalationFate::Interim => {
                let value = json!({"event_id": ids.event, "session_id": ids.session,
                    "final": false, "status": "no_agent_online", "source": source});
                let position = position("out", 0, self.outcomes.len() as i64);
                self.outcomes.push(record(position, &value.to_string()));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn exactly_the_injected_faults_are_found(
        fates in prop::collection::vec(prop::sample::select(FATES.to_vec()), 0..60),
        rotation in 0..60usize,
    ) {
        let mut topics = TopicContents::new();
        for fate in &fates {
            topics.apply(*fate);
        }
        // The order in which the records are read must not matter.
        let len = topics.escalations.len().max(1);
        topics.escalations.rotate_left(rotation % len);
        let len = topics.outcomes.len().max(1);
        topics.outcomes.rotate_left(rotation % len);
        let report = topics.report(1_000);
        prop_assert_eq!(found(&report), topics.expected.clone());
        prop_assert_eq!(report.open, topics.open);
        prop_assert_eq!(report.records, topics.escalations.len() as u64);
    }
}

#[test]
fn nothing_is_missing_before_it_is_due_or_after_retention() {
    let mut topics = TopicContents::new();
    let event = topics.event("e", "s", 300);
    let malformed = topics.publish("{oops");
    for (now, open, missing) in [(390, 2, vec![]), (391, 1, vec![FindingKind::Missing])] {
        let report = topics.report(now);
        assert_eq!(report.open, open);
        assert_eq!(report.findings.keys().copied().collect::<Vec<_>>(), missing);
    }
    let report = topics.report(691);
    let kinds = [(FindingKind::Missing, event), (FindingKind::DeadLetterMissing, malformed)];
    let sources = kinds.map(|(kind, at)| (kind, [(at.partition, at.offset)].into()));
    assert_eq!(found(&report), sources.into());
    topics.rules.trimmed_until = Some(at(1));
    let report = topics.report(691);
    assert!(report.is_clean(), "the outcomes may have been deleted");
    assert_eq!(report.deleted, 2);
}

#[test]
fn an_identity_that_was_answered_before_the_range_needs_no_second_outcome() {
    let mut topics = TopicContents::new();
    topics.event("e", "s", 300);
    topics.event("taken", "s", 300);
    let before = position("in", 0, 3);
    topics.publish_outcome(EventIds { event: "e", session: "s" }, &before, "assigned", -100);
    let other = EventIds { event: "taken", session: "other" };
    topics.publish_outcome(other, &before, "assigned", -100);
    let report = topics.report(1_000);
    assert_eq!(report.count(FindingKind::Missing), 0, "{report:?}");
    assert_eq!(
        report.count(FindingKind::DeadLetterMissing),
        1,
        "its id was used with another session"
    );
    let mut matcher = topics.escalations().into_matcher();
    assert_eq!(matcher.overdue(at(390)), 0);
    assert_eq!(matcher.overdue(at(391)), 2);
    for record in &topics.outcomes {
        matcher.add_earlier(&AuditedOutcome::read(record).unwrap());
    }
    assert_eq!(matcher.overdue(at(391)), 0);
}

#[test]
fn unreadable_records_are_reported_and_only_the_first_findings_are_listed() {
    let mut topics = TopicContents::new();
    topics.rules.max_listed = 2;
    for n in 0..9 {
        topics.event(&format!("e-{n}"), "s", 1);
    }
    for value in ["{}", "oops"] {
        topics.outcomes.push(record(position("out", 1, 1), value));
    }
    let report = topics.report(1_000);
    assert_eq!((report.count(FindingKind::Missing), report.count(FindingKind::Unreadable)), (9, 2));
    assert_eq!(found(&report)[&FindingKind::Missing], [(0, 10), (0, 11)].into());
    assert!(!report.is_clean());
}

/// The dead letter was published under another configuration.
#[test]
fn a_record_that_was_replayed_may_have_a_dead_letter_and_an_outcome() {
    let mut topics = TopicContents::new();
    let first = topics.publish(r#"{"session_id":"s"}"#);
    topics.dead_letters.push(first.clone());
    let replay = topics.publish(r#"{"session_id":"s"}"#);
    let header = format!("{first}@{}", at(0).as_millisecond()).into_bytes();
    let ids = EventIds { event: &first.to_string(), session: "s" };
    topics.publish_outcome(ids, &replay, "assigned", 1);
    let without_header = topics.report(1_000);
    assert!(!without_header.is_clean(), "it is another event");
    topics.escalations[1].headers.push(("handoff-replay-first".into(), Some(header)));
    let report = topics.report(1_000);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.dead_letters, report.answered, report.duplicates), (1, 1, 1));
}
