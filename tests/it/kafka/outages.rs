//! Outages of the broker and of Desk, and a wrong secret key. No worker is restarted, and no event
//! fails because of the outage.

use std::time::Duration;

use handoff::sim::desk::{
    ApiCommand, ConnectionOutage, DEMO_KEY, LatencyRange, SimulatedDeskSettings,
};
use tokio::time::{Instant, sleep};

use crate::support::kafka::Broker;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn publish(world: &World, ids: std::ops::Range<usize>) {
    world.publish(ids.map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_outage_of_ten_seconds_loses_nothing() {
    let mut broker = Broker::start().await;
    let world = World::on(broker.bootstrap(), "outage", 3, SimulatedDeskSettings::default()).await;
    let worker = world.process();
    publish(&world, 0..100).await;
    world.outcomes(100).await;
    broker.stop().await;
    sleep(TEN_SECONDS).await;
    broker.start_again().await;
    publish(&world, 100..200).await;
    let answered = by_event(world.outcomes(200).await);
    assert_eq!(answered.len(), 200);
    // The group's coordinator comes back later than the topics do.
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 200);
}

/// In a group that the broker runs only the worker itself measures how long it has had no contact.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_its_coordinator_stops_before_its_session_times_out() {
    let mut broker = Broker::start().await;
    let slow = SimulatedDeskSettings {
        latency: LatencyRange::exactly(2_000),
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::on(broker.bootstrap(), "cut-off", 3, slow).await;
    let port = free_port();
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}")).set("DESK__CONCURRENCY", "2");
    let worker = world.process();
    publish(&world, 0..60).await;
    world.outcomes(1).await;
    broker.stop().await;
    sleep(Duration::from_secs(15)).await;
    let soon = world.desk.stats().of(ApiCommand::Transfer).calls;
    sleep(Duration::from_secs(5)).await;
    assert!(
        world.desk.stats().of(ApiCommand::Transfer).calls > soon,
        "its partitions are still its own"
    );
    sleep(Duration::from_secs(16)).await;
    let late = world.desk.stats().of(ApiCommand::Transfer).calls;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, late, "they may not be any more");
    assert!(late < 60, "there is something left to be called for");
    let ready = ask_admin(port, "ready").await;
    assert!(ready.0 == 503 && ready.1.contains("no broker answers"), "{ready:?}");
    assert!(
        worker.log().contains("group coordinator silent, purging unsent messages"),
        "{}",
        worker.log()
    );
    assert_eq!(ask_admin(port, "health").await.0, 200, "a restart would not help");
    broker.start_again().await;
    let answered = by_event(world.outcomes(60).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().transferred_again, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_outage_of_ten_seconds_fails_no_event() {
    let mut world = World::new("desk-out", 3, SimulatedDeskSettings::default()).await;
    world.set("DESK__PROBE_INITIAL_MS", "500").set("DESK__PROBE_MAX_MS", "1000");
    let worker = world.process();
    publish(&world, 0..50).await;
    world.outcomes(50).await;
    world.desk.set_outage(ConnectionOutage::Refusing);
    publish(&world, 50..250).await;
    sleep(TEN_SECONDS).await;
    assert!(worker.log().contains("gate shut: no call can succeed"), "{}", worker.log());
    world.desk.set_outage(ConnectionOutage::None);
    let answered = by_event(world.outcomes(250).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    assert_eq!(answered.len(), 250);
    assert!(worker.log().contains("gate open"), "{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().transferred_again, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_repaired_while_the_worker_runs() {
    let mut world = World::new("repair", 3, SimulatedDeskSettings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "of-another-app").unwrap();
    let port = free_port();
    world.set("DESK__SECRET_KEY", "").set("DESK__SECRET_KEY_FILE", key.to_str().unwrap());
    world.set("DESK__PROBE_INITIAL_MS", "300").set("DESK__PROBE_MAX_MS", "600");
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}")).set("DESK__CONCURRENCY", "8");
    let worker = world.process();
    publish(&world, 0..100).await;
    let begun = Instant::now();
    let ready = loop {
        let (status, text) = ask_admin(port, "ready").await;
        if status == 503 && text.contains("70009") {
            break text;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status} {text}");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(ready.contains("secret key"), "{ready}");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ask_admin(port, "health").await.0, 200, "waiting is not stalled");
    let metrics = ask_admin(port, "metrics").await.1;
    assert!(metrics.contains("handoff_gate_shut{reason=\"misconfigured\"} 1"), "{metrics}");
    let calls = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert!((2..100).contains(&calls), "probed slowly: {calls} calls");
    let times = worker.log().matches("gate shut: no call can succeed").count();
    assert_eq!(times, 1, "one line says what to repair:\n{}", worker.log());

    let refused = || world.desk.stats().code(ApiCommand::Transfer, 70_009);
    std::fs::write(&key, format!("{DEMO_KEY}\n")).unwrap();
    let refused_before = refused();
    // New events come faster than probes, so that each probe is the first call of its event.
    let mut published = 100;
    while ask_admin(port, "ready").await.0 != 200 {
        publish(&world, published..published + 1).await;
        published += 1;
        sleep(Duration::from_millis(50)).await;
    }
    let refused = refused() - refused_before;
    println!("{refused} calls refused after the repair, {published} events");
    assert!(refused <= 4, "only probes in flight: {refused} calls were refused after the repair");
    let answered = by_event(world.outcomes(published).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    assert_eq!(answered.len(), published);
    worker.terminate().await;
    world.assert_all_committed().await;
}
