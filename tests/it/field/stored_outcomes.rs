//! Hundreds of outcomes of one session are stored and not published when the worker is killed.
//!
//! Each was once looked up when its turn in the session came, and each lookup read the last minutes of
//! the topic again: 600 of them took a quarter of an hour. Past their deadlines they waited for no turn,
//! and were published in another order.

use std::time::Duration;

use handoff::sim::desk::{LatencyRange, SimulatedDeskSettings};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::beside::until;
use crate::support::kafka::{Record, alter_topic, produce, read_to_end};
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const OF_EACH: usize = 150;
/// What is in the topic already, of the last five minutes.
const OTHERS: usize = 20_000;
/// From the first escalation to the deadline of a session.
const SOON: Duration = Duration::from_secs(12);
/// Those that arrive while the topic is read share the next reading.
const READINGS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn stored_outcomes_of_a_session_share_readings_of_the_topic_and_keep_their_order() {
    let settings = SimulatedDeskSettings {
        latency: LatencyRange::exactly(2),
        sessions_return: true,
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::new("stored", 2, settings).await;
    let (port, outcomes) = (free_port(), world.topic("out"));
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("LOG__LEVEL", "info,handoff=debug");
    let others = (0..OTHERS).map(|n| Record::new(format!("other-{n}"), vec![b'x'; 300]));
    produce(&world.bootstrap, &outcomes, others).await;
    // A message is at least as old as its way to the broker.
    let refusing = [("message.timestamp.before.max.ms", "0")];
    alter_topic(&world.bootstrap, &outcomes, &refusing).await;

    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    let (deadline, past) = (soon(), Instant::now() + SOON);
    let late = (0..OF_EACH).map(|n| escalation(&format!("late-{n}"), "late"));
    let late = late.map(|mut event| {
        event["expires_at"] = json!(deadline);
        event
    });
    let early = (0..OF_EACH).map(|n| escalation(&format!("early-{n}"), "early"));
    world.publish(late.chain(early)).await;
    let unacknowledged = format!("handoff_outcomes_unacknowledged {}", 2 * OF_EACH);
    let is_stored = async || ask_admin(port, "metrics").await.1.contains(&unacknowledged);
    until("all outcomes are stored and refused", is_stored).await;
    worker.kill().await;
    sleep_until(past).await;
    alter_topic(&world.bootstrap, &outcomes, &[]).await;

    let worker = world.process();
    let published = async || finals(&world).await.len() >= 2 * OF_EACH;
    let waited = until("all are published", published).await;
    let readings = worker.log().matches("read a topic for messages").count();
    println!("{} outcomes after {waited:?} and {readings} readings", 2 * OF_EACH);
    assert!(readings <= READINGS, "{readings} readings");
    worker.terminate().await;
    let published = finals(&world).await;
    for session in ["late", "early"] {
        let of_session = published.iter().filter(|outcome| outcome["session_id"] == session);
        let offsets: Vec<_> =
            of_session.map(|it| it["source"]["offset"].as_i64().unwrap()).collect();
        assert!(offsets.is_sorted(), "{session}: {offsets:?}");
    }
    // Fails where an event has two.
    assert_eq!(by_event(published).len(), 2 * OF_EACH);
    world.assert_all_committed().await;
}

#[expect(clippy::disallowed_methods, reason = "the worker's clock is the wall clock")]
fn soon() -> String {
    (jiff::Timestamp::now() + SOON).to_string()
}

async fn finals(world: &World) -> Vec<Value> {
    let records = read_to_end(&world.bootstrap, &world.topic("out")).await;
    let values = records.into_iter().filter_map(|record| record.value);
    let outcomes = values.filter(|value| value.starts_with(b"{"));
    outcomes.map(|value| serde_json::from_slice(&value).expect("an outcome is JSON")).collect()
}
