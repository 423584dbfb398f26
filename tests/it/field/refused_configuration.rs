//! A configuration that only the client or the brokers refuse.
//!
//! Once it ended the service with exit code 69, "a dependency is unavailable", which an orchestrator
//! answers with another start.

use handoff::sim::desk::SimulatedDeskSettings;

use crate::support::kafka::Broker;
use crate::support::worker::World;

/// Exit code 78, and a log that says this.
async fn check(world: &World, expected: &str) {
    let mut process = world.process();
    let code = process.wait().await.code();
    let log = process.log();
    assert_eq!(code, Some(78), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(expected), "{expected:?} in:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_contradict_each_other() {
    let mut world = World::new("contradiction", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__RECONNECT_BACKOFF_MS", "2000");
    world.set("KAFKA__CONSUMER_PROPERTIES__RECONNECT_BACKOFF_MAX_MS", "1000");
    check(&world, "check [kafka.properties] and [kafka.consumer_properties]").await;
    let mut world = World::new("poll", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__MAX_POLL_INTERVAL_MS", "40000");
    check(&world, "`kafka.consumer_properties.max.poll.interval.ms` = 40000 must be at least")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_protocol_that_the_brokers_do_not_support() {
    let broker = Broker::start_with(&[("group.coordinator.rebalance.protocols", "classic")]).await;
    let settings = SimulatedDeskSettings::default();
    let mut world = World::on(broker.bootstrap(), "no-kip-848", 1, settings).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    check(&world, "these brokers do not support \"group.protocol\" = \"consumer\"").await;
}
