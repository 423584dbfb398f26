//! Order and exclusion under load: ten thousand events, one call at a time per session, in order.

use std::collections::HashMap;

use handoff::sim::desk::{ApiCommand, LatencyRange, SimulatedDeskSettings};
use serde_json::json;

use crate::support::worker::{World, by_event};

const EVENTS: usize = 10_000;
const SESSIONS: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_keep_the_order_of_their_sessions() {
    let latency = LatencyRange { min_ms: 1, max_ms: 15 };
    let options = SimulatedDeskSettings {
        latency,
        requests_kept: 4 * EVENTS,
        ..SimulatedDeskSettings::default()
    };
    let mut world = World::new("order", 12, options).await;
    world.set("DESK__CONCURRENCY", "64").set("LOG__LEVEL", "warn");
    let worker = world.worker();
    // The place within its session travels to Desk as the queue time-out.
    let event = |n: usize| {
        json!({
            "id": format!("e-{n}"),
            "session_id": format!("s-{}", n % SESSIONS),
            "options": {"queue_timeout": n / SESSIONS},
        })
    };
    world.publish((0..EVENTS).map(event)).await;
    let outcomes = world.outcomes(EVENTS).await;
    let mut places: HashMap<String, usize> = HashMap::new();
    for outcome in &outcomes {
        let event: usize = outcome["event_id"].as_str().unwrap()[2..].parse().unwrap();
        let place = places.entry(outcome["session_id"].to_string()).or_default();
        assert_eq!(event / SESSIONS, *place, "outcomes of a session keep its order: {outcome}");
        *place += 1;
    }
    let answered = by_event(outcomes);
    assert_eq!(answered.len(), EVENTS);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    worker.stop().await;
    world.assert_all_committed().await;

    let stats = world.desk.stats();
    assert_eq!(stats.overlapping_calls, 0, "calls of one session never overlap");
    assert_eq!(stats.of(ApiCommand::Transfer).calls, EVENTS as u64, "one call each");
    assert_eq!(stats.transfers_acted, SESSIONS as u64);
    assert!(
        stats.max_in_flight > 12,
        "more calls at once than partitions: {}",
        stats.max_in_flight
    );
    assert!(stats.max_in_flight <= 64, "never above the limit: {}", stats.max_in_flight);
    let mut called: HashMap<String, u64> = HashMap::new();
    for request in stats.last_requests.iter().filter(|r| r.command == ApiCommand::Transfer) {
        let place = called.entry(request.body["SessionId"].to_string()).or_default();
        assert_eq!(request.body["QueueTimeout"], *place, "calls keep the session's order");
        *place += 1;
    }
    assert_eq!(called.values().sum::<u64>(), EVENTS as u64);
}
