//! Malformed records get one dead letter each and delay no other record.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use serde_json::json;

use crate::support::kafka::Record;
use crate::support::worker::{World, by_event, escalation};

#[tokio::test(flavor = "multi_thread")]
async fn each_malformed_record_gets_exactly_one_dead_letter() {
    let world = World::new("poison", 3, SimulatedDeskSettings::default()).await;
    let mut random = vec![0u8; 4096];
    fastrand::Rng::with_seed(7).fill(&mut random);
    random[0] = 0xf7;
    let large = format!(r#"{{"session_id":"s","context":"{}"}}"#, "x".repeat(300_000));
    let value = |v: &[u8]| Record { value: Some(v.to_vec()), ..Record::default() };
    let poison: Vec<(&str, Record)> = vec![
        ("not_json", value(&random)),
        ("bad_session_id", value(b"{\"session_id\":\"\xff\xfe\"}")),
        ("not_json", value(b"")),
        ("not_json", value(b"{\"session_id\":\"s\"")),
        ("not_an_object", value(b"[1,2]")),
        ("not_an_object", value(b"\"text\"")),
        ("bad_type", value(br#"{"type":7,"session_id":"s"}"#)),
        ("bad_session_id", value(br#"{"id":"x"}"#)),
        ("bad_session_id", value(br#"{"session_id":"  "}"#)),
        ("bad_session_id", value(br#"{"session_id":["s"]}"#)),
        ("bad_id", value(br#"{"session_id":"s","id":{"a":1}}"#)),
        ("too_large", value(large.as_bytes())),
        ("null_value", Record::default()),
        ("null_value", Record { key: Some(b"tombstone".to_vec()), ..Record::default() }),
    ];
    let mut records = Vec::new();
    for (n, (_, record)) in poison.iter().enumerate() {
        let mut record = record.clone();
        record.partition = Some(n as i32 % 3);
        record.headers = vec![("own".into(), Some(b"kept".to_vec())), ("null".into(), None)];
        records.push(record);
        let (id, session) = (format!("good-{n}"), format!("s-{n}"));
        records.push(Record::new(session.clone(), escalation(&id, &session).to_string()));
    }
    let not_ours = json!({"type": "chat_message", "session_id": 5, "id": {}});
    records.push(Record::new("k", not_ours.to_string()));
    let mut by_header = Record::new("k", "whatever");
    by_header.headers = vec![("handoff-type".into(), Some(b"other".to_vec()))];
    records.push(by_header);
    let places = world.publish_raw(records).await;

    let worker = world.worker();
    let dead_letters = world.dead_letters(poison.len()).await;
    let answered = by_event(world.outcomes(poison.len()).await);
    assert_eq!(answered.len(), poison.len(), "every neighbour is answered");
    assert_eq!(dead_letters.len(), poison.len(), "one dead letter each");
    for (n, (class, original)) in poison.iter().enumerate() {
        let (partition, offset) = places[2 * n];
        let dead_letter = dead_letters
            .iter()
            .find(|l| {
                l.text("handoff-source-partition") == partition.to_string()
                    && l.text("handoff-source-offset") == offset.to_string()
            })
            .unwrap_or_else(|| panic!("no dead letter for {partition}/{offset}"));
        assert_eq!(dead_letter.text("handoff-error-class"), *class);
        assert_eq!(dead_letter.text("handoff-source-topic"), world.topic("in"));
        assert_eq!(dead_letter.text("own"), "kept");
        assert!(dead_letter.headers.contains(&("null".into(), None)), "headers untouched");
        assert_eq!(
            (&dead_letter.key, &dead_letter.value),
            (&original.key, &original.value),
            "untouched"
        );
    }
    worker.stop().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_field_is_answered_rejected_and_named() {
    let world = World::new("invalid", 1, SimulatedDeskSettings::default()).await;
    let invalid = json!({
        "id": "e", "session_id": "s", "priority": 11, "target": {"agents": true},
        "options": "all",
    });
    world.publish([invalid]).await;
    let worker = world.worker();
    let answered = by_event(world.outcomes(1).await);
    let reason = answered["e"]["reason"].as_str().unwrap();
    assert_eq!(answered["e"]["status"], "rejected");
    for part in ["priority is 11", "0 to 9", "target.agents is true", "options is \"all\""] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    assert_eq!(world.desk.stats().calls, 0, "no call");
    worker.stop().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_session_and_an_expired_event_delay_no_other_session() {
    use handoff::sim::desk::{ApiCommand, InjectedFault};
    let mut world = World::new("slow", 1, SimulatedDeskSettings::default()).await;
    world.set("DESK__TIMEOUT_MS", "20000");
    world.desk.schedule(InjectedFault::hang().session("slow").commands(&[ApiCommand::Transfer]));
    let soon = (handoff::clock::Clock::system().now() + Duration::from_secs(3)).to_string();
    let behind = json!({"id": "behind", "session_id": "slow", "expires_at": soon});
    let others = (0..50).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")));
    world.publish([escalation("slow", "slow"), behind].into_iter().chain(others)).await;
    let worker = world.process();
    let answered = by_event(world.outcomes(51).await);
    assert_eq!(answered["behind"]["status"], "expired", "it waits for nobody past its deadline");
    assert!(!answered.contains_key("slow"), "its call is still out");
    assert_eq!(answered.len(), 51);
    let answered = by_event(world.outcomes(52).await);
    assert_eq!(answered["slow"]["status"], "assigned");
    worker.terminate().await;
    world.assert_all_committed().await;
}
