//! Topics that accept only small messages: no partition is blocked, and nothing is truncated
//! without need.

use std::time::Duration;

use handoff::domain::event::TransferOptions;
use handoff::sim::desk::SimulatedDeskSettings;
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::support::kafka::{
    Received, Record, alter_topic, commit, create_topic_with, read_all, read_to_end,
};
use crate::support::worker::{TIME_LIMIT, World, escalation};

/// A world whose outcomes and dead letters go to topics with this limit.
async fn world(name: &str, max_bytes: &str) -> World {
    let mut world = World::new(name, 1, SimulatedDeskSettings::default()).await;
    for (key, which) in [("OUTCOMES", "out-small"), ("DEAD_LETTERS", "dead-small")] {
        let topic = world.topic(which);
        create_topic_with(&world.bootstrap, &topic, 1, &[("max.message.bytes", max_bytes)]).await;
        world.set(&format!("KAFKA__{key}_TOPIC"), &topic);
    }
    world
}

/// All that is in the topic, once there are so many.
async fn read(world: &World, which: &str, count: usize) -> Vec<Received> {
    let topic = world.topic(which);
    read_all(&world.bootstrap, &topic, count, TIME_LIMIT).await;
    let all = read_to_end(&world.bootstrap, &topic).await;
    assert_eq!(all.len(), count, "in {which}");
    all
}

