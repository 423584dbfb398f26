//! A worker that is paused (SIGSTOP) for four seconds while calls are in flight, whose answers arrive
//! meanwhile.
//!
//! When it ran again, each of them had passed its time limit and counted as a session that Desk did not
//! answer: ten of them shut the gate.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, LatencyRange, SimulatedDeskSettings};
use tokio::time::sleep;

use super::beside::until;
use crate::support::worker::{World, by_event, escalation};

/// More than `desk.outage_after` sessions.
const CALLS: usize = 14;

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_arrive_in_a_short_pause_do_not_count_as_silence_of_desk() {
    let latency = LatencyRange { min_ms: 1500, max_ms: 1600 };
    let settings = SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() };
    let mut world = World::new("short-pause", 4, settings).await;
    world.set("DESK__TIMEOUT_MS", "3000");
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    let events = (0..CALLS).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")));
    world.publish(events).await;
    let transfers = || world.desk.stats().of(ApiCommand::Transfer).calls;
    while transfers() < CALLS as u64 {
        sleep(Duration::from_millis(5)).await;
    }
    worker.signal("STOP");
    // Less than the lease takes for a pause.
    sleep(Duration::from_secs(4)).await;
    worker.signal("CONT");
    let answered = by_event(world.outcomes(CALLS).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"), "{answered:?}");
    let by_state = answered.values().filter(|o| o["confirmed_by"] == "session_state").count();
    assert!(by_state >= 10, "{by_state} of {CALLS} calls had passed their time limit");
    assert!(!worker.log().contains("gate shut"), "{}", worker.log());
    worker.terminate().await;
}
