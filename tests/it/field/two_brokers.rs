//! One of two brokers is gone or hangs.
//!
//! With the outcome topic under its `min.insync.replicas` sessions were transferred for minutes, and no
//! outcome came; a partition whose leader hung was not read. Both times `/ready` said 200, because the
//! other broker, and the coordinator on it, were well. With one partition of the outcome topic without a
//! leader the outcomes of the other partitions were not published either: they had to be looked up, and
//! that read all partitions. And an outcome topic that was made again with its leader on the other broker
//! got nothing more from a running worker: librdkafka took its leader epoch for an outdated one.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::sleep;

use super::beside::{not_ready, until};
use crate::support::kafka::{
    Broker, Record, create_topic_on, delete_topic, high_watermark, produce, read_to_end,
};
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const NOT_READY: &str = "not ready: events cannot be answered";

/// A world on the first broker, with topics of its own: escalations as given, dead letters on the first.
pub(super) async fn world(first: &Broker, escalations: &[&[i32]]) -> (World, u16) {
    let mut world = World::on(first.bootstrap(), "two", 1, SimulatedDeskSettings::default()).await;
    let topics = [("ESCALATIONS", "from", escalations), ("DEAD_LETTERS", "dead-two", &[&[1]])];
    for (key, which, replicas) in topics {
        let topic = world.topic(which);
        create_topic_on(first.bootstrap(), &topic, replicas, &[]).await;
        world.set(&format!("KAFKA__{key}_TOPIC"), &topic);
    }
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("KAFKA__OUTCOMES_TOPIC", &world.topic("answers"));
    (world, port)
}

pub(super) async fn publish(world: &World, partition: i32, ids: impl IntoIterator<Item = String>) {
    let record = |id: String| Record::new(&*id, escalation(&id, &id).to_string()).on(partition);
    produce(&world.bootstrap, &world.topic("from"), ids.into_iter().map(record)).await;
}

/// Waits until so many outcomes are there; no event may have two.
async fn published(world: &World, count: usize) {
    let outcomes = async || {
        let records = read_to_end(&world.bootstrap, &world.topic("answers")).await;
        let parse = |value: &[u8]| serde_json::from_slice(value).expect("an outcome is JSON");
        records.iter().map(|record| parse(record.value.as_deref().unwrap())).collect::<Vec<_>>()
    };
    let waited = until("all are published", async || outcomes().await.len() >= count).await;
    println!("{count} outcomes after {waited:?}");
    assert_eq!(by_event(outcomes().await).len(), count);
}

async fn check(world: &World) -> String {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_handoff"))
        .arg("check")
        .env_clear()
        .envs(world.env())
        .output()
        .await
        .expect("the command runs");
    String::from_utf8(output.stdout).expect("text")
}

