//! Ten events beside a pile: published together, each of a session of its own, and waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::kafka::read_to_end;
use crate::support::stalls::Stalls;
use crate::support::worker::{World, ask_admin, escalation};

/// Far more than any test allows for an answer.
const LIMIT: Duration = Duration::from_secs(180);
/// The longest that ten others may wait beside a pile, as docs/chaos.md says. The defects took minutes.
pub(super) const BESIDE: Duration = Duration::from_secs(5);
/// From a fault to a `/ready` that names it.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Publishes ten events and returns how long the last of their answers took, without the time in which
/// the machine stood still.
pub(super) async fn ten_others(world: &World, round: &str) -> Duration {
    let ids = (0..10).map(|n| format!("other-{round}-{n}"));
    answered_within(world, ids.map(|id| escalation(&id, &id)).collect()).await
}

/// The same with a second event of each session, which finds a human there.
pub(super) async fn ten_others_twice(world: &World, round: &str) -> Duration {
    let ids: Vec<_> = (0..10).map(|n| format!("other-{round}-{n}")).collect();
    let both = ids.iter().flat_map(|id| [escalation(id, id), escalation(&format!("{id}-2"), id)]);
    answered_within(world, both.collect()).await
}

async fn answered_within(world: &World, events: Vec<Value>) -> Duration {
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let (begun, stalls) = (Instant::now(), Stalls::begin());
    world.publish(events).await;
    loop {
        let answered = finals(world).await;
        let missing = ids.iter().filter(|id| !answered.contains_key(*id)).count();
        if missing == 0 {
            let took = begun.elapsed().saturating_sub(stalls.total());
            println!("{} others from {}: {took:?}", ids.len(), ids[0]);
            return took;
        }
        assert!(begun.elapsed() < LIMIT, "{missing} others have no answer after {LIMIT:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The final outcomes so far, by event id.
pub(super) async fn finals(world: &World) -> BTreeMap<String, Value> {
    let outcomes = outcomes(world).await.into_iter().filter(|outcome| outcome["final"] == true);
    let by_id = |outcome: Value| (outcome["event_id"].as_str().unwrap().to_owned(), outcome);
    outcomes.map(by_id).collect()
}

/// All outcomes so far, in the order of each partition.
pub(super) async fn outcomes(world: &World) -> Vec<Value> {
    let records = read_to_end(&world.bootstrap, &world.topic("out")).await;
    let parse = |value: &[u8]| serde_json::from_slice(value).expect("an outcome is JSON");
    records.iter().map(|record| parse(record.value.as_deref().unwrap())).collect()
}

/// Waits until this holds; panics after three minutes.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LIMIT, "not after {LIMIT:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

/// Waits until the worker is not ready for this reason; returns what it says.
pub(super) async fn not_ready(port: u16, because: &str) -> String {
    let (begun, stalls) = (Instant::now(), Stalls::begin());
    loop {
        let (status, text) = ask_admin(port, "ready").await;
        if status == 503 && text.contains(because) {
            println!("not ready after {:?}: {text}", begun.elapsed());
            return text;
        }
        assert!(
            begun.elapsed() < READY_LIMIT + stalls.total(),
            "not after {READY_LIMIT:?}: {because}; it is {status} {text}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}
