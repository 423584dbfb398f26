//! Records that the ledger has stored, read under other rules than at first.

use super::*;
use crate::domain::ledger_entry::{EntryState, RecoveredEntry, WaitsFor, key};
use crate::domain::wire::dialects::Dialect;
use crate::domain::wire::escalation::{StoredRecord, decode_stored};

const DEADLINE: i64 = 300;

/// The row of an escalation that was parked after it was read under these rules.
fn parked(record: Record, rules: &DecodeRules) -> RecoveredEntry {
    let Decoded::Event(event) = decode(&record, rules, at(0)) else { panic!("{record:?}") };
    RecoveredEntry {
        key: key::of_event(&event.id, &record).into(),
        session_id: Some(event.session_id),
        record,
        first_seen: at(0),
        deadline: Some(at(DEADLINE)),
        state: EntryState::Parked { until: at(10), waits_for: WaitsFor::Time },
        version: 2,
    }
}

fn with_id_header(name: &str) -> DecodeRules {
    let id_header = Some(name.to_owned());
    rules(vec![], InputRules { id_header, ..InputRules::default() })
}

fn read_again(entry: &RecoveredEntry, rules: &DecodeRules) -> Event {
    match decode_stored(entry, &rules.of_accepted(), at(10)) {
        StoredRecord::Event(event) => *event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn identity_session_and_deadline_are_those_of_the_row() {
    let headers = vec![("x-id".to_owned(), Some(b"other".to_vec()))];
    let value = br#"{"session_id":"s","reason":"refund","expires_at":"2030-01-01T00:00:00Z"}"#;
    let record = Record { headers, ..record(Some(value)) };
    let without = parked(record.clone(), &with_id_header("id"));
    let with = parked(record, &with_id_header("x-id"));
    assert_eq!((&*without.key, &*with.key), ("record:t/3/7@1799999900000", "id:other"));
    for (entry, id) in [(without, "t/3/7"), (with, "other")] {
        for name in ["id", "x-id"] {
            let event = read_again(&entry, &with_id_header(name));
            assert_eq!((&*event.id, &*event.session_id), (id, "s"), "{name}");
            assert_eq!(event.deadline, at(DEADLINE));
            assert_eq!(event.request.unwrap().reason.as_deref(), Some("refund"));
        }
        let moved = RecoveredEntry { session_id: Some("first".into()), ..entry };
        assert_eq!(&*read_again(&moved, &with_id_header("id")).session_id, "first");
    }
}

#[test]
fn a_cloudevent_of_a_type_that_is_listed_no_more_is_read() {
    let accepting = |kind: &str| {
        let cloudevents_types = vec![kind.to_owned()];
        rules(vec![], InputRules { cloudevents_types, ..InputRules::default() })
    };
    let value =
        br#"{"specversion":"1.0","id":"1","type":"a","source":"/b","data":{"session_id":"s"}}"#;
    let entry = parked(record(Some(value)), &accepting("a"));
    assert_eq!(&*read_again(&entry, &accepting("b")).id, "/b 1");
}

#[test]
fn what_is_not_read_any_more_waits_until_the_row_alone_says_enough() {
    let input = InputRules { dialects: vec![Dialect::BotFramework], ..InputRules::default() };
    let value = br#"{"type":"event","name":"handoff.initiate","id":"a","conversation":{"id":"s"}}"#;
    let entry = parked(record(Some(value)), &rules(vec![], input));
    let native = rules(vec![], InputRules::default()).of_accepted();
    let decode = |entry: &RecoveredEntry, second| decode_stored(entry, &native, at(second));

    let waits = decode(&entry, DEADLINE - 1);
    assert!(matches!(&waits, StoredRecord::Unreadable(why) if why.contains("session_id")));
    let settled = RecoveredEntry { state: EntryState::Settled { at: at(20) }, ..entry.clone() };
    for (entry, second) in [(&entry, DEADLINE), (&settled, 20)] {
        let StoredRecord::Event(event) = decode(entry, second) else { panic!("{second}") };
        assert_eq!((&*event.id, &*event.session_id), ("s a", "s"));
        assert_eq!((event.requested_at, event.deadline), (at(-100), at(DEADLINE)));
        assert!(event.notes[0].contains("does not read the escalation"), "{:?}", event.notes);
    }
    // A key of another version of the service must not become an event of its own.
    let foreign = RecoveredEntry { key: "position:t/3/7".into(), ..entry };
    assert!(matches!(decode(&foreign, DEADLINE), StoredRecord::Unreadable(_)));
}
