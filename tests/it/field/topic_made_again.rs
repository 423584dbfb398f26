//! The escalations topic is deleted and created again while the ledger stays, or its offsets do.
//!
//! Once an event without an id got no outcome, because the ledger had the answer of the old record at its
//! position; a malformed record got no dead letter; new events vanished behind parked ones of the old
//! topic; a running worker went on at the old offset; and an offset that was committed beyond the end
//! skipped events when the topic had grown.

use std::process::Command;

use handoff::sim::desk::{InjectedFault, SimulatedDeskSettings};
use serde_json::json;

use super::beside::{finals, until};
use crate::support::kafka::{Record, commit, recreate_topic};
use crate::support::worker::{Process, World, by_event, escalation};

#[tokio::test(flavor = "multi_thread")]
async fn records_without_an_id_are_answered_at_their_old_positions() {
    let world = world("again-no-id").await;
    let records = |session: &str| {
        let event = json!({"session_id": session}).to_string();
        [Record::new(session, event), Record::new(session, "not json")]
    };
    let worker = world.process();
    world.publish_raw(records("old")).await;
    assert_eq!((world.outcomes(1).await.len(), world.dead_letters(1).await.len()), (1, 1));
    world.all_is_committed().await;
    worker.terminate().await;

    recreate_topic(&world.bootstrap, &world.topic("in"), 1).await;
    world.publish_raw(records("new")).await;
    let worker = world.process();
    let outcomes = world.outcomes(2).await;
    let position = format!("{}/0/0", world.topic("in"));
    for (outcome, session) in outcomes.iter().zip(["old", "new"]) {
        assert_eq!(outcome["session_id"], session, "{outcome}");
        assert_eq!(outcome["event_id"], position, "{outcome}");
        assert_eq!(outcome["status"], "assigned", "{outcome}");
    }
    assert_eq!(world.dead_letters(2).await.len(), 2);
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;

    let mut show = Command::new(env!("CARGO_BIN_EXE_handoff"));
    show.args(["events", "show", &position]).env_clear().envs(world.env());
    let shown = String::from_utf8(show.output().unwrap().stdout).unwrap();
    assert!(shown.contains("1 older at this position"), "{shown}");
    let session = shown.lines().find(|line| line.contains("session")).unwrap();
    assert!(session.contains("new"), "the newest is shown: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_swallow_no_event_of_the_new_topic_and_are_answered() {
    let mut world = world("again-parked").await;
    world.set("RETRY__QUICK_ATTEMPTS", "1").set("RETRY__PARK_MS", "4000");
    let worker = world.process();
    let events = |which: &str| {
        let ids = (0..3).map(|n| format!("{which}-{n}")).collect::<Vec<_>>();
        ids.into_iter().map(|id| escalation(&id, &id)).collect::<Vec<_>>()
    };
    for n in 0..3 {
        world.desk.schedule(InjectedFault::error(60_014).session(format!("old-{n}")));
    }
    world.publish(events("old")).await;
    world.all_is_committed().await;
    assert!(finals(&world).await.is_empty(), "they are parked");
    worker.terminate().await;

    recreate_topic(&world.bootstrap, &world.topic("in"), 1).await;
    world.publish(events("new")).await;
    let worker = world.process();
    let answered = by_event(world.outcomes(6).await);
    assert!(answered.values().all(|outcome| outcome["status"] == "assigned"), "{answered:#?}");
    assert_eq!(answered.keys().filter(|id| id.starts_with("new")).count(), 3);
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_reads_the_new_topic_from_its_start() {
    let world = world("again-running").await;
    runs_on(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_reads_the_new_topic_from_its_start_under_kip_848() {
    let mut world = world("again-running-848").await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    runs_on(&world).await;
}

async fn runs_on(world: &World) {
    let worker = world.process();
    let events = |which: &str, count: usize| {
        let ids = (0..count).map(|n| format!("{which}-{n}")).collect::<Vec<_>>();
        ids.into_iter().map(|id| escalation(&id, &id)).collect::<Vec<_>>()
    };
    world.publish(events("old", 10)).await;
    assert_eq!(by_event(world.outcomes(10).await).len(), 10);
    world.all_is_committed().await;

    recreate_topic(&world.bootstrap, &world.topic("in"), 1).await;
    world.publish(events("new", 30)).await;
    let count = async || finals(world).await.len();
    until("all of the new topic are answered", async || count().await == 40).await;
    assert_eq!(by_event(world.outcomes(40).await).len(), 40);
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_end_skips_nothing_when_the_topic_has_grown() {
    let world = world("again-beyond").await;
    commit(&world.bootstrap, &world.name, &world.topic("in"), &[3]).await;
    world.publish([escalation("one", "one"), escalation("two", "two")]).await;
    let worker = started(&world).await;
    assert_eq!(by_event(world.outcomes(2).await).len(), 2);
    world.all_is_committed().await;
    let log = worker.log();
    let warnings = log.lines().filter(|line| line.contains("beyond the end")).count();
    assert_eq!(warnings, 1, "{log}");
    worker.terminate().await;

    world.publish([escalation("three", "three"), escalation("four", "four")]).await;
    let worker = started(&world).await;
    assert_eq!(by_event(world.outcomes(4).await).len(), 4, "{}", worker.log());
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

async fn started(world: &World) -> Process {
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    worker
}

async fn world(name: &str) -> World {
    World::new(name, 1, SimulatedDeskSettings::default()).await
}
