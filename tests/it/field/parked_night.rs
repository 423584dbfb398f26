//! More parked events than the intake holds: an ordinary night.
//!
//! Once parked events stayed in memory and counted as unfinished: of 30,000 parked events 12,000
//! filled the intake, and nothing new was read until deadlines passed, hours later.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use tokio::time::{Instant, sleep};

use super::beside::{BESIDE, finals, ten_others, until};
use crate::support::postgres;
use crate::support::stalls::Stalls;
use crate::support::worker::{Process, World, by_event, decided_at, escalation};

const SESSIONS: usize = 250;
const PARKED_FOR: Duration = Duration::from_secs(30);
/// From the time at which the last parked event is due to the last answer.
const LATE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_do_not_fill_the_intake() {
    let world = world("night").await;
    let worker = world.process();
    let parked = park(&world).await;
    answer_all(&world, worker, parked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_in_postgresql_do_not_fill_the_intake_after_a_crash() {
    let mut world = world("night-crash-pg").await;
    world.set("LEDGER__URL", &postgres::schema().await);
    after_a_crash(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_do_not_fill_the_intake_after_a_crash() {
    after_a_crash(&world("night-crash").await).await;
}

async fn after_a_crash(world: &World) {
    let worker = world.process();
    let parked = park(world).await;
    worker.kill().await;
    let worker = world.process();
    answer_all(world, worker, parked).await;
}

async fn world(name: &str) -> World {
    let mut world = World::new(name, 4, SimulatedDeskSettings::default()).await;
    world.set("INTAKE__MAX_EVENTS", "50");
    world.set("RETRY__QUICK_ATTEMPTS", "1");
    world.set("RETRY__PARK_MS", &PARKED_FOR.as_millis().to_string());
    // A restarted worker gets its partitions back at once.
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world
}

/// Publishes two events per session; the first call of each session fails. Returns the time at which
/// all were called once.
async fn park(world: &World) -> Instant {
    let session = |n: usize| format!("s-{n}");
    for n in 0..SESSIONS {
        world.desk.schedule(InjectedFault::error(60_014).session(session(n)));
    }
    let events = |which: &str| {
        let ids = (0..SESSIONS).map(|n| (format!("{which}-{n}"), session(n)));
        ids.map(|(id, session)| escalation(&id, &session)).collect::<Vec<_>>()
    };
    world.publish(events("first").into_iter().chain(events("second"))).await;
    let transfers = || world.desk.stats().of(ApiCommand::Transfer).calls;
    let took = until("each session is called once", async || transfers() >= SESSIONS as u64).await;
    println!("{SESSIONS} sessions were called and parked after {took:?}");
    assert!(took < PARKED_FOR, "all are parked before the first comes back: {took:?}");
    let parked = Instant::now();
    sleep(Duration::from_millis(500)).await;
    parked
}

async fn answer_all(world: &World, worker: Process, parked: Instant) {
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    let waited = ten_others(world, "beside").await;
    assert!(waited < BESIDE, "beside the parked events: {waited:?}");
    assert!(parked.elapsed() < PARKED_FOR, "they were still parked");
    assert_eq!(finals(world).await.len(), 10, "and not answered");

    let (count, stalls) = (2 * SESSIONS + 10, Stalls::begin());
    until("all are answered", async || finals(world).await.len() == count).await;
    let late = parked.elapsed().saturating_sub(PARKED_FOR);
    println!("all were answered {late:?} after the last was due");
    assert!(late < LATE + stalls.total(), "{late:?}");
    let answered = by_event(world.outcomes(count).await);
    let decided = |id: String| decided_at(&answered[&id]);
    for n in 0..SESSIONS {
        let (first, second) = (decided(format!("first-{n}")), decided(format!("second-{n}")));
        assert!(first <= second, "session {n} keeps its order: {first}, {second}");
    }
    let stats = world.desk.stats();
    assert_eq!((stats.transferred_again, stats.overlapping_calls), (0, 0));
    worker.terminate().await;
    world.assert_all_committed().await;
}
