//! The quota belongs to the group: its instances share it by their partitions while they come and go.
//!
//! Measured by what arrives at the simulated Desk. `scripts/bench --only quota` sets tighter limits on
//! a quiet machine.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, SimulatedDeskSettings};
use tokio::time::sleep;

use crate::support::postgres;
use crate::support::stalls::Stalls;
use crate::support::worker::{World, by_event, escalation};

const QUOTA: u64 = 100;
/// Among many tests a call may be on its way for a while, and come together with later ones. An
/// instance that did not share would add up to the whole quota.
const UNEVEN: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_never_exceeds_its_quota_while_instances_come_and_go() {
    let mut world = World::new("quota", 12, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    world.set("DESK__QUOTA_PER_SECOND", &QUOTA.to_string());
    world.set("KAFKA__PROPERTIES__GROUP_PROTOCOL", "consumer");
    let events = 1_500;
    world.publish((0..events).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    let (first, stalls) = (world.process(), Stalls::begin());
    sleep(Duration::from_secs(3)).await;
    let (second, third) = (world.process(), world.process());
    sleep(Duration::from_secs(4)).await;
    third.terminate().await;
    sleep(Duration::from_secs(3)).await;
    let third = world.process();
    let answered = by_event(world.outcomes(events).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    world.all_is_committed().await;
    for worker in [first, second, third] {
        worker.terminate().await;
    }
    let transfers = world.desk.stats().of(ApiCommand::Transfer);
    assert_eq!(transfers.calls, events as u64);
    let most = transfers.max_per_second;
    // The calls of a stall arrive together with those of the second after it.
    let stalled_ms = u64::try_from(stalls.total().as_millis()).unwrap();
    let limit = QUOTA + UNEVEN + QUOTA * stalled_ms / 1_000;
    assert!(most <= limit, "{most} in a second, not {limit}: {:?}", transfers.per_second);
    assert!(most > QUOTA / 2, "and it was used: {:?}", transfers.per_second);
    world.assert_all_committed().await;
}
