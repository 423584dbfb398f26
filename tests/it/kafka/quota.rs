//! The quota belongs to the group: its instances share it by their partitions while they come and go.
//!
//! Measured by what arrives at the simulated Desk. `scripts/bench --only quota` sets tighter limits on
//! a quiet machine.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, SimulatedDeskSettings};
use tokio::time::sleep;

use crate::support::postgres;
use crate::support::worker::{World, by_event, escalation};

const QUOTA: u64 = 100;
/// Among many tests a call may be on its way for a while, and come together with later ones.
const UNEVEN: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_never_exceeds_its_quota_while_instances_come_and_go() {
    let mut world = World::new("quota", 12, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    world.set("DESK__QUOTA_PER_SECOND", &QUOTA.to_string());
    world.set("KAFKA__PROPERTIES__GROUP_PROTOCOL", "consumer");
    let events = 1_500;
    world.publish((0..events).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    let first = world.process();
    sleep(Duration::from_secs(3)).await;
    let (second, third) = (world.process(), world.process());
    sleep(Duration::from_secs(4)).await;
    third.terminate().await;
    sleep(Duration::from_secs(3)).await;
    let third = world.process();
    let answered = by_event(world.outcomes(events).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    for worker in [first, second, third] {
        worker.terminate().await;
    }
    let transfers = world.desk.stats().of(ApiCommand::Transfer);
    assert_eq!(transfers.calls, events as u64);
    let most = transfers.max_per_second;
    assert!(most <= QUOTA + UNEVEN, "{most} in a second: {:?}", transfers.per_second);
    assert!(most > QUOTA / 2, "and it was used: {:?}", transfers.per_second);
    world.assert_all_committed().await;
}
