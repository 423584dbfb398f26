//! The outcome topic accepts nothing, and neither does the dead-letter topic.
//!
//! With `message.timestamp.before.max.ms` refusing outcomes, sessions were transferred for minutes and
//! no outcome came: `/ready` said 200, the log nothing, and SIGTERM spoke of slow calls.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;

use super::beside::{not_ready, until};
use crate::support::kafka::{Record, alter_topic, create_topic_with};
use crate::support::stalls::Stalls;
use crate::support::worker::{World, ask_admin, escalation, free_port};

const LIMIT: Duration = Duration::from_secs(30);
const TOPICS: [(&str, &str); 2] = [("OUTCOMES", "refusing"), ("DEAD_LETTERS", "dead-refusing")];

async fn world(name: &str) -> (World, u16) {
    let mut world = World::new(name, 2, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    // A message is at least as old as its way to the broker.
    let refusing = [("message.timestamp.before.max.ms", "0")];
    for (key, which) in TOPICS {
        let topic = world.topic(which);
        create_topic_with(&world.bootstrap, &topic, 1, &refusing).await;
        world.set(&format!("KAFKA__{key}_TOPIC"), &topic);
    }
    (world, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_timestamp_is_named_and_its_repair_is_noticed() {
    let (world, port) = world("refused-time").await;
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    world.publish([escalation("e", "s")]).await;
    until("it is refused", async || worker.log().contains("message not published")).await;
    world.publish_raw([Record::new("k", "not JSON")]).await;
    let ready = not_ready(port, "message.timestamp.before.max.ms").await;
    assert!(ready.contains(&world.topic("refusing")), "the one that waits longest: {ready}");
    assert!(ready.contains("Invalid timestamp") && !ready.contains("ACL"), "{ready}");
    let lines = || worker.log().matches("not ready: events cannot be answered").count();
    until("it is logged", async || lines() > 0).await;
    assert_eq!(lines(), 1, "{}", worker.log());
    let metrics = ask_admin(port, "metrics").await.1;
    assert!(metrics.contains("handoff_outcomes_unacknowledged 2"), "{metrics}");
    assert!(metrics.contains("handoff_ready 0"), "{metrics}");
    assert!(!metrics.contains("unacknowledged_timestamp_seconds 0.0"), "{metrics}");

    let accepting = [("message.timestamp.before.max.ms", "600000")];
    alter_topic(&world.bootstrap, &world.topic("refusing"), &accepting).await;
    let dead_letters = world.topic("dead-refusing");
    let ready = not_ready(port, &dead_letters).await;
    assert!(ready.contains("Invalid timestamp"), "{ready}");
    alter_topic(&world.bootstrap, &dead_letters, &accepting).await;
    let ready = async || ask_admin(port, "ready").await.0 == 200;
    let stalls = Stalls::begin();
    let waited = until("it is ready again", ready).await;
    println!("ready after {waited:?}");
    assert!(waited < LIMIT + stalls.total(), "{waited:?}");
    let said = "fault over: events can be answered again";
    until("the log says so", async || worker.log().contains(said)).await;
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_says_that_it_waited_for_acknowledgements() {
    let (mut world, _) = world("refused-stop").await;
    world.set("DRAIN__TIMEOUT_MS", "1000");
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    world.publish([escalation("e", "s")]).await;
    until("it is refused", async || worker.log().contains("message not published")).await;
    worker.signal("TERM");
    let said = "drain time exceeded; unfinished events are fenced";
    until("the drain ends", async || worker.log().contains(said)).await;
    assert!(worker.log().contains("unacknowledged=1"), "{}", worker.log());
}
