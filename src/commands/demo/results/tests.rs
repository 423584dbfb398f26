//! Each deviation from the expected results is reported.

use serde_json::json;

use super::super::case::escalation;
use super::*;
use crate::domain::event::MalformedClass;
use crate::domain::wire::outcome::Status;
use crate::sim::desk::SessionReport;

fn cases() -> Vec<DemoCase> {
    let bad = escalation("", "c", json!({})).without_transfer();
    let skipped = escalation("e4", "d", json!({})).without_transfer();
    vec![
        escalation("e1", "a", json!({})).described("first"),
        escalation("e2", "a", json!({})).described("second").confirmed_by_state(),
        escalation("e3", "b", json!({}))
            .described("nobody")
            .becomes(Status::Expired)
            .without_transfer(),
        DemoCase {
            expected: Expectation::DeadLetter(MalformedClass::NotJson),
            ..bad.described("bad")
        },
        DemoCase { expected: Expectation::Skipped, ..skipped.described("other") },
    ]
}

fn positions() -> Vec<Position> {
    (0..5).map(|offset| Position { topic: "t".into(), partition: 0, offset }).collect()
}

fn outcome(event: &str, session: &str, status: &str, by: Option<&str>) -> PublishedRecord {
    let outcome = OutcomeRecord {
        event_id: Some(event.into()),
        session_id: Some(session.into()),
        status: status.into(),
        is_final: true,
        confirmed_by: by.map(str::to_owned),
        ..OutcomeRecord::default()
    };
    let raw = serde_json::value::to_raw_value(&json!({})).unwrap();
    PublishedRecord { at: Instant::now(), content: PublishedContent::Outcome(outcome, raw) }
}

fn dead_letter(source_offset: i64, class: &str) -> PublishedRecord {
    let dead_letter = DeadLetter {
        class: Some(class.into()),
        source_topic: Some("t".into()),
        source_partition: Some(0),
        source_offset: Some(source_offset),
        ..DeadLetter::default()
    };
    PublishedRecord { at: Instant::now(), content: PublishedContent::DeadLetter(dead_letter) }
}

/// The records of a run without deviations.
fn good() -> Vec<PublishedRecord> {
    vec![
        outcome("e1", "a", "assigned", Some("reply")),
        outcome("e3", "b", "expired", None),
        dead_letter(3, "not_json"),
        outcome("e2", "a", "assigned", Some("session_state")),
    ]
}

fn observed() -> Observations {
    let report = SessionReport { transfers_acted: 1, max_overlap: 1, ..SessionReport::default() };
    let sessions = [("a".to_owned(), report)].into();
    let standing = GroupOffsets { committed: 1, lag: 0 };
    Observations { skipped: 1, offsets: standing, desk: DeskObservations { calls: 3, sessions } }
}

fn check(records: Vec<PublishedRecord>, observed: &Observations, expected: &[&str]) {
    let mut results = DemoResults::new(cases());
    results.set_positions(&positions());
    for record in &records {
        results.add(record);
    }
    let differences = results.differences(observed);
    let texts: Vec<_> =
        differences.iter().map(|d| format!("{}: {} / {}", d.what, d.expected, d.got)).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_run_without_deviations_is_complete_and_as_expected() {
    check(good(), &observed(), &[]);
    let mut results = DemoResults::new(cases());
    results.set_positions(&positions());
    for (n, record) in good().iter().enumerate() {
        assert!(!results.is_complete(), "after {n}");
        assert!(results.add(record).is_some());
    }
    assert!(results.is_complete());
}

#[tokio::test]
async fn missing_repeated_wrong_and_reordered_outcomes_are_reported() {
    let without = |index: usize| {
        let mut records = good();
        records.remove(index);
        records
    };
    let with = |more: PublishedRecord| good().into_iter().chain([more]).collect::<Vec<_>>();
    check(without(1), &observed(), &["e3 of b (nobody): expired, once / nothing"]);
    check(
        without(2),
        &observed(),
        &["a record of c (bad): dead letter (not_json), once / nothing"],
    );
    check(
        with(outcome("e3", "b", "assigned", None)),
        &observed(),
        &["e3 of b (nobody): expired, once / expired, then assigned"],
    );
    check(
        with(outcome("e4", "d", "assigned", None)),
        &observed(),
        &["e4 of d (other): nothing (skipped) / assigned"],
    );
    let mut wrong = without(3);
    wrong.push(outcome("e2", "a", "assigned", Some("reply")));
    let expected = "e2 of a (second): assigned (confirmed by session_state), once / assigned (confirmed by reply)";
    check(wrong, &observed(), &[expected]);
    let mut swapped = good();
    swapped.swap(0, 3);
    check(swapped, &observed(), &["a: e1 before e2 / the reverse order"]);
    let mut results = DemoResults::new(cases());
    assert!(results.add(&outcome("e9", "z", "assigned", None)).is_none());
    assert!(results.differences(&observed()).iter().any(|d| d.got.contains("e9")));
}

#[tokio::test]
async fn transfers_skipped_records_and_offsets_are_compared_too() {
    let twice = SessionReport { transfers_acted: 2, max_overlap: 1, ..SessionReport::default() };
    let desk = DeskObservations { calls: 3, sessions: [("a".to_owned(), twice)].into() };
    check(
        good(),
        &Observations { skipped: 0, offsets: GroupOffsets { committed: 1, lag: 2 }, desk },
        &[
            "a, as recorded by Desk: transfers that took effect: 1, one call at a time / \
             transfers that took effect: 2, up to 1 calls at a time",
            "records skipped: 1 / 0",
            "offsets committed: in 1 partitions, to their ends / in 1 partitions, 2 records from their ends",
        ],
    );
}
