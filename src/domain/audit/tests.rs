//! The audit against truths that are known: made up, with faults put in.
//!
//! The property draws a fate for each escalation and expects exactly its findings. Nothing here
//! looks into the matcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::event::{DecodeRules, decode};
use crate::domain::record::Record;

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

/// Topics that are being written.
struct World {
    terms: Terms,
    asked: Vec<Record>,
    answers: Vec<Record>,
    letters: Vec<Position>,
    expected: BTreeMap<Kind, BTreeSet<(i32, i64)>>,
    open: u64,
    happened: usize,
}

impl World {
    fn new() -> Self {
        let terms = Terms {
            range: Range {
                topic: "in".into(),
                partitions: (0..3).map(|p| (p, 10..1_000)).collect(),
            },
            grace: Duration::from_secs(90),
            letter_after: Duration::from_secs(690),
            trimmed_until: None,
            keep: 1_000,
        };
        let (asked, answers, letters) = (vec![], vec![], vec![]);
        Self { terms, asked, answers, letters, expected: BTreeMap::new(), open: 0, happened: 0 }
    }

    /// Ask; where the record stands.
    fn ask(&mut self, value: &str) -> Position {
        let n = self.asked.len();
        let position = position("in", i32::try_from(n % 3).unwrap(), 10 + n as i64 / 3);
        self.asked.push(record(position.clone(), value));
        position
    }

    fn event(&mut self, id: &str, session: &str, due: i64) -> Position {
        let value = json!({"id": id, "session_id": session, "expires_at": at(due)});
        self.ask(&value.to_string())
    }

    fn answer(
        &mut self,
        (id, session): (&str, &str),
        source: &Position,
        (status, when): (&str, i64),
    ) {
        let value = json!({"id": format!("{id}/final"), "event_id": id, "session_id": session,
            "status": status, "final": true, "decided_at": at(when), "source": source});
        let place = position("out", 0, self.answers.len() as i64);
        self.answers.push(record(place, &value.to_string()));
    }

    fn expect(&mut self, kind: Kind, source: &Position) {
        self.expected.entry(kind).or_default().insert((source.partition, source.offset));
    }

    fn escalations(&self) -> Escalations {
        let rules = DecodeRules {
            types: vec!["escalation".into()],
            max_bytes: 1_000,
            time_to_live: Duration::from_secs(600),
        };
        let mut escalations = Escalations::new(self.terms.clone()).unwrap();
        for record in &self.asked {
            escalations.take(record, &decode(record, &rules, at(0)), at(0));
        }
        escalations
    }

    fn report(&self, now: i64) -> Report {
        let mut matcher = self.escalations().into_matcher();
        for record in &self.answers {
            match Answer::read(record) {
                Ok(answer) => matcher.outcome(&answer),
                Err(error) => matcher.unreadable(&record.position, &error),
            }
        }
        for source in &self.letters {
            matcher.letter(source);
        }
        matcher.judge(at(now))
    }
}

fn found(report: &Report) -> BTreeMap<Kind, BTreeSet<(i32, i64)>> {
    let places = |findings: &Findings| {
        let sources = findings.first.iter().filter_map(|finding| finding.source.as_ref());
        sources.map(|source| (source.partition, source.offset)).collect()
    };
    report.findings.iter().map(|(kind, findings)| (*kind, places(findings))).collect()
}

/// What becomes of an escalation.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Fine,
    Lost,
    NotDue,
    Repeated,
    Doubled,
    Contradictory,
    Late,
    AskedTwice,
    AskedTwiceAndLost,
    OtherSession,
    OtherSessionUntold,
    RefusedAlone,
    Orphan,
    Interim,
    Malformed,
    MalformedUntold,
    MalformedTwiceTold,
    NeedlessLetter,
    NotForUs,
    Elsewhere,
}

const FATES: [Fate; 20] = [
    Fate::Fine,
    Fate::Lost,
    Fate::NotDue,
    Fate::Repeated,
    Fate::Doubled,
    Fate::Contradictory,
    Fate::Late,
    Fate::AskedTwice,
    Fate::AskedTwiceAndLost,
    Fate::OtherSession,
    Fate::OtherSessionUntold,
    Fate::RefusedAlone,
    Fate::Orphan,
    Fate::Interim,
    Fate::Malformed,
    Fate::MalformedUntold,
    Fate::MalformedTwiceTold,
    Fate::NeedlessLetter,
    Fate::NotForUs,
    Fate::Elsewhere,
];

