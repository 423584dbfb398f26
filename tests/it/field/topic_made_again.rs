//! The escalations topic is deleted and created again while the ledger stays, or its offsets do.
//!
//! Once an event without an id got no outcome, because the ledger had the answer of the old record at its
//! position; a malformed record got no dead letter; new events vanished behind parked ones of the old
//! topic; a running worker went on at the old offset; and an offset that was committed beyond the end
//! skipped events when the topic had grown. Within five minutes a malformed record, and an event of the
//! same session, were taken for the event that had been at their position, which had a final outcome or
//! held them back until its deadline. And what was claimed had no final outcome if the group took the
//! partitions of the deleted topic from its member.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use handoff::sim::desk::{ApiCommand, InjectedFault, LatencyRange, SimulatedDeskSettings};
use serde_json::json;
use tokio::time::sleep;

use super::beside::{finals, outcomes, until};
use crate::support::kafka::{
    Broker, Record, commit, create_deleted_topic, delete_topic, read_to_end, recreate_topic,
};
use crate::support::worker::{Process, World, by_event, escalation};

/// The lines of the log that say so, where something of the old topic was committed or read.
const AGAIN: [&str; 3] =
    ["the topic was created again", "committed offsets of an earlier topic", "offsets went back"];

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
async fn an_event_of_the_old_topic_is_no_record_of_the_new_one() {
    let world = world("again-at-once").await;
    let worker = world.process();
    world.desk.schedule(InjectedFault::error(60_014).session("unfinished").times(0));
    let old = ["answered", "again", "unfinished"].map(|id| escalation(id, id));
    world.publish(old).await;
    assert_eq!(world.outcomes(2).await.len(), 2);
    worker.kill().await;

    recreate_topic(&world.bootstrap, &world.topic("in"), 1).await;
    let other = escalation("other", "again").to_string();
    let values = ["not json".to_owned(), other, "not json".to_owned()];
    world.publish_raw(values.map(|value| Record::new("key", value))).await;
    let worker = world.process();
    assert_eq!(world.dead_letters(2).await.len(), 2);
    assert!(by_event(world.outcomes(3).await).contains_key("other"));
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_swallow_no_event_of_the_new_topic_and_are_answered() {
    let mut world = world("again-parked").await;
    world.set("RETRY__QUICK_ATTEMPTS", "1").set("RETRY__PARK_MS", "15000");
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
    let world = World::new("again-running", 3, SimulatedDeskSettings::default()).await;
    runs_on(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_reads_the_new_topic_from_its_start_under_kip_848() {
    let mut world = World::new("again-running-848", 3, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    runs_on(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_is_answered_although_the_topic_is_deleted() {
    let mut world = world("again-claimed").await;
    // Else the client learns of it only after ten seconds.
    world.set("KAFKA__CONSUMER_PROPERTIES__TOPIC_METADATA_REFRESH_INTERVAL_MS", "500");
    answers_what_is_claimed(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_is_answered_although_the_topic_is_deleted_under_kip_848() {
    let mut world = world("again-claimed-848").await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer");
    answers_what_is_claimed(&mut world).await;
}

async fn answers_what_is_claimed(world: &mut World) {
    world.set("RETRY__INITIAL_MS", "8000").set("RETRY__MAX_MS", "8000");
    world.set("DRAIN__TIMEOUT_MS", "2000");
    let worker = started(world).await;
    world.desk.schedule(InjectedFault::error(60_014).session("s").times(0));
    world.publish(["first", "second"].map(|id| escalation(id, "s"))).await;
    let calls = || world.desk.stats().of(ApiCommand::Transfer).calls;
    until("the first one is called", async || calls() > 0).await;

    delete_topic(&world.bootstrap, &world.topic("in")).await;
    until("they are revoked", async || worker.log().contains("partitions revoked")).await;
    create_deleted_topic(&world.bootstrap, &world.topic("in"), 1, &[]).await;
    world.desk.clear_faults();
    world.publish([escalation("new", "new")]).await;
    let answered = world.outcomes(3).await;
    assert!(answered.iter().all(|outcome| outcome["status"] == "assigned"), "{answered:#?}");
    let of_session = answered.iter().filter(|outcome| outcome["session_id"] == "s");
    let order: Vec<_> = of_session.map(|outcome| outcome["event_id"].clone()).collect();
    assert_eq!(order, ["first", "second"], "in the order of their records");
    world.all_is_committed().await;
    worker.terminate().await;
}

/// A leader epoch grows with each restart of its broker, and begins at 0 again in a new topic: the client
/// took its metadata for outdated, and was refused each fetch with the epoch of the old topic. Nothing
/// was read any more, and nothing said so.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_reads_the_new_topic_although_the_broker_was_restarted() {
    restarts("again-restarted", "classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_reads_the_new_topic_although_the_broker_was_restarted_under_kip_848() {
    restarts("again-restarted-848", "consumer").await;
}

async fn restarts(name: &str, protocol: &str) {
    let mut broker = Broker::start().await;
    let mut world = World::on(broker.bootstrap(), name, 1, SimulatedDeskSettings::default()).await;
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", protocol);
    world.set("KAFKA__CONSUMER_PROPERTIES__DEBUG", "topic").set("LOG__LEVEL", "trace");
    let worker = started(&world).await;
    for round in 0..2 {
        broker.kill().await;
        broker.start_again().await;
        let id = format!("old-{round}");
        world.publish([escalation(&id, &id)]).await;
        assert_eq!(world.outcomes(round + 1).await.len(), round + 1);
    }
    // Where one is open when its partition is set to its start, it is asked again, and records are skipped.
    let log = worker.log();
    assert!(log.contains("Seek again-restarted"), "the client's lines are there: {log}");
    assert!(!log.contains("querying for logical offset"), "{log}");
    world.all_is_committed().await;
    recreate_topic(&world.bootstrap, &world.topic("in"), 1).await;
    world.publish(["new-0", "new-1"].map(|id| escalation(id, id))).await;
    assert_eq!(by_event(world.outcomes(4).await).len(), 4, "{}", worker.log());
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
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

    recreate_topic(&world.bootstrap, &world.topic("in"), world.partitions).await;
    world.publish(events("new", 30)).await;
    let count = async || finals(world).await.len();
    until("all of the new topic are answered", async || count().await == 40).await;
    assert_eq!(by_event(world.outcomes(40).await).len(), 40);
    world.all_is_committed().await;
    let log = worker.log();
    for phrase in AGAIN {
        let lines = log.lines().filter(|line| line.contains(phrase)).count();
        assert!(lines <= 1, "one line for all partitions: {log}");
    }
    worker.terminate().await;
    world.assert_all_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_end_skips_nothing_when_the_topic_has_grown() {
    let world = World::new("again-beyond", 2, SimulatedDeskSettings::default()).await;
    commit(&world.bootstrap, &world.name, &world.topic("in"), &[3, 3]).await;
    // Two events for each partition, so that the second ones lie beyond the old offsets.
    let publish = async |ids: [&str; 4]| {
        let records = (0..).zip(ids).map(|(n, id)| {
            let event = escalation(id, id).to_string();
            Record::new(id, event).on(n % 2)
        });
        world.publish_raw(records).await;
    };
    publish(["one", "two", "three", "four"]).await;
    let worker = started(&world).await;
    assert_eq!(by_event(world.outcomes(4).await).len(), 4);
    world.all_is_committed().await;
    let log = worker.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("beyond the end")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("[0, 1]"), "{warnings:?}\n{log}");
    worker.terminate().await;

    publish(["five", "six", "seven", "eight"]).await;
    let worker = started(&world).await;
    assert_eq!(by_event(world.outcomes(8).await).len(), 8, "{}", worker.log());
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
}

/// How often the topic is made again.
const ROUNDS: usize = 6;
/// Records of each round.
const RECORDS: usize = 400;

/// When the topic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Its records are answered.
    Idle,
    /// Its records are being answered: those that were not read are lost with it.
    AtWork,
    /// The same, and the worker is killed when the new topic has its records.
    Killed,
}

/// Each topic has as many records in each partition as the one before: a worker that went on at the
/// old offsets would skip all of them, and see no end.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_of_a_new_topic_is_lost_and_nothing_is_answered_twice() {
    let latency = LatencyRange { min_ms: 5, max_ms: 60 };
    let settings = SimulatedDeskSettings { latency, ..SimulatedDeskSettings::default() };
    let mut world = World::new("again-and-again", 4, settings).await;
    // Until this time is over, a worker that was killed keeps its partitions.
    world.set("KAFKA__CONSUMER_PROPERTIES__SESSION_TIMEOUT_MS", "6000");
    world.set("DRAIN__TIMEOUT_MS", "5500").set("DESK__TIMEOUT_MS", "5000");
    let mut worker = started(&world).await;
    let mut required = BTreeSet::new();
    for round in 0..ROUNDS {
        world.publish_raw((0..RECORDS).map(|n| record_of(round, n))).await;
        let is_last = round + 1 == ROUNDS;
        let gone =
            if is_last { Gone::Idle } else { [Gone::Idle, Gone::AtWork, Gone::Killed][round % 3] };
        let enough = if gone == Gone::Idle { RECORDS } else { RECORDS / 3 };
        let time =
            until("they are answered", async || answers(&world, round).await.len() >= enough).await;
        println!("round {round}, {gone:?}: {enough} answered after {time:?}");
        if gone == Gone::Idle {
            required.extend((0..RECORDS).map(|n| name_of(round, n)));
        }
        if !is_last {
            recreate_topic(&world.bootstrap, &world.topic("in"), 4).await;
        }
        if gone == Gone::Killed {
            worker.kill().await;
            worker = world.process();
        }
    }
    // The id of the last topic is believed after 3 s. Then it is read from its start once more, and what
    // was committed before that counts no more.
    sleep(Duration::from_secs(20)).await;
    world.all_is_committed().await;
    println!("{}", worker.log());
    worker.terminate().await;
    world.assert_all_committed().await;
    let mut answered = BTreeMap::<String, usize>::new();
    for round in 0..ROUNDS {
        for name in answers(&world, round).await {
            *answered.entry(name).or_default() += 1;
        }
    }
    let lost: Vec<_> = required.iter().filter(|name| !answered.contains_key(*name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let twice: Vec<_> = answered.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "answered twice: {twice:?}");
}

fn name_of(round: usize, n: usize) -> String {
    format!("{round}-{n}.")
}

/// An event with an id, one without, or a malformed record.
fn record_of(round: usize, n: usize) -> Record {
    let name = name_of(round, n);
    let value = match n % 4 {
        0 => json!({"session_id": name}).to_string(),
        1 => format!("not json: {name}"),
        _ => escalation(&name, &name).to_string(),
    };
    Record::new(format!("key-{n}"), value)
}

/// The records of a round that have a final outcome or a dead letter, once for each.
async fn answers(world: &World, round: usize) -> Vec<String> {
    let mut names = Vec::new();
    for outcome in outcomes(world).await {
        if outcome["final"] == true {
            names.push(outcome["session_id"].as_str().unwrap().to_owned());
        }
    }
    for sent in read_to_end(&world.bootstrap, &world.topic("dead")).await {
        let text = String::from_utf8(sent.value.unwrap()).unwrap();
        names.push(text.trim_start_matches("not json: ").to_owned());
    }
    names.retain(|name| name.starts_with(&format!("{round}-")));
    names
}

async fn started(world: &World) -> Process {
    let worker = world.process();
    until("the worker has partitions", async || worker.log().contains("partitions assigned")).await;
    worker
}

async fn world(name: &str) -> World {
    World::new(name, 1, SimulatedDeskSettings::default()).await
}
