//! A firewall forgets the connections to PostgreSQL in silence.
//!
//! Once the next event waited 15 s for a lost answer before its call.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use super::beside::{finals, until};
use crate::support::postgres;
use crate::support::relay::Relay;
use crate::support::stalls::Stalls;
use crate::support::worker::{World, by_event, escalation};

#[tokio::test(flavor = "multi_thread")]
async fn events_are_answered_within_seconds_after_a_silent_drop() {
    let direct = postgres::schema().await;
    let options: PgConnectOptions = direct.parse().unwrap();
    let server = format!("{}:{}", options.get_host(), options.get_port());
    let relay = Relay::to(&server).await;
    let mut world = World::new("pg-dropped", 2, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &direct.replace(&server, &relay.address()));
    let worker = world.process();
    answer_one(&world, "first", 1).await;

    sleep(Duration::from_secs(2)).await;
    relay.drop_in_silence();
    let late = answer_one(&world, "after-idling", 2).await;
    println!("answered {late:?} after the connection was dropped while idle");
    assert!(late < Duration::from_secs(10), "{late:?}");

    // Used a moment ago, so it is trusted.
    answer_one(&world, "before", 3).await;
    relay.drop_in_silence();
    let late = answer_one(&world, "in-use", 4).await;
    println!("answered {late:?} after the connection was dropped in use");
    assert!(late < Duration::from_secs(12), "{late:?}");
    assert_eq!(by_event(world.outcomes(4).await).len(), 4);
    worker.terminate().await;
}

/// Returns how long the answer took, without the time in which the machine stood still.
async fn answer_one(world: &World, id: &str, count: usize) -> Duration {
    let (began, stalls) = (Instant::now(), Stalls::begin());
    world.publish([escalation(id, id)]).await;
    until("it is answered", async || finals(world).await.len() == count).await;
    began.elapsed().saturating_sub(stalls.total())
}
