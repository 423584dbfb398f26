//! "Too fast" (60007) to one session, and to all of them.
//!
//! Once a single such answer halved the rate of everybody, which then grew by a call a second: a hundred
//! events behind it took twenty seconds.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::beside::{finals, until};
use crate::support::kafka::alter_topic;
use crate::support::stalls::Stalls;
use crate::support::worker::{Process, World, by_event, escalation};

/// A hundred events at a quota of 100/s need one second, and may be delayed by one more; the rest is for a
/// slow machine.
const SOON: Duration = Duration::from_secs(4);

async fn started(name: &str, settings: SimulatedDeskSettings) -> (World, Process) {
    let mut world = World::new(name, 4, settings).await;
    world.set("DESK__QUOTA_PER_SECOND", "100");
    // A record's timestamp is then its arrival at the broker; the test's producer connects before that.
    let arrival = [("message.timestamp.type", "LogAppendTime")];
    alter_topic(&world.bootstrap, &world.topic("in"), &arrival).await;
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    (world, worker)
}

async fn publish(world: &World, round: &str, count: usize) {
    let ids = (0..count).map(|n| format!("{round}-{n}"));
    world.publish(ids.map(|id| escalation(&id, &id))).await;
}

fn elapsed(outcome: &Value) -> Duration {
    Duration::from_millis(outcome["elapsed_ms"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_throttled_call_delays_no_other_event_by_more_than_a_second() {
    let (world, worker) = started("throttled-once", SimulatedDeskSettings::default()).await;
    world.desk.schedule(InjectedFault::error(60_007).session("first"));
    world.publish([escalation("first", "first")]).await;
    until("it is throttled", async || world.desk.stats().of(ApiCommand::Transfer).calls > 0).await;
    let stalls = Stalls::begin();
    publish(&world, "behind", 100).await;
    let answered = by_event(world.outcomes(101).await);
    let slowest = answered.values().map(elapsed).max().unwrap();
    println!("100 events behind one throttled call: the slowest took {slowest:?}");
    assert!(slowest < SOON + stalls.total(), "{slowest:?}\n{}", worker.log());
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_always_throttled_holds_no_other() {
    let (world, worker) = started("throttled-always", SimulatedDeskSettings::default()).await;
    world.desk.schedule(InjectedFault::error(60_007).session("always").times(0));
    let stalls = Stalls::begin();
    world.publish([escalation("always", "always")]).await;
    for round in 0..5 {
        publish(&world, &format!("round-{round}"), 20).await;
        sleep(Duration::from_secs(1)).await;
    }
    until("the others are answered", async || finals(&world).await.len() == 100).await;
    let slowest = finals(&world).await.values().map(elapsed).max().unwrap();
    let calls = world.desk.session("always").expect("it was called").log.len();
    println!("100 events beside it: the slowest took {slowest:?}; it was called {calls} times");
    assert!(slowest < SOON + stalls.total(), "{slowest:?}\n{}", worker.log());
    assert!((2..=8).contains(&calls), "it backs off: {calls} calls");
    assert!(!worker.log().contains("call rate reduced"), "{}", worker.log());
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_desk_below_the_quota_is_used_with_few_refused_calls() {
    let settings =
        SimulatedDeskSettings { limit_per_second: 40, ..SimulatedDeskSettings::default() };
    let (world, worker) = started("throttled-limit", settings).await;
    let (begun, stalls) = (Instant::now(), Stalls::begin());
    publish(&world, "limited", 400).await;
    let answered = by_event(world.outcomes(400).await);
    let took = begun.elapsed();
    let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
    println!("400 events at 40/s: {took:?}, {calls} calls");
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    // Ten seconds at the limit itself.
    assert!(took < Duration::from_secs(20) + stalls.total(), "{took:?}\n{}", worker.log());
    assert!(calls <= 440, "{calls} calls\n{}", worker.log());
    worker.terminate().await;
}
