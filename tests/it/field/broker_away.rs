//! The broker goes away while outcomes wait for it, for longer than the client keeps a message.
//!
//! A message that times out is looked up and sent again; one of the same session that was enqueued
//! later must not overtake it.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff::sim::desk::{ApiCommand, LatencyRange, SimulatedDeskSettings};
use tokio::time::{Instant, sleep};

use super::beside::{outcomes, until};
use crate::support::kafka::Broker;
use crate::support::stalls::Stalls;
use crate::support::worker::{World, by_event, escalation};

const SESSIONS: usize = 20;
const EACH: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_wait_for_a_broker_keep_the_order_of_their_session() {
    let mut broker = Broker::start().await;
    let latency = LatencyRange { min_ms: 800, max_ms: 1_000 };
    let settings = SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() };
    let world = World::on(broker.bootstrap(), "away", 3, settings).await;
    let worker = world.process();
    let event = |n: usize| escalation(&format!("e-{n:03}"), &format!("s-{}", n % SESSIONS));
    world.publish((0..SESSIONS * EACH).map(event)).await;
    let calls = || world.desk.stats().of(ApiCommand::Transfer).calls;
    until("some are answered", async || calls() > 2 * SESSIONS as u64).await;
    broker.kill().await;
    let gone = Instant::now();
    sleep(Duration::from_secs(13)).await;
    assert_eq!(calls(), (SESSIONS * EACH) as u64, "all are called, most of them without a broker");
    broker.start_again().await;
    let (back, stalls) = (Instant::now(), Stalls::begin());
    until("all are published", async || outcomes(&world).await.len() == SESSIONS * EACH).await;
    println!("all outcomes are there {:?} after the broker", back.elapsed());
    let limit = Duration::from_secs(30) + stalls.total();
    assert!(back.elapsed() < limit, "{:?}\n{}", back.elapsed(), worker.log());
    // The log shows one line in ten seconds.
    let most = 3 + gone.elapsed().as_secs() / 10;
    assert_eq!(by_event(world.outcomes(SESSIONS * EACH).await).len(), SESSIONS * EACH);
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for outcome in outcomes(&world).await {
        let (session, id) = (outcome["session_id"].to_string(), outcome["event_id"].to_string());
        let before = last.insert(session.clone(), id.clone());
        assert!(before.as_ref() < Some(&id), "{session}: {id} after {before:?}");
    }
    let warnings = worker.log().matches("message not published").count() as u64;
    assert!((1..=most).contains(&warnings), "{warnings} warnings:\n{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
}