fn line<'t>(text: &'t str, what: &str) -> &'t str {
    text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_replicas_in_sync_are_named_and_nothing_is_lost() {
    let (first, mut second) = Broker::start_two(&[]).await;
    let (world, port) = world(&first, &[&[1]]).await;
    let minimum = [("min.insync.replicas", "2")];
    create_topic_on(first.bootstrap(), &world.topic("answers"), &[&[1, 2]], &minimum).await;
    let found = check(&world).await;
    let replicas = format!("replicas of {}", world.topic("answers"));
    assert!(
        line(&found, &replicas).contains("2 of 2 in sync, min.insync.replicas is 2"),
        "{found}"
    );
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    publish(&world, 0, ["before".to_owned()]).await;
    published(&world, 1).await;

    second.stop().await;
    publish(&world, 0, (0..20).map(|n| format!("e{n}"))).await;
    let ready = not_ready(port, "min.insync.replicas").await;
    assert!(ready.contains("1 replicas in sync") && ready.contains("start the brokers"), "{ready}");
    let found = check(&world).await;
    assert!(line(&found, &replicas).starts_with("FAIL"), "{found}");
    let log = worker.log();
    assert_eq!(log.matches(NOT_READY).count(), 1, "{log}");
    assert_eq!(ask_admin(port, "health").await.0, 200, "a restart would not help");

    second.start_again().await;
    until("it is ready again", async || ask_admin(port, "ready").await.0 == 200).await;
    published(&world, 21).await;
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_named_beside_a_coordinator_that_answers() {
    // Else the controller takes the leadership from it.
    let (first, second) = Broker::start_two(&[("broker.session.timeout.ms", "600000")]).await;
    let (world, port) = world(&first, &[&[1], &[2]]).await;
    create_topic_on(first.bootstrap(), &world.topic("answers"), &[&[1]], &[]).await;
    let worker = world.process();
    publish(&world, 0, ["a".to_owned()]).await;
    publish(&world, 1, ["b".to_owned()]).await;
    published(&world, 2).await;

    second.signal("STOP");
    let because = format!("{}/1 cannot be read: its leader, broker 2", world.topic("from"));
    let ready = not_ready(port, &because).await;
    assert!(ready.contains("restart that broker"), "{ready}");
    until("it is logged", async || worker.log().contains(NOT_READY)).await;
    let log = worker.log();
    assert_eq!(log.matches(NOT_READY).count(), 1, "{log}");
    assert_eq!(ask_admin(port, "health").await.0, 200, "a restart would not help");
    publish(&world, 0, ["c".to_owned()]).await;
    published(&world, 3).await;

    second.signal("CONT");
    until("it is ready again", async || ask_admin(port, "ready").await.0 == 200).await;
    publish(&world, 1, ["d".to_owned()]).await;
    published(&world, 4).await;
    worker.terminate().await;
}

/// Events of the partition with a leader while the other one has none.
const EVENTS: usize = 800;
/// Logged for each reading of the outcome topic.
const LOOKED_UP: &str = "read a topic for messages";
/// One of so many is of the other partition.
const OTHERS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_holds_back_its_own_outcomes_only() {
    let (first, mut second) = Broker::start_two(&[]).await;
    let (mut world, _port) = world(&first, &[&[1]]).await;
    world.set("LOG__LEVEL", "info,handoff::adapters::kafka::published_lookup=debug");
    let answers = world.topic("answers");
    create_topic_on(first.bootstrap(), &answers, &[&[1], &[2]], &[]).await;
    let worker = world.process();
    publish(&world, 0, (0..20).map(|n| format!("s{n}"))).await;
    published(&world, 20).await;
    let sessions = async |partition: i32| {
        let records = read_to_end(&world.bootstrap, &answers).await;
        let of_partition = records.into_iter().filter(|record| record.partition == partition);
        let keys = of_partition.map(|record| String::from_utf8(record.key.unwrap()).unwrap());
        keys.collect::<Vec<_>>()
    };
    let (led, others) = (sessions(0).await, sessions(1).await);

    second.stop().await;
    let event = |n: usize| {
        let sessions = if n.is_multiple_of(OTHERS) { &others } else { &led };
        let session = &*sessions[n % sessions.len()];
        Record::new(session, escalation(&format!("e{n}"), session).to_string()).on(0)
    };
    produce(&world.bootstrap, &world.topic("from"), (0..EVENTS).map(event)).await;
    let all = (led.len() + EVENTS - EVENTS / OTHERS) as i64;
    let end = async || high_watermark(&world.bootstrap, &answers, 0).await;
    let waited = until("the other partition has its outcomes", async || end().await >= all).await;
    println!("{all} outcomes after {waited:?}");
    // After a purge some of them were looked up, beside the partition that nobody leads.
    until("messages were looked up", async || worker.log().contains(LOOKED_UP)).await;

    second.start_again().await;
    published(&world, 20 + EVENTS).await;
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_published_to_a_topic_that_was_created_again_on_the_other_broker() {
    let (first, mut second) = Broker::start_two(&[]).await;
    let (world, _port) = world(&first, &[&[1]]).await;
    let answers = world.topic("answers");
    create_topic_on(first.bootstrap(), &answers, &[&[2]], &[]).await;
    let worker = world.process();
    publish(&world, 0, ["old".to_owned()]).await;
    published(&world, 1).await;
    // The leader epoch grows, and the client asks for the leader until there is one.
    second.stop().await;
    publish(&world, 0, ["older".to_owned()]).await;
    sleep(Duration::from_secs(2)).await;
    second.start_again().await;
    published(&world, 2).await;

    // The client sees the new topic only.
    worker.signal("STOP");
    delete_topic(first.bootstrap(), &answers).await;
    create_topic_on(first.bootstrap(), &answers, &[&[1]], &[]).await;
    worker.signal("CONT");
    publish(&world, 0, (0..20).map(|n| format!("e{n}"))).await;
    published(&world, 20).await;
    let log = worker.log();
    assert!(log.contains("created again, replacing the producer client"), "{log}");
    worker.terminate().await;
}
