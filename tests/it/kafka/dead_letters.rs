//! `handoff dead-letters` on a real Kafka: each dead letter goes back once, also when the command is
//! killed, run twice or run by two people; and an escalation without an id stays the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;

use crate::support::kafka::{Received, Record, produce, read_to_end};
use crate::support::programs::split_log;
use crate::support::worker::{TIME_LIMIT, World, by_event};

struct CommandResult {
    code: Option<i32>,
    out: String,
    err: String,
}

impl CommandResult {
    /// The lines of standard error, with single blanks.
    fn plan(&self) -> Vec<String> {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.err.lines().map(line).collect()
    }

    #[track_caller]
    fn expect(&self, code: i32, line: &str) {
        let is_there = self.plan().iter().any(|own| own.contains(line));
        assert!(is_there && self.code == Some(code), "{:?}\n{}{}", self.code, self.out, self.err);
    }
}

fn command(world: &World, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    command.arg("dead-letters").args(words).env_clear().envs(world.env()).kill_on_drop(true);
    command
}

async fn run(world: &World, words: &[&str]) -> CommandResult {
    let output = tokio::time::timeout(TIME_LIMIT, command(world, words).output()).await;
    let output = output.expect("it ends").unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    CommandResult { code: output.status.code(), out, err: split_log(output.stderr).0 }
}

async fn records(world: &World, topic: &str) -> Vec<Received> {
    read_to_end(&world.bootstrap, &world.topic(topic)).await
}

/// A session's escalation that is larger than a kilobyte.
fn large(session: &str) -> Value {
    json!({"session_id": session, "context": "x".repeat(2_000)})
}

