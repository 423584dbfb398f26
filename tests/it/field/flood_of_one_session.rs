//! A bot in a loop publishes a thousand escalations of one session, or one of them ten thousand times.
//!
//! Once they filled the intake and were answered one by one meanwhile: ten events of other sessions
//! got nothing for minutes. Repeats of one id took a commit each.

use std::time::Duration;

use handoff::sim::desk::{LatencyRange, SimulatedDeskSettings};

use super::beside::{BESIDE, finals, outcomes, ten_others, until};
use crate::support::worker::{World, by_event, escalation};

const FLOOD: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_in_one_session_delays_no_other_session() {
    let world = world("flood").await;
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    flood(&world).await;
    // The flood is answered meanwhile, but not as a whole.
    let waited = ten_others(&world, "beside").await;
    assert!(waited < BESIDE, "{waited:?}");
    assert!(finals(&world).await.len() < FLOOD, "the flood takes longer than this");
    assert_in_order(&world).await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_keeps_its_order_across_a_crash() {
    let world = world("flood-crash").await;
    let worker = world.process();
    flood(&world).await;
    until("a part is answered", async || outcomes(&world).await.len() > FLOOD / 5).await;
    worker.kill().await;
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    let waited = ten_others(&world, "beside").await;
    // A call in flight at the crash is reconciled first, but only its session waits for that.
    assert!(waited < BESIDE, "{waited:?}");
    assert_in_order(&world).await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_id_delays_no_other_session() {
    let world = world("flood-id").await;
    let worker = world.process();
    world.publish([escalation("same", "flood")]).await;
    until("it is answered", async || finals(&world).await.len() == 1).await;
    world.publish((0..10 * FLOOD).map(|_| escalation("same", "flood"))).await;
    let waited = ten_others(&world, "beside").await;
    println!("ten others beside {} repeats of one id: {waited:?}", 10 * FLOOD);
    // With a commit for each repeat it took 25 s.
    assert!(waited < Duration::from_secs(12), "{waited:?}");
    world.all_is_committed().await;
    assert_eq!(finals(&world).await.len(), 11);
    worker.terminate().await;
    world.assert_all_committed().await;
}

async fn world(name: &str) -> World {
    let settings = SimulatedDeskSettings {
        // The flood takes far longer than the ten others may wait: 10 s by its calls alone.
        latency: LatencyRange::exactly(10),
        sessions_return: true,
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::new(name, 1, settings).await;
    world.set("INTAKE__MAX_EVENTS", "100").set("INTAKE__MAX_PER_SESSION", "8");
    world.set("DESK__SETTLE_MS", "1000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world
}

async fn flood(world: &World) {
    world.publish((0..FLOOD).map(|n| escalation(&format!("flood-{n}"), "flood"))).await;
}

/// Each is answered once, in the order of the records: they are in one partition.
async fn assert_in_order(world: &World) {
    let count = FLOOD + 10;
    until("all are answered", async || finals(world).await.len() == count).await;
    let outcomes = world.outcomes(count).await;
    assert_eq!(by_event(outcomes.clone()).len(), count);
    let flood = outcomes.iter().filter(|outcome| outcome["session_id"] == "flood");
    let offsets: Vec<_> =
        flood.map(|outcome| outcome["source"]["offset"].as_i64().unwrap()).collect();
    assert!(offsets.is_sorted(), "published in order: {offsets:?}");
    assert_eq!(world.desk.stats().overlapping_calls, 0);
}
