//! The broker hangs for 20 s while some hundred outcomes are due.
//!
//! The client gives each message up after 5 s, and it may have arrived, so it is looked up before it is
//! sent again. A lookup compared every record of the last minutes with every message that was looked
//! for, and the next one began from the same time, so outcomes followed up to half a minute after the
//! broker was back.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::{Instant, sleep};

use super::beside::until;
use crate::support::kafka::{
    Broker, Received, Record, create_topic, create_topic_with, produce, read_to_end,
};
use crate::support::worker::{World, by_event, escalation};

const EVENTS: usize = 400;
/// What is in the topic already, of the last five minutes.
const OTHERS: usize = 30_000;
const HANGS_FOR: Duration = Duration::from_secs(20);
/// It takes 4 s on a calm machine, and took more than 60 s before.
const LIMIT: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn what_was_not_acknowledged_follows_soon_after_the_broker_is_back() {
    let broker = Broker::start_with_tools(&[]).await.0;
    let mut world =
        World::on(broker.bootstrap(), "hanging", 3, SimulatedDeskSettings::default()).await;
    let answers = world.topic("answers");
    create_topic(&world.bootstrap, &answers, 3).await;
    let others = (0..OTHERS).map(|n| Record::new(format!("other-{n}"), vec![b'x'; 300]));
    produce(&world.bootstrap, &answers, others).await;
    world.set("KAFKA__OUTCOMES_TOPIC", &answers);
    // The calls are made while the broker hangs.
    world.set("DESK__QUOTA_PER_SECOND", "40").set("DESK__CONCURRENCY", "64");
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;

    let ids = (0..EVENTS).map(|n| format!("e{n}"));
    world.publish(ids.map(|id| escalation(&id, &id))).await;
    let answered = async || worker.log().matches("escalation answered").count() >= 20;
    until("the calls have begun", answered).await;
    broker.signal("STOP");
    sleep(HANGS_FOR).await;
    broker.signal("CONT");
    let begun = Instant::now();
    let outcomes = async || {
        let records = read_to_end(&world.bootstrap, &answers).await;
        let values = records.into_iter().filter_map(|record| record.value);
        values.filter(|value| value.starts_with(b"{")).collect::<Vec<_>>()
    };
    until("all are published", async || outcomes().await.len() >= EVENTS).await;
    println!("{EVENTS} outcomes are published {:?} after the broker is back", begun.elapsed());
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    worker.terminate().await;
    let parse = |value: &Vec<u8>| serde_json::from_slice(value).expect("an outcome is JSON");
    // Fails where an event has two.
    assert_eq!(by_event(outcomes().await.iter().map(parse).collect()).len(), EVENTS);
}

/// Longer than a request may take, and shorter than librdkafka keeps a message.
const SHORT_HANG: Duration = Duration::from_secs(3);
const SHORT_HANGS: usize = 5;
/// For 40 calls per second, during all of the hangs.
const STEADY: usize = 1_200;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn what_is_appended_without_an_answer_is_not_sent_under_the_epoch_after_a_refusal() {
    let broker = Broker::start_with_tools(&[]).await.0;
    let mut world =
        World::on(broker.bootstrap(), "epochs", 3, SimulatedDeskSettings::default()).await;
    let small = world.topic("small");
    create_topic_with(&world.bootstrap, &small, 3, &[("max.message.bytes", "2000")]).await;
    world.set("KAFKA__DEAD_LETTERS_TOPIC", &small);
    world.set("DESK__QUOTA_PER_SECOND", "40").set("INTAKE__MAX_EVENTS", "50");
    let worker = world.process();
    until("it has partitions", async || worker.log().contains("partitions assigned")).await;
    // Each dead letter is refused, and then truncated.
    let records = (0..STEADY).flat_map(|n| {
        let session = format!("s{n}");
        let escalation = Record::new(&*session, escalation(&session, &session).to_string());
        [escalation, Record::new(&*session, vec![b'x'; 5000])]
    });
    world.publish_raw(records).await;
    for hang in 1..=SHORT_HANGS {
        let answered = async || worker.log().matches("escalation answered").count() >= 100 * hang;
        until("outcomes are published", answered).await;
        broker.signal("STOP");
        sleep(SHORT_HANG).await;
        broker.signal("CONT");
    }
    let answered = async || worker.log().matches("escalation answered").count() >= STEADY;
    until("all are answered", answered).await;
    worker.terminate().await;
    let outcomes = read_to_end(&world.bootstrap, &world.topic("out")).await;
    let parse = |record: &Received| serde_json::from_slice(record.value.as_deref().unwrap());
    let outcomes = outcomes.iter().map(|record| parse(record).expect("an outcome is JSON"));
    // Fails where an event has two.
    assert_eq!(by_event(outcomes.collect()).len(), STEADY);
}