impl World {
    fn happen(&mut self, fate: Fate) {
        let (id, session) = (format!("e-{}", self.happened), format!("s-{}", self.happened));
        self.happened += 1;
        let us = (id.as_str(), session.as_str());
        match fate {
            Fate::Orphan => {
                let place = position("in", 0, 900);
                self.answer(us, &place, ("assigned", 5));
                return self.expect(Kind::Orphan, &place);
            }
            Fate::Elsewhere => {
                self.answer(("other", "o"), &position("in", 0, 5), ("assigned", 5));
                return self.letters.push(position("elsewhere", 0, 10));
            }
            Fate::NotForUs => return drop(self.ask(r#"{"type":"chat"}"#)),
            Fate::Malformed | Fate::MalformedUntold | Fate::MalformedTwiceTold => {
                return self.poison(fate);
            }
            _ => {}
        }
        let due = if matches!(fate, Fate::NotDue) { 5_000 } else { 300 };
        let place = self.event(&id, &session, due);
        match fate {
            Fate::Lost => return self.expect(Kind::Missing, &place),
            Fate::NotDue => return self.open += 1,
            Fate::Late => {
                self.expect(Kind::Late, &place);
                return self.answer(us, &place, ("expired", 391));
            }
            Fate::AskedTwiceAndLost => {
                let again = self.event(&id, &session, due);
                let first = [&place, &again].into_iter().min().unwrap().clone();
                return self.expect(Kind::Missing, &first);
            }
            Fate::RefusedAlone => return self.letters.push(place),
            _ => self.answer(us, &place, ("assigned", 390)),
        }
        self.and_more(fate, us, &place);
    }

    fn poison(&mut self, fate: Fate) {
        let place = self.ask("{oops");
        match fate {
            Fate::MalformedUntold => return self.expect(Kind::LetterMissing, &place),
            Fate::MalformedTwiceTold => {
                self.expect(Kind::LetterDoubled, &place);
                self.letters.push(place.clone());
            }
            _ => {}
        }
        self.letters.push(place);
    }

    /// It has an answer; what else happens.
    fn and_more(&mut self, fate: Fate, (id, session): (&str, &str), place: &Position) {
        match fate {
            Fate::Repeated => {
                self.expect(Kind::Repeated, place);
                self.answer((id, session), place, ("assigned", 390));
            }
            Fate::Doubled => {
                self.expect(Kind::Doubled, place);
                self.answer((id, session), place, ("assigned", 389));
            }
            Fate::Contradictory => {
                self.expect(Kind::Contradictory, place);
                self.answer((id, session), place, ("failed", 390));
            }
            Fate::AskedTwice => drop(self.event(id, session, 300)),
            Fate::OtherSession => {
                let other = self.event(id, "other", 300);
                self.letters.push(other);
            }
            Fate::OtherSessionUntold => {
                let other = self.event(id, "other", 300);
                self.expect(Kind::LetterMissing, &other);
            }
            Fate::NeedlessLetter => {
                self.expect(Kind::LetterOrphan, place);
                self.letters.push(place.clone());
            }
            Fate::Interim => {
                let value = json!({"event_id": id, "session_id": session, "final": false,
                    "status": "no_agent_online", "source": place});
                let at = position("out", 0, self.answers.len() as i64);
                self.answers.push(record(at, &value.to_string()));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn exactly_what_went_wrong_is_found(
        fates in prop::collection::vec(prop::sample::select(FATES.to_vec()), 0..60),
        turn in 0..60usize,
    ) {
        let mut world = World::new();
        for fate in &fates {
            world.happen(*fate);
        }
        // The order in which topics are read does not matter.
        let (asked, answers) = (world.asked.len().max(1), world.answers.len().max(1));
        world.asked.rotate_left(turn % asked);
        world.answers.rotate_left(turn % answers);
        let report = world.report(1_000);
        prop_assert_eq!(found(&report), world.expected.clone());
        prop_assert_eq!(report.open, world.open);
        prop_assert_eq!(report.records, world.asked.len() as u64);
    }
}

#[test]
fn nothing_is_missing_before_its_time() {
    let mut world = World::new();
    let event = world.event("e", "s", 300);
    let poison = world.ask("{oops");
    for (now, open, missing) in [(390, 2, vec![]), (391, 1, vec![Kind::Missing])] {
        let report = world.report(now);
        assert_eq!(report.open, open);
        assert_eq!(report.findings.keys().copied().collect::<Vec<_>>(), missing);
    }
    let report = world.report(691);
    let kinds = [(Kind::Missing, event), (Kind::LetterMissing, poison)];
    let places = kinds.map(|(kind, at)| (kind, [(at.partition, at.offset)].into()));
    assert_eq!(found(&report), places.into());
    world.terms.trimmed_until = Some(at(1));
    let report = world.report(691);
    assert!(report.is_well(), "the answers may have been deleted");
    assert_eq!(report.deleted, 2);
}

#[test]
fn an_identity_that_was_answered_before_the_range_needs_no_second_answer() {
    let mut world = World::new();
    world.event("e", "s", 300);
    world.event("taken", "s", 300);
    let before = position("in", 0, 3);
    world.answer(("e", "s"), &before, ("assigned", -100));
    world.answer(("taken", "other"), &before, ("assigned", -100));
    let report = world.report(1_000);
    assert_eq!(report.count(Kind::Missing), 0, "{report:?}");
    assert_eq!(report.count(Kind::LetterMissing), 1, "that one is in conflict");
    let mut matcher = world.escalations().into_matcher();
    assert_eq!(matcher.overdue(at(390)), 0);
    assert_eq!(matcher.overdue(at(391)), 2);
    for record in &world.answers {
        matcher.earlier(&Answer::read(record).unwrap());
    }
    assert_eq!(matcher.overdue(at(391)), 0);
}

#[test]
fn what_is_no_outcome_is_said_and_of_each_kind_the_first_are_named() {
    let mut world = World::new();
    world.terms.keep = 2;
    for n in 0..9 {
        world.event(&format!("e-{n}"), "s", 1);
    }
    for value in ["{}", "oops"] {
        world.answers.push(record(position("out", 1, 1), value));
    }
    let report = world.report(1_000);
    assert_eq!((report.count(Kind::Missing), report.count(Kind::Unreadable)), (9, 2));
    assert_eq!(found(&report)[&Kind::Missing], [(0, 10), (0, 11)].into());
    assert!(!report.is_well());
}

#[test]
fn a_letter_says_where_its_record_stood() {
    let mut letter = record(position("dead", 0, 0), "");
    assert_eq!(letter_source(&letter), None);
    for (name, value) in [("topic", "in"), ("partition", "2"), ("offset", "77")] {
        let name = format!("handoff-source-{name}");
        letter.headers.push((name, Some(value.as_bytes().to_vec())));
    }
    assert_eq!(letter_source(&letter), Some(position("in", 2, 77)));
}
