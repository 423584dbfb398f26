//! Crash safety: `kill -9` under load, calls in doubt, parked retries, repeated ids.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, LatencyRange, SimulatedDeskSettings};
use serde_json::json;
use tokio::time::sleep;

use crate::support::kafka::Broker;
use crate::support::worker::{World, by_event, decided_at, escalation};

fn transfer(act: InjectedFault) -> InjectedFault {
    act.commands(&[ApiCommand::Transfer])
}

/// Waits until this holds; panics after some 30 s.
pub(super) async fn until(what: impl Fn() -> bool) {
    for _ in 0..3000 {
        if what() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_kills_under_load_answer_each_event_once() {
    let latency = LatencyRange { min_ms: 5, max_ms: 80 };
    let mut world = World::new(
        "kill",
        4,
        SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() },
    )
    .await;
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    // Far more than Desk needs, also where this machine is busy with something else.
    world.set("DESK__SETTLE_MS", "1000").set("DRAIN__TIMEOUT_MS", "3000");
    let event = |n: usize| escalation(&format!("e-{n}"), &format!("s-{n}"));
    world.publish((0..3000).map(event)).await;
    for round in 0..8 {
        let worker = world.process();
        let before = world.desk.stats().of(ApiCommand::Transfer).calls;
        until(|| world.desk.stats().of(ApiCommand::Transfer).calls > before + 100 + 20 * round)
            .await;
        worker.kill().await;
    }
    let worker = world.process();
    let answered = by_event(world.outcomes(3000).await);
    assert_eq!(answered.len(), 3000, "nothing is lost");
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
    worker.terminate().await;
    world.assert_all_committed().await;
    let stats = world.desk.stats();
    assert_eq!(stats.transferred_again, 0);
    assert_eq!(stats.transfers_acted, 3000, "no session was transferred twice");
    let asked = answered.values().filter(|o| o["confirmed_by"] == "session_state").count();
    assert!(asked > 0, "calls in flight were reconciled");
    assert_eq!(stats.of(ApiCommand::Transfer).calls, 3000, "and none was made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_at_a_crash_is_reconciled_before_any_retry() {
    let mut world = World::new("out", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DESK__TIMEOUT_MS", "20000").set("DESK__SETTLE_MS", "500");
    world.desk.schedule(transfer(InjectedFault::hang()).with_effect().session("acted"));
    world.desk.schedule(transfer(InjectedFault::hang()).session("lost"));
    world.publish([escalation("acted", "acted"), escalation("lost", "lost")]).await;
    let worker = world.process();
    until(|| world.desk.stats().of(ApiCommand::Transfer).calls == 2).await;
    worker.kill().await;
    let worker = world.process();
    let answered = by_event(world.outcomes(2).await);
    worker.terminate().await;
    assert_eq!(answered["acted"]["status"], "assigned", "{answered:?}");
    assert_eq!(answered["acted"]["confirmed_by"], "session_state");
    assert_eq!(answered["lost"]["status"], "assigned", "asked, still with the bot, called again");
    assert_eq!(answered["lost"]["confirmed_by"], "reply");
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 3);
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_event_delays_only_its_session_also_after_a_crash() {
    let mut world = World::new("park", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("RETRY__INITIAL_MS", "10").set("RETRY__MAX_MS", "20");
    world.set("RETRY__PARK_MS", "15000");
    world.desk.schedule(transfer(InjectedFault::error(60_014)).session("s").times(5));
    world.publish([escalation("parked", "s"), escalation("behind", "s")]).await;
    world.publish((0..50).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    let worker = world.process();
    let answered = by_event(world.outcomes(50).await);
    assert!(!answered.contains_key("parked") && !answered.contains_key("behind"));
    worker.kill().await;
    let calls = world.desk.session("s").unwrap().calls;
    assert_eq!(calls, 4, "a burst of quick attempts");
    let worker = world.process();
    let answered = by_event(world.outcomes(52).await);
    worker.terminate().await;
    assert_eq!(answered["parked"]["status"], "assigned");
    assert_eq!(answered["parked"]["attempts"], 6, "attempts survive: {}", answered["parked"]);
    let at = |id: &str| decided_at(&answered[id]);
    assert!(at("parked") < at("behind"), "the session keeps its order");
    assert_eq!(world.desk.stats().overlapping_calls, 0);
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_answered_once_and_belongs_to_one_session() {
    let world = World::new("ids", 2, SimulatedDeskSettings::default()).await;
    let worker = world.process();
    world.publish([escalation("e", "s"), escalation("e", "s")]).await;
    world.outcomes(1).await;
    world.publish([escalation("e", "s"), escalation("e", "other")]).await;
    let dead_letters = world.dead_letters(1).await;
    let class = dead_letters[0].headers.iter().find(|(name, _)| name == "handoff-error-class");
    assert_eq!(class.unwrap().1.as_deref(), Some(&b"conflicting_id"[..]));
    worker.terminate().await;
    let worker = world.process();
    world.publish([escalation("e", "s"), escalation("last", "s-last")]).await;
    let answered = by_event(world.outcomes(2).await);
    assert_eq!(answered.len(), 2, "one answer for the id, whatever was repeated");
    assert_eq!(world.desk.session("s").unwrap().calls, 1);
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_stored_but_not_published_is_published_once_after_a_crash() {
    let mut broker = Broker::start().await;
    let mut world =
        World::on(broker.bootstrap(), "unpublished", 2, SimulatedDeskSettings::default()).await;
    world.set("DESK__TIMEOUT_MS", "20000");
    world.desk.schedule(
        transfer(InjectedFault::slow(LatencyRange { min_ms: 4000, max_ms: 4000 })).times(20),
    );
    let ids: Vec<_> = (0..20).map(|n| format!("e-{n}")).collect();
    world.publish(ids.iter().map(|id| escalation(id, id))).await;
    world.publish_raw([crate::support::kafka::Record::new("k", "poison")]).await;
    world.dead_letters(0).await;
    let worker = world.process();
    until(|| world.desk.stats().of(ApiCommand::Transfer).calls == 20).await;
    broker.stop().await;
    until(|| world.desk.stats().transfers_acted == 20).await;
    sleep(Duration::from_secs(1)).await;
    worker.kill().await;
    broker.start_again().await;
    let worker = world.process();
    let answered = by_event(world.outcomes(20).await);
    assert_eq!(answered.len(), 20);
    assert!(answered.values().all(|outcome| outcome["confirmed_by"] == json!("reply")));
    assert_eq!(world.dead_letters(1).await.len(), 1);
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 20, "no call is repeated");
    worker.terminate().await;
    world.assert_all_committed().await;
}
