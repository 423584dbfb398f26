//! Workers that are paused (SIGSTOP) under load for longer than their session time-out.
//!
//! An outcome that was enqueued in the client in the very millisecond of the pause was sent when the
//! process resumed, although its successor had published it: twice in the topic, in one of about ten
//! pauses. Takes minutes: `scripts/field` runs it.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff::sim::desk::{LatencyRange, SimulatedDeskSettings};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::beside::{outcomes, until};
use crate::support::kafka::alter_topic;
use crate::support::postgres::schema;
use crate::support::worker::{Process, TIME_LIMIT, World, escalation};

const WORKERS: usize = 4;
/// In each round all workers but one are paused.
const ROUNDS: usize = 10;
/// Longer than the session time-out of both protocols (6 s) and a rebalance.
const PAUSED: Duration = Duration::from_secs(10);
/// Until they have joined again and work.
const RUNNING: Duration = Duration::from_secs(5);
/// Published at once, each second: a pause shortly after meets as many outcomes on their way as a
/// thousand events per second.
const BURST: usize = 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn paused_workers_of_the_classic_protocol_publish_no_outcome_twice() {
    let properties = [("SESSION_TIMEOUT_MS", "6000"), ("HEARTBEAT_INTERVAL_MS", "1000")];
    pause("paused-classic", &properties).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn paused_workers_of_kip_848_publish_no_outcome_twice() {
    pause("paused-848", &[("GROUP_PROTOCOL", "consumer")]).await;
}

async fn pause(name: &str, properties: &[(&str, &str)]) {
    let latency = LatencyRange { min_ms: 5, max_ms: 60 };
    let settings = SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() };
    let mut world = World::new(name, 12, settings).await;
    world.set("LEDGER__URL", &schema().await).set("DRAIN__TIMEOUT_MS", "5500");
    world.set("DESK__TIMEOUT_MS", "5000");
    for (key, value) in properties {
        world.set(&format!("KAFKA__CONSUMER_PROPERTIES__{key}"), value);
    }
    // As docs/deployment.md advises: the brokers refuse what was enqueued before a pause.
    let refusal = [("message.timestamp.before.max.ms", "6000")];
    alter_topic(&world.bootstrap, &world.topic("out"), &refusal).await;
    let workers: Vec<_> = (0..WORKERS).map(|_| world.process()).collect();
    for worker in &workers {
        until("a worker joins", async || worker.log().contains("partitions assigned")).await;
    }
    let begun = Instant::now();
    let time = (PAUSED + RUNNING) * u32::try_from(ROUNDS).unwrap() + RUNNING;
    let (published, pauses) =
        tokio::join!(load(&world, begun, time), pause_in_turn(&workers, begun));
    let end = Instant::now() + TIME_LIMIT;
    let by_event = loop {
        let by_event = finals_by_event(&world).await;
        if by_event.len() == published || Instant::now() > end {
            break by_event;
        }
        sleep(Duration::from_secs(2)).await;
    };
    assert_eq!(by_event.len(), published, "events with an answer");
    let twice: Vec<_> = by_event.iter().filter(|(_, count)| **count > 1).collect();
    println!(
        "{name}: {pauses} pauses of {PAUSED:?}, {published} events, {} answered twice",
        twice.len()
    );
    assert!(twice.is_empty(), "{twice:?}");
    for worker in workers {
        worker.terminate().await;
    }
}

/// Pauses all workers but one at a time, each shortly after a burst; returns how many pauses there
/// were.
async fn pause_in_turn(workers: &[Process], begun: Instant) -> usize {
    for round in 0..ROUNDS {
        sleep(RUNNING).await;
        let paused = (0..WORKERS - 1).map(|n| &workers[(round + n) % WORKERS]);
        for worker in paused.clone() {
            let next_burst = Duration::from_secs(begun.elapsed().as_secs() + 1);
            let after = Duration::from_millis(fastrand::u64(20..200));
            sleep_until(begun + next_burst + after).await;
            worker.signal("STOP");
        }
        sleep(PAUSED).await;
        paused.for_each(|worker| worker.signal("CONT"));
    }
    ROUNDS * (WORKERS - 1)
}

/// Publishes bursts of events; returns how many events.
async fn load(world: &World, begun: Instant, time: Duration) -> usize {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &world.bootstrap).set("linger.ms", "1");
    let producer: FutureProducer = config.create().expect("a producer");
    let (topic, mut count) = (world.topic("in"), 0);
    for second in 0..time.as_secs() {
        sleep_until(begun + Duration::from_secs(second)).await;
        for _ in 0..BURST {
            let id = format!("e-{count}");
            let event = escalation(&id, &id).to_string();
            let record = FutureRecord::to(&topic).key(&id).payload(&event);
            drop(producer.send_result(record).expect("the queue has room"));
            count += 1;
        }
    }
    let topic_has_all = spawn_blocking(move || producer.flush(Duration::from_secs(30))).await;
    topic_has_all.expect("no panic").expect("all are acknowledged");
    count
}

/// How many final outcomes each event has.
async fn finals_by_event(world: &World) -> BTreeMap<String, usize> {
    let mut by_event = BTreeMap::new();
    for outcome in outcomes(world).await.iter().filter(|outcome| outcome["final"] == true) {
        *by_event.entry(outcome["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    by_event
}
