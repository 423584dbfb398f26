//! Partitions that are added while the service runs.
//!
//! Once they were found after 3 to 5 minutes with the classic group protocols.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::time::Instant;

use super::beside::{finals, until};
use crate::support::kafka::{Record, add_partitions};
use crate::support::stalls::Stalls;
use crate::support::worker::{World, escalation};

/// The client asks every 10 s; 5 s are for the rebalance, and 5 s for the test's own clients.
const FOUND: Duration = Duration::from_secs(20);

async fn check(name: &str, protocol: &str) {
    let mut world = World::new(name, 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", protocol);
    let worker = world.process();
    world.publish([escalation("before", "s-1")]).await;
    world.outcomes(1).await;
    add_partitions(&world.bootstrap, &world.topic("in"), 3).await;
    let (begun, stalls) = (Instant::now(), Stalls::begin());
    for (n, partition) in [1, 2].into_iter().enumerate() {
        let event = escalation(&format!("after-{n}"), &format!("s-after-{n}"));
        world.publish_raw([Record::new("k", event.to_string()).on(partition)]).await;
    }
    until("all are answered", async || finals(&world).await.len() == 3).await;
    println!("{protocol}: answered {:?} after the partitions were added", begun.elapsed());
    assert!(begun.elapsed() < FOUND + stalls.total(), "{:?}", begun.elapsed());
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic() {
    check("grown-classic", "classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kip_848() {
    check("grown-consumer", "consumer").await;
}
