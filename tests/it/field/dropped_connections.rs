//! Connections that a firewall has dropped in silence while they were idle: what is sent on them goes
//! nowhere, and new connections work.
//!
//! Outcomes came 60 s late, after librdkafka's default time limit for a request.

use std::time::Duration;

use handoff::sim::desk::{LatencyRange, SimulatedDeskSettings};
use tokio::time::{Instant, sleep};

use super::beside::ten_others;
use crate::support::postgres;
use crate::support::relay::Relay;
use crate::support::worker::World;

/// The consumer notices within 3 s and the producer within 2 s more; the rest is for a slow machine. A call
/// to Desk takes its time limit of 8 s, and is reconciled 3 s later; the next time-out would be at 19 s.
const LIMIT: Duration = Duration::from_secs(15);
/// From a dropped answer to JoinGroup to a member that stops; without a check it took five minutes.
const STOPS_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_kafka_that_were_dropped_in_silence_delay_an_outcome_by_seconds() {
    let (relay, _broker) = Relay::with_broker().await;
    let desk = SimulatedDeskSettings::default;
    let classic = World::on(&relay.address(), "dropped-classic", 2, desk()).await;
    let mut kip848 = World::on(&relay.address(), "dropped-848", 2, desk()).await;
    kip848.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    let workers = [classic.process(), kip848.process()];
    tokio::join!(ten_others(&classic, "before"), ten_others(&kip848, "before"));
    for round in ["first", "second"] {
        sleep(Duration::from_secs(2)).await;
        relay.drop_in_silence();
        let (a, b) = tokio::join!(ten_others(&classic, round), ten_others(&kip848, round));
        assert!(a < LIMIT && b < LIMIT, "{round}: classic after {a:?}, KIP-848 after {b:?}");
    }
    for worker in workers {
        worker.terminate().await;
    }
}

/// A member that waits for the answer to its JoinGroup request sends no heartbeats, and librdkafka checks
/// no session time-out then. It acted for its partitions for five minutes, while the group had given
/// them to another member.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_answer_to_joining_was_dropped_stops_and_joins_again() {
    let (relay, _broker) = Relay::with_broker().await;
    let mut world =
        World::on(&relay.address(), "dropped-join", 2, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &postgres::schema().await);
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("DRAIN__TIMEOUT_MS", "5000");
    let (killed, member) = (world.process(), world.process());
    ten_others(&world, "before").await;
    killed.kill().await;
    // Its JoinGroup request makes the others join again; all wait for the session of the killed one.
    let newcomer = world.process();
    sleep(Duration::from_secs(3)).await;
    relay.drop_in_silence();
    let dropped = Instant::now();
    while !member.log().contains("group coordinator silent, purging unsent messages") {
        assert!(dropped.elapsed() < STOPS_WITHIN, "it still acts: {}", member.log());
        sleep(Duration::from_millis(100)).await;
    }
    // max.poll.interval.ms is 16 s here, and librdkafka adds 3 s.
    let waited = ten_others(&world, "after").await;
    assert!(waited < Duration::from_secs(60), "{waited:?}");
    for worker in [member, newcomer] {
        worker.terminate().await;
    }
}

/// The first call meets a dropped connection and is in doubt after `desk.timeout_ms`; the state query
/// and the repeated call must not meet the next one.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_desk_that_were_dropped_in_silence_delay_an_outcome_by_one_call() {
    let latency = LatencyRange::exactly(300);
    let settings = SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() };
    let mut world = World::new("dropped-desk", 2, settings).await;
    let target = world.desk.endpoint();
    let relay = Relay::to(target.trim_start_matches("http://")).await;
    world.set("DESK__ENDPOINT", &format!("http://{}", relay.address()));
    world.set("DESK__TIMEOUT_MS", "8000").set("DESK__SETTLE_MS", "3000");
    // Ten sessions without an answer would rightly shut the gate for a while.
    world.set("DESK__OUTAGE_AFTER", "11");
    let worker = world.process();
    // Ten calls at once leave ten idle connections.
    ten_others(&world, "before").await;
    sleep(Duration::from_secs(1)).await;
    relay.drop_in_silence();
    let waited = ten_others(&world, "after").await;
    assert!(waited < LIMIT, "{waited:?}");
    worker.terminate().await;
}
