//! Three workers join and leave by SIGTERM under load, with each group protocol. Crashes are tested
//! in `crash`.

use std::time::Duration;

use handoff::sim::desk::{ApiCommand, LatencyRange, SimulatedDeskSettings};
use serde_json::json;
use tokio::time::sleep;

use super::crash::until;
use crate::support::postgres::schema;
use crate::support::worker::{World, by_event, escalation};

const BATCHES: usize = 40;
const BATCH: usize = 60;

async fn check(name: &str, properties: &[(&str, &str)]) {
    let latency = LatencyRange { min_ms: 5, max_ms: 60 };
    let mut world =
        World::new(name, 6, SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() })
            .await;
    world.set("LEDGER__URL", &schema().await);
    for (key, value) in properties {
        world.set(&format!("KAFKA__CONSUMER_PROPERTIES__{key}"), value);
    }
    let load = async {
        for batch in 0..BATCHES {
            let id = |n: usize| format!("e-{}", batch * BATCH + n);
            world.publish((0..BATCH).map(|n| escalation(&id(n), &format!("s-{}", id(n))))).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let workers = async {
        let step = || sleep(Duration::from_millis(1500));
        let a = world.process();
        step().await;
        let b = world.process();
        step().await;
        let c = world.process();
        step().await;
        a.terminate().await;
        let a = world.process();
        step().await;
        b.terminate().await;
        let b = world.process();
        step().await;
        c.terminate().await;
        step().await;
        (a, b)
    };
    let ((), (a, b)) = tokio::join!(load, workers);
    let answered = by_event(world.outcomes(BATCHES * BATCH).await);
    assert_eq!(answered.len(), BATCHES * BATCH, "nothing is lost");
    world.all_is_committed().await;
    a.terminate().await;
    b.terminate().await;
    world.assert_all_committed().await;
    let stats = world.desk.stats();
    assert_eq!(
        stats.of(ApiCommand::Transfer).calls,
        (BATCHES * BATCH) as u64,
        "nothing is doubled"
    );
    assert_eq!(stats.overlapping_calls, 0);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"));
}

#[tokio::test(flavor = "multi_thread")]
async fn eager() {
    check("eager", &[("PARTITION_ASSIGNMENT_STRATEGY", "range")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_sticky() {
    check("cooperative", &[("PARTITION_ASSIGNMENT_STRATEGY", "cooperative-sticky")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kip_848() {
    check("consumer", &[("GROUP_PROTOCOL", "consumer")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_partitions() {
    let mut world = World::new("static", 2, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "worker-1");
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "20000");
    for round in 0..3 {
        let worker = world.process();
        let ids: Vec<_> = (0..20).map(|n| format!("e-{round}-{n}")).collect();
        world.publish(ids.iter().map(|id| escalation(id, id))).await;
        let answered = by_event(world.outcomes((round + 1) * 20).await);
        assert_eq!(answered.len(), (round + 1) * 20);
        worker.terminate().await;
    }
    world.assert_all_committed().await;
    assert_eq!(world.desk.stats().of(ApiCommand::Transfer).calls, 60);
}

/// A member whose request to join waits for one that was killed commits nothing meanwhile: its requests
/// time out behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_finished_while_the_group_waits_for_a_dead_member_is_committed() {
    let mut world = World::new("dead", 4, SimulatedDeskSettings::default()).await;
    world.set("LEDGER__URL", &schema().await);
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "20000");
    let event = |n: usize| escalation(&format!("e-{n}"), &format!("s-{n}"));
    let (staying, killed) = (world.process(), world.process());
    let both_assigned = || {
        let has_some = |log: String| log.matches("partitions assigned").count() > 1;
        has_some(staying.log()) && killed.log().contains("partitions assigned")
    };
    until(both_assigned).await;
    world.publish((0..100).map(event)).await;
    world.outcomes(100).await;
    killed.kill().await;
    let joining = world.process();
    sleep(Duration::from_secs(3)).await;
    world.publish((100..200).map(event)).await;
    assert_eq!(by_event(world.outcomes(200).await).len(), 200);
    world.all_is_committed().await;
    staying.terminate().await;
    joining.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_that_begins_at_the_end_answers_what_comes_then() {
    let mut world = World::new("latest", 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__AUTO_OFFSET_RESET", "latest");
    world.publish([escalation("before", "s-1")]).await;
    let worker = world.process();
    // The end is committed as soon as it is known.
    world.all_is_committed().await;
    world.publish([escalation("behind", "s-2")]).await;
    assert_eq!(by_event(world.outcomes(1).await).into_keys().collect::<Vec<_>>(), ["behind"]);
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_during_the_drain_is_committed() {
    let slow = LatencyRange { min_ms: 1500, max_ms: 1500 };
    let settings = SimulatedDeskSettings { latency: slow, ..SimulatedDeskSettings::default() };
    let world = World::new("drain-commit", 2, settings).await;
    let worker = world.process();
    world.publish((0..10).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    while world.desk.stats().of(ApiCommand::Transfer).calls < 10 {
        sleep(Duration::from_millis(20)).await;
    }
    worker.terminate().await;
    assert_eq!(by_event(world.outcomes(10).await).len(), 10);
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_resolves_calls_in_doubt_and_releases_the_other_events() {
    let mut world = World::new("drain", 1, SimulatedDeskSettings::default()).await;
    world.set("DESK__TIMEOUT_MS", "1500").set("DESK__CONNECT_TIMEOUT_MS", "500");
    use handoff::sim::desk::InjectedFault;
    world
        .desk
        .schedule(InjectedFault::lost_answer().session("lost").commands(&[ApiCommand::Transfer]));
    world.desk.schedule(
        InjectedFault::error(60_014).session("faulty").commands(&[ApiCommand::Transfer]).times(0),
    );
    let worker = world.process();
    world.publish([escalation("lost", "lost"), escalation("faulty", "faulty")]).await;
    while world.desk.stats().of(ApiCommand::Transfer).calls < 5 {
        sleep(Duration::from_millis(20)).await;
    }
    worker.terminate().await;
    let answered = by_event(world.outcomes(1).await);
    assert_eq!(answered["lost"]["confirmed_by"], "session_state", "{answered:?}");
    assert!(!answered.contains_key("faulty"), "left for the next owner");
    world.desk.reset();
    let worker = world.process();
    let answered = by_event(world.outcomes(2).await);
    assert_eq!(answered["faulty"]["status"], json!("assigned"));
    worker.terminate().await;
    world.assert_all_committed().await;
}
