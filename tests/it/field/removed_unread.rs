//! The topic's retention removes records that the group has not read.
//!
//! Once the service went on behind them without a word: 548 customers of 1,000 got no human, and
//! nothing showed it.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;

use super::beside::until;
use crate::support::kafka::delete_records;
use crate::support::worker::{World, ask_admin, by_event, escalation, free_port};

const LINE: &str = "records were removed from the topic before they were read";

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_removed_before_they_were_read_are_counted_and_logged() {
    let mut world = World::new("removed", 1, SimulatedDeskSettings::default()).await;
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    let worker = world.process();
    let events = |range: std::ops::Range<u32>| {
        range.map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))
    };
    world.publish(events(0..5)).await;
    world.outcomes(5).await;
    world.all_is_committed().await;
    worker.terminate().await;

    // Some are left. They are read whatever this says: it is for partitions without an offset.
    world.set("KAFKA__CONSUMER_PROPERTIES__AUTO_OFFSET_RESET", "latest");
    world.publish(events(5..20)).await;
    delete_records(&world.bootstrap, &world.topic("in"), 0, 15).await;
    let worker = world.process();
    assert_eq!(by_event(world.outcomes(10).await).len(), 10);
    until("the log says so", async || worker.log().contains(LINE)).await;
    assert!(worker.log().contains("offsets=5..15 count=10"), "{}", worker.log());
    let metrics = ask_admin(port, "metrics").await.1;
    let counted = metrics.lines().find(|l| l.starts_with("handoff_records_removed_unread_total "));
    assert_eq!(counted, Some("handoff_records_removed_unread_total 10"));
    world.all_is_committed().await;
    worker.terminate().await;

    // None is left.
    world.publish(events(20..23)).await;
    delete_records(&world.bootstrap, &world.topic("in"), 0, 23).await;
    let worker = world.process();
    let took = until("the log says so", async || worker.log().contains("offsets=20..23")).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
    world.publish(events(23..24)).await;
    assert_eq!(by_event(world.outcomes(11).await).len(), 11);
    assert_eq!(worker.log().matches(LINE).count(), 1, "{}", worker.log());
    worker.terminate().await;
}