async fn the_dead_letters_are_shown(world: &World) {
    let table = run(world, &["ls"]).await;
    table.expect(0, "too_large 2 to replay 0 replayed before 0 refused");
    assert!(table.out.contains("not_json"), "{}", table.out);
    let only = run(world, &["ls", "--class", "not_json", "--json"]).await;
    let listed: Value = serde_json::from_str(&only.out).unwrap();
    let position = &listed["dead_letter"];
    let position = format!(
        "{}/{}/{}",
        position["topic"].as_str().unwrap(),
        position["partition"],
        position["offset"]
    );
    let shown = run(world, &["show", &position]).await;
    assert!(shown.out.contains("poison") && shown.out.contains("handoff-error"), "{}", shown.out);
    assert_eq!(run(world, &["show", &position, "--value"]).await.out, "poison");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_record_is_the_same_event_and_is_answered_once() {
    let mut world = World::new("replay", 2, SimulatedDeskSettings::default()).await;
    world.set("ESCALATION__MAX_BYTES", "1024").set("ESCALATION__TIME_TO_LIVE_S", "3600");
    let mut with_id = large("s-id");
    with_id["id"] = json!("e-1");
    let header = |record: Record| record.header("own", "kept");
    let unnamed = header(Record::new("s-unnamed", large("s-unnamed").to_string()).on(1));
    let places = world.publish_raw([unnamed]).await;
    world.publish_raw([Record::new("s-id", with_id.to_string()).on(0)]).await;
    world.publish_raw([Record::new("k", "poison").on(0)]).await;
    let worker = world.worker();
    world.dead_letters(3).await;
    worker.stop().await;

    the_dead_letters_are_shown(&world).await;
    // A dry run changes nothing; the publishers' limit was corrected meanwhile.
    let before = records(&world, "in").await.len();
    run(&world, &["replay", "--dry-run"]).await.expect(0, "total 3 to replay");
    assert_eq!(records(&world, "in").await.len(), before);
    world.set("ESCALATION__MAX_BYTES", "100000");
    run(&world, &["replay"]).await.expect(0, "3 of 3 replayed");
    run(&world, &["replay"]).await.expect(0, "total 0 to replay 3 replayed before 0 refused");
    let replayed: Vec<_> =
        records(&world, "in").await.into_iter().filter(|r| r.has("handoff-replay-of")).collect();
    assert_eq!(replayed.len(), 3);
    let unnamed = replayed.iter().find(|r| r.key.as_deref() == Some(b"s-unnamed")).unwrap();
    assert_eq!((unnamed.partition, unnamed.text("own")), (1, "kept"), "as the record was");
    assert_eq!(unnamed.text("handoff-replay-count"), "1");
    assert!(!unnamed.has("handoff-error"), "{unnamed:?}");

    let worker = world.worker();
    let outcomes = by_event(world.outcomes(2).await);
    let (partition, offset) = places[0];
    let first = format!("{}/{partition}/{offset}", world.topic("in"));
    assert_eq!(outcomes[&first]["session_id"], "s-unnamed", "known by its first record");
    assert_eq!(outcomes["e-1"]["status"], "assigned");
    // The poison came back, as a dead letter that was replayed once; four with its marker and the others'.
    world.dead_letters(3 + 3 + 1).await;

    // Somebody publishes the same record again, with all of its headers: it is a duplicate.
    let again = Record {
        key: unnamed.key.clone(),
        value: unnamed.value.clone(),
        headers: unnamed.headers.clone(),
        partition: Some(1),
        ..Record::default()
    };
    world.publish_raw([again]).await;
    // Behind it in its partition.
    let last = json!({"id": "last", "session_id": "s-last"});
    world.publish_raw([Record::new("s-last", last.to_string()).on(1)]).await;
    assert_eq!(world.outcomes(3).await.len(), 3);
    worker.stop().await;
    let mut audit = Command::new(env!("CARGO_BIN_EXE_handoff"));
    let audit = audit.arg("audit").env_clear().envs(world.env()).output().await.unwrap();
    let report = String::from_utf8_lossy(&audit.stdout);
    assert_eq!(audit.status.code(), Some(0), "{report}");

    let refused = run(&world, &["replay", "--max-replays", "1"]).await;
    refused.expect(1, "total 0 to replay 3 replayed before 1 refused");
    refused.expect(1, "refused: 1 replayed 1 times already");
    run(&world, &["replay", "--since", "1h", "--class", "not_json"])
        .await
        .expect(0, "1 of 1 replayed");
    assert_eq!(run(&world, &["ls", "--partition", "7"]).await.code, Some(2));
    assert_eq!(run(&world, &["show", "elsewhere/0/1"]).await.code, Some(2));
    assert_eq!(
        run(&world, &["show", &format!("{}/0/99", world.topic("dead"))]).await.code,
        Some(1)
    );
}

/// The dead letters of records that nobody can read.
async fn fill(world: &World, count: usize) {
    let (topic, dead) = (world.topic("in"), world.topic("dead"));
    let dead_letter = |number: usize| {
        let partition = (number % 2) as i32;
        Record::new(format!("k-{number}"), format!("poison {number}"))
            .on(partition)
            .header("handoff-error-class", "not_json")
            .header("handoff-error", "not JSON")
            .header("handoff-source-topic", topic.as_str())
            .header("handoff-source-partition", partition.to_string())
            .header("handoff-source-offset", number.to_string())
            .header("handoff-first-seen", "2026-11-23T10:00:00Z")
    };
    produce(&world.bootstrap, &dead, (0..count).map(dead_letter)).await;
}

/// How often each dead letter was replayed.
async fn replays(world: &World) -> BTreeMap<String, usize> {
    let mut replays = BTreeMap::new();
    for record in records(world, "in").await {
        *replays.entry(record.text("handoff-replay-of").to_owned()).or_default() += 1;
    }
    replays
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_goes_on_where_it_was() {
    const RECORDS: usize = 600;
    let world = World::new("killed-replay", 2, SimulatedDeskSettings::default()).await;
    fill(&world, RECORDS).await;
    let mut kills_midway = 0;
    for pause_ms in [900, 1_300, 1_700, 2_100] {
        let mut replay = command(&world, &["replay", "--rate", "150"]).spawn().unwrap();
        sleep(Duration::from_millis(pause_ms)).await;
        // It may have ended already.
        drop(replay.start_kill());
        replay.wait().await.unwrap();
        let replays = replays(&world).await;
        assert!(replays.values().all(|count| *count == 1), "{replays:?}");
        kills_midway += usize::from(!replays.is_empty() && replays.len() < RECORDS);
    }
    println!("{kills_midway} of 4 kills came midway");
    run(&world, &["replay", "--rate", "10000"]).await.expect(0, "replayed to");
    let replays = replays(&world).await;
    assert_eq!((replays.len(), replays.values().max()), (RECORDS, Some(&1)));
    run(&world, &["replay"]).await.expect(0, "total 0 to replay 600 replayed before");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replays_at_once_the_later_goes_on() {
    const RECORDS: usize = 300;
    let world = World::new("two-replays", 2, SimulatedDeskSettings::default()).await;
    fill(&world, RECORDS).await;
    let (slow, fast) = tokio::join!(run(&world, &["replay", "--rate", "60"]), async {
        sleep(Duration::from_millis(2_500)).await;
        run(&world, &["replay", "--rate", "10000"]).await
    });
    fast.expect(0, "replayed to");
    slow.expect(69, "another replay of these dead letters has begun");
    let replays = replays(&world).await;
    assert_eq!((replays.len(), replays.values().max()), (RECORDS, Some(&1)));
}
