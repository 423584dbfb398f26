//! Many events whose calls always fail, and ten events that Desk would answer at once.
//!
//! Once the re-attempts of the oldest events took the whole quota: with 3,000 events that Desk
//! answered with 141002, a part of them was retried for ever, the rest was never called, and ten
//! other events got nothing.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use tokio::time::sleep;

use super::beside::{ten_others, until};
use crate::support::stalls::Stalls;
use crate::support::worker::{World, escalation};

const PILE: usize = 200;
const QUOTA: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn retries_that_always_fail_leave_the_quota_to_first_attempts() {
    let mut world = World::new("retries-pile", 4, SimulatedDeskSettings::default()).await;
    world.set("DESK__QUOTA_PER_SECOND", &QUOTA.to_string());
    let ids: Vec<_> = (0..PILE).map(|n| format!("pile-{n}")).collect();
    for id in &ids {
        world.desk.schedule(InjectedFault::error(141_002).session(id).times(0));
    }
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    let stalls = Stalls::begin();
    world.publish(ids.iter().map(|id| escalation(id, id))).await;
    let calls = |id: &String| world.desk.session(id).map_or(0, |session| session.calls);
    let all_called =
        until("each of the pile is called once", async || ids.iter().all(|id| calls(id) > 0));
    // First attempts alone need 10 s at this quota.
    let first_attempts = all_called.await;
    let limit = Duration::from_secs(20) + stalls.total();
    assert!(first_attempts < limit, "first attempts took {first_attempts:?}");
    for round in ["a", "b"] {
        let waited = ten_others(&world, round).await;
        assert!(waited < Duration::from_secs(4), "round {round}: {waited:?}");
    }
    let before = world.desk.stats().of(ApiCommand::Transfer).calls;
    sleep(Duration::from_secs(5)).await;
    let after = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert!(after > before, "the pile is retried");
    worker.terminate().await;
}