fn outcome(record: &Received) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_loses_its_value_then_all_but_our_headers() {
    let world = world("large", "2000").await;
    let value = vec![b'x'; 5000];
    let headers = Record::new("k", "x").header("own", vec![b'h'; 3000]);
    let key = Record::new(vec![b'k'; 3000], value.clone());
    world.publish_raw([Record::new("k", value), headers, key]).await;
    world.publish([escalation("after", "s")]).await;
    let worker = world.worker();
    read(&world, "out-small", 1).await;
    let dead_letters = read(&world, "dead-small", 3).await;
    let dead_letter = |offset: &str| {
        dead_letters
            .iter()
            .find(|dead_letter| dead_letter.text("handoff-source-offset") == offset)
            .unwrap()
    };
    for offset in ["0", "1", "2"] {
        assert_eq!(dead_letter(offset).value.as_deref(), Some(&b""[..]), "empty, not null");
        assert_eq!(dead_letter(offset).text("handoff-error-class"), "not_json");
    }
    assert_eq!(dead_letter("0").text("handoff-value-omitted"), "5000");
    assert_eq!(dead_letter("0").key.as_deref(), Some(&b"k"[..]), "no more than needed");
    assert_eq!(dead_letter("1").text("handoff-headers-omitted"), "3003");
    assert_eq!(dead_letter("1").key.as_deref(), Some(&b"k"[..]), "it may be a session");
    assert!(!dead_letter("1").has("own"));
    assert_eq!(dead_letter("2").text("handoff-headers-omitted"), "3000");
    assert_eq!(dead_letter("2").key, None);
    worker.stop().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_is_too_large_loses_its_details() {
    let world = world("large-outcome", "2000").await;
    let long = "n".repeat(200);
    let attributes: Map<_, _> = (0..50).map(|n| (format!("{n}{long}"), json!([long]))).collect();
    let options: Map<_, _> =
        TransferOptions::NAMES.into_iter().map(|name| (name.to_owned(), json!(long))).collect();
    let invalid = json!({
        "id": "invalid", "session_id": "s", "attributes": attributes, "options": options,
        "priority": long, "target": {"agents": [[long]], "group": long, "strict": long},
    });
    let agents: Vec<_> = (0..20).map(|n| format!("{n}{long}@example.com")).collect();
    let target = json!({"agents": agents, "strict": true});
    let nobody = json!({"id": "nobody", "session_id": "t", "target": target});
    let record = |event: Value| {
        Record::new("k", event.to_string()).header("traceparent", "00-abc").header("tracestate", "")
    };
    world.publish_raw([record(invalid), record(nobody)]).await;
    world.publish([escalation("after", "u")]).await;
    let worker = world.worker();
    let outcomes = read(&world, "out-small", 3).await;
    let of =
        |id: &str| outcomes.iter().find(|outcome| outcome.text("handoff-event-id") == id).unwrap();
    let rejected = outcome(of("invalid"));
    assert_eq!((&rejected["status"], &rejected["final"]), (&json!("rejected"), &json!(true)));
    let reason = rejected["reason"].as_str().unwrap();
    assert!(reason.len() <= 1024 && reason.contains("allowed is true or false"), "{reason}");
    let omitted = "handoff-details-omitted";
    assert_eq!(of("invalid").text(omitted), "notes,reason,traceparent,tracestate");
    assert!(of("nobody").text(omitted).contains("target"), "{:?}", of("nobody"));
    assert_eq!(of("nobody").key.as_deref(), Some(&b"t"[..]));
    assert!(!of("after").has(omitted));
    worker.stop().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_truncated_is_found_in_its_topic_after_a_crash() {
    let world = world("truncated", "2000").await;
    let large_key = vec![b'k'; 3000];
    let tombstone = Record { value: None, ..Record::new(large_key.clone(), "") };
    let value = Record::new("k", vec![b'x'; 5000]);
    let headers = Record::new("", "x").header("own", vec![b'h'; 3000]);
    world.publish_raw([value, Record::new(large_key, "x"), tombstone, headers]).await;
    let agents: Vec<_> = (0..20).map(|n| format!("{n}{}", "n".repeat(200))).collect();
    let target = json!({"agents": agents, "strict": true});
    world.publish([json!({"id": "nobody", "session_id": "s", "target": target})]).await;
    let worker = world.worker();
    read(&world, "dead-small", 4).await;
    read(&world, "out-small", 1).await;
    worker.stop().await;

    // As if it had been killed before it noted the acknowledgements.
    let ledger = Connection::open(world.ledger_file()).unwrap();
    assert_eq!(ledger.execute("DELETE FROM handoff_published", ()).unwrap(), 5);
    drop(ledger);
    commit(&world.bootstrap, &world.name, &world.topic("in"), &[0]).await;
    let worker = world.worker();
    world.all_is_committed().await;
    worker.stop().await;
    read(&world, "dead-small", 4).await;
    read(&world, "out-small", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_refuses_in_every_form_is_whole_once_it_takes_that() {
    let world = world("refused", "100").await;
    let value = vec![b'x'; 5000];
    world.publish_raw([Record::new("k", value.clone()).header("own", "kept")]).await;
    let worker = world.process();
    while !worker.log().contains("message not published, trying again") {
        sleep(Duration::from_millis(50)).await;
    }
    let topic = world.topic("dead-small");
    alter_topic(&world.bootstrap, &topic, &[("max.message.bytes", "1000000")]).await;
    let dead_letters = read(&world, "dead-small", 1).await;
    assert_eq!(dead_letters[0].value, Some(value));
    assert_eq!(dead_letters[0].text("own"), "kept");
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_messages_in_batches_that_are_too_large_arrive_untruncated() {
    const EACH: usize = 300;
    let mut world = world("batches", "20000").await;
    // Long enough for one batch of them all.
    world.set("KAFKA__PRODUCER_PROPERTIES__LINGER_MS", "300");
    let poison = (0..EACH).map(|n| Record::new(format!("p-{n}"), vec![b'x'; 500 + n]));
    world.publish_raw(poison).await;
    world.publish((0..EACH).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    let worker = world.worker();
    let outcomes = read(&world, "out-small", EACH).await;
    let dead_letters = read(&world, "dead-small", EACH).await;
    let omitted = ["handoff-value-omitted", "handoff-headers-omitted", "handoff-details-omitted"];
    for message in outcomes.iter().chain(&dead_letters) {
        assert!(!omitted.iter().any(|name| message.has(name)), "{message:?}");
    }
    let mut sizes: Vec<_> = dead_letters.iter().map(|l| l.value.as_ref().unwrap().len()).collect();
    sizes.sort_unstable();
    assert!(sizes.into_iter().eq(500..500 + EACH), "every value as it came, once");
    assert!(outcomes.iter().all(|one| outcome(one)["status"] == "assigned"));
    worker.stop().await;
    world.assert_all_committed().await;
}
