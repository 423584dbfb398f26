//! The ledger is behind PgBouncer in transaction mode.
//!
//! Once not even the start worked: named statements and a session's lock do not survive a transaction
//! there, and a start-up parameter is refused.

use handoff::sim::desk::{InjectedFault, SimulatedDeskSettings};

use super::beside::{finals, until};
use crate::support::pgbouncer::PgBouncer;
use crate::support::worker::{World, by_event, escalation};

const SESSIONS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_behind_pgbouncer_answer_each_event_once() {
    let bouncer = PgBouncer::start().await;
    let mut world = World::new("pgbouncer", 4, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &bouncer.database().await);
    // The others commit nothing while a killed member keeps them from joining again.
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("DRAIN__TIMEOUT_MS", "3000");
    world.set("RETRY__QUICK_ATTEMPTS", "1").set("RETRY__PARK_MS", "1500");
    for n in 0..SESSIONS / 4 {
        world.desk.schedule(InjectedFault::error(60_014).session(format!("s-{n}")));
    }
    // Both start on an empty database at the same time.
    let workers = [world.process(), world.process()];
    let events = |which: &str| {
        let event = |n| escalation(&format!("{which}-{n}"), &format!("s-{n}"));
        (0..SESSIONS).map(event).collect::<Vec<_>>()
    };
    world.publish(events("first").into_iter().chain(events("second"))).await;
    until("half of them are answered", async || finals(&world).await.len() >= SESSIONS).await;
    let [crashing, staying] = workers;
    crashing.kill().await;
    let restarted = world.process();
    let answered = by_event(world.outcomes(2 * SESSIONS).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    assert_eq!(world.desk.stats().overlapping_calls, 0);
    world.all_is_committed().await;
    for worker in [staying, restarted] {
        assert!(!worker.log().contains("ERROR"), "{}", worker.log());
        worker.terminate().await;
    }
    world.assert_all_committed().await;
}
