//! The demo's check fails where it has to. It never starts anything.

use serde_json::json;

use super::super::scene::escalation;
use super::*;
use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::SessionReport;

fn scenes() -> Vec<Scene> {
    let bad = escalation("", "c", json!({})).moves_nothing();
    let skipped = escalation("e4", "d", json!({})).moves_nothing();
    vec![
        escalation("e1", "a", json!({})).story("first"),
        escalation("e2", "a", json!({})).story("second").confirmed_by_state(),
        escalation("e3", "b", json!({})).story("nobody").becomes(Status::Expired).moves_nothing(),
        Scene { expected: Expected::DeadLetter(MalformedClass::NotJson), ..bad.story("bad") },
        Scene { expected: Expected::Nothing, ..skipped.story("other") },
    ]
}

fn places() -> Vec<Position> {
    (0..5).map(|offset| Position { topic: "t".into(), partition: 0, offset }).collect()
}

fn outcome(event: &str, session: &str, status: &str, by: Option<&str>) -> Came {
    let answer = Answer {
        event_id: event.into(),
        session_id: session.into(),
        status: status.into(),
        is_final: true,
        confirmed_by: by.map(str::to_owned),
        ..Answer::default()
    };
    let raw = serde_json::value::to_raw_value(&json!({})).unwrap();
    Came { at: Instant::now(), what: What::Outcome(answer, raw) }
}

fn letter(place: (i32, i64), class: &str) -> Came {
    let letter = Letter { class: class.into(), source: Some(place), ..Letter::default() };
    Came { at: Instant::now(), what: What::DeadLetter(letter) }
}

/// What comes when all goes well.
fn good() -> Vec<Came> {
    vec![
        outcome("e1", "a", "assigned", Some("reply")),
        outcome("e3", "b", "expired", None),
        letter((0, 3), "not_json"),
        outcome("e2", "a", "assigned", Some("session_state")),
    ]
}

fn facts() -> Facts {
    let report = SessionReport { transfers_acted: 1, max_overlap: 1, ..SessionReport::default() };
    let sessions = [("a".to_owned(), report)].into();
    let standing = Standing { committed: 1, lag: 0 };
    Facts { skipped: 1, standing, desk: DeskFacts { calls: 3, sessions } }
}

fn check(came: Vec<Came>, facts: &Facts, expected: &[&str]) {
    let mut tally = Tally::new(scenes());
    tally.published(&places());
    for came in &came {
        tally.take(came);
    }
    let differences = tally.differences(facts);
    let texts: Vec<_> =
        differences.iter().map(|d| format!("{}: {} / {}", d.what, d.expected, d.got)).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn all_is_well() {
    check(good(), &facts(), &[]);
    let mut tally = Tally::new(scenes());
    tally.published(&places());
    for (n, came) in good().iter().enumerate() {
        assert!(!tally.is_complete(), "after {n}");
        assert!(tally.take(came).is_some());
    }
    assert!(tally.is_complete());
}

#[tokio::test]
async fn each_fault_is_found() {
    let without = |index: usize| {
        let mut came = good();
        came.remove(index);
        came
    };
    let with = |more: Came| good().into_iter().chain([more]).collect::<Vec<_>>();
    check(without(1), &facts(), &["e3 of b (nobody): expired, once / nothing"]);
    check(without(2), &facts(), &["a record of c (bad): dead letter (not_json), once / nothing"]);
    check(
        with(outcome("e3", "b", "assigned", None)),
        &facts(),
        &["e3 of b (nobody): expired, once / expired, then assigned"],
    );
    check(
        with(outcome("e4", "d", "assigned", None)),
        &facts(),
        &["e4 of d (other): nothing (skipped) / assigned"],
    );
    let mut wrong = without(3);
    wrong.push(outcome("e2", "a", "assigned", Some("reply")));
    let expected = "e2 of a (second): assigned (confirmed by session_state), once / assigned (confirmed by reply)";
    check(wrong, &facts(), &[expected]);
    let mut swapped = good();
    swapped.swap(0, 3);
    check(swapped, &facts(), &["a: e1 before e2 / the other way round"]);
    let mut tally = Tally::new(scenes());
    assert!(tally.take(&outcome("e9", "z", "assigned", None)).is_none());
    assert!(tally.differences(&facts()).iter().any(|d| d.got.contains("e9")));
}

#[tokio::test]
async fn what_others_saw_counts_too() {
    let twice = SessionReport { transfers_acted: 2, max_overlap: 1, ..SessionReport::default() };
    let desk = DeskFacts { calls: 3, sessions: [("a".to_owned(), twice)].into() };
    check(
        good(),
        &Facts { skipped: 0, standing: Standing { committed: 1, lag: 2 }, desk },
        &[
            "a, as Desk saw it: transfers that took effect: 1, one call at a time / \
             transfers that took effect: 2, up to 1 calls at a time",
            "records skipped: 1 / 0",
            "offsets committed: in 1 partitions, to their ends / in 1 partitions, 2 records from their ends",
        ],
    );
}
