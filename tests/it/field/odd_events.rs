//! Escalations that are readable in substance and odd in form.
//!
//! Once a record with half an emoji, `1e400`, a raw tab, deep attributes, a doubled key or a byte order
//! mark became a dead letter although session and id were readable, and a time in another form than
//! RFC 3339 was answered `rejected`: no human came. A publisher with a wrong serializer wrote 2,000
//! warnings a second that said "expected value at line 1 column 1".

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use tokio::time::sleep;

use super::beside::until;
use crate::support::kafka::{Record, read_all};
use crate::support::worker::{TIME_LIMIT, World, by_event};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_costs_only_comfort_is_transferred() {
    let world = World::new("odd-events", 2, SimulatedDeskSettings::default()).await;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    // The id, what follows it, and the beginning of the note, where something is left out.
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("emoji", br#""reason":"help \ud83d","attributes":{"a":"\ud83d"}"#.to_vec(), ""),
        ("huge", br#""attributes":{"n":1e400},"context":{"n":-1e400}"#.to_vec(), ""),
        ("nan", br#""attributes":{"n":NaN}"#.to_vec(), ""),
        ("tab", b"\"reason\":\"a\tb\"".to_vec(), ""),
        ("utf-8", b"\"reason\":\"a\xe4\xbd\"".to_vec(), ""),
        (
            "deep",
            format!(r#""attributes":{{"a":{deep}}}"#).into_bytes(),
            "attributes.a ignored: [[",
        ),
        ("doubled", br#""priority":11,"priority":3"#.to_vec(), ""),
        ("numbers", br#""reason":5,"priority":"3","target":{"agents":[7]}"#.to_vec(), ""),
        ("agent", br#""target":{"agents":"anna@example.com"}"#.to_vec(), ""),
        ("last-year", br#""expires_at":"9999-12-31T23:59:59Z""#.to_vec(), ""),
        ("blank", br#""expires_at":"2099-11-27 18:00:00""#.to_vec(), ""),
        ("offset", br#""expires_at":"2099-11-27T18:00:00+0000""#.to_vec(), ""),
        ("seconds", br#""expires_at":4099521600"#.to_vec(), ""),
        ("millis", br#""expires_at":"4099521600000""#.to_vec(), ""),
        ("soon", br#""expires_at":"soon""#.to_vec(), "expires_at ignored: \"soon\" is not a time"),
        ("reason", br#""reason":{"a":1}"#.to_vec(), "reason ignored: {\"a\":1} is not a text"),
    ];
    let record = |(id, rest, _): &(&str, Vec<u8>, &str)| {
        let value =
            [format!(r#"{{"id":"{id}","session_id":"{id}","#).as_bytes(), rest, b"}"].concat();
        Record::new(*id, value)
    };
    let mut records: Vec<_> = table.iter().map(record).collect();
    records
        .push(Record::new("mark", &b"\xef\xbb\xbf{\"id\":\"mark\",\"session_id\":\"mark\"}"[..]));
    // A key that is not UTF-8.
    records.push(Record::new(&b"\xff\xfe"[..], &b"{\"id\":\"key\",\"session_id\":\"key\"}"[..]));
    let count = records.len();
    world.publish_raw(records).await;
    let worker = world.process();
    let answered = by_event(world.outcomes(count).await);
    for (id, _, note) in &table {
        let outcome = &answered[*id];
        assert_eq!(outcome["status"], "assigned", "{outcome}");
        match outcome["notes"].as_array().map(Vec::as_slice) {
            None => assert_eq!(*note, "", "{outcome}"),
            Some([one]) => {
                let one = one.as_str().expect("a text");
                assert!(!note.is_empty() && one.starts_with(note), "{outcome}");
            }
            Some(_) => panic!("{outcome}"),
        }
    }
    for id in ["mark", "key"] {
        assert_eq!(answered[id]["status"], "assigned");
        assert!(answered[id].get("notes").is_none());
    }
    worker.terminate().await;
    world.assert_all_committed().await;
}

/// Notes are made from the record, which the ledger keeps.
#[tokio::test(flavor = "multi_thread")]
async fn the_notes_survive_a_park_and_a_crash() {
    let mut world = World::new("odd-parked", 1, SimulatedDeskSettings::default()).await;
    world.set("RETRY__QUICK_ATTEMPTS", "1").set("RETRY__PARK_MS", "3000");
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DRAIN__TIMEOUT_MS", "3000");
    world.desk.schedule(InjectedFault::status(500).commands(&[ApiCommand::Transfer]));
    let value = b"{\"id\":\"e\",\"session_id\":\"s\",\"reason\":\"\\ud83d\t\",\"requested_at\":\"soon\",\"attributes\":{\"a\":[1]}}";
    world.publish_raw([Record::new("s", &value[..])]).await;
    let worker = world.process();
    let parked = async || world.desk.stats().of(ApiCommand::Transfer).calls == 1;
    until("the event was called once", parked).await;
    world.all_is_committed().await;
    worker.kill().await;
    let worker = world.process();
    let outcome = by_event(world.outcomes(1).await).remove("e").expect("the outcome");
    assert_eq!(outcome["status"], "assigned", "{outcome}");
    let notes = outcome["notes"].as_array().expect("notes");
    assert_eq!(notes.len(), 2, "{outcome}");
    assert!(notes[0].as_str().expect("a text").starts_with("requested_at ignored: \"soon\""));
    assert_eq!(notes[1], "attributes.a ignored: [1] is not a text");
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_serializer_is_named_and_does_not_flood_the_log() {
    let mut world = World::new("odd-frames", 2, SimulatedDeskSettings::default()).await;
    world.set("INPUT__UNWRAP", "false");
    let framed = |n: usize| {
        let value = format!(r#"{{"id":"e-{n}","session_id":"s-{n}"}}"#);
        Record::new(format!("s-{n}"), [&b"\0\0\0\0\x07"[..], value.as_bytes()].concat())
    };
    let others = [
        (&b"\"{\\\"session_id\\\":\\\"s\\\"}\""[..], "JSON inside a JSON string"),
        (br#"{"schema":{},"payload":{"session_id":"s"}}"#, "an envelope {schema, payload}"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\xff\xfe{\0", "UTF-16"),
    ];
    let others_of = others.iter().map(|(value, _)| Record::new("k", *value));
    world.publish_raw((0..2_000).map(framed).chain(others_of)).await;
    let worker = world.process();
    let dead = world.topic("dead");
    let dead_letters = read_all(&world.bootstrap, &dead, 2_004, TIME_LIMIT).await;
    for dead_letter in &dead_letters {
        let value = dead_letter.value.as_deref().expect("a value");
        let other = others.iter().find(|(own, _)| *own == value);
        let cause = other.map_or("a schema-registry frame (schema id 7)", |(_, cause)| cause);
        let error = dead_letter.text("handoff-error");
        assert!(error.contains(cause), "{error}");
    }
    sleep(Duration::from_millis(200)).await;
    let log = worker.log();
    let lines = log.lines().filter(|line| line.contains("record sent to the dead-letter topic"));
    let lines: Vec<_> = lines.collect();
    assert!((3..=20).contains(&lines.len()), "{} lines:\n{log}", lines.len());
    assert!(lines.iter().any(|line| line.contains("schema id 7")), "{lines:?}");
    worker.terminate().await;
}
