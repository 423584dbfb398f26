//! `handoff audit` and `handoff events show` during and after runs of the real service. The tests
//! put faults into the topics; the commands run as a user runs them.

use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::support::kafka::{Record, produce, read_to_end};
use crate::support::programs::split_log;
use crate::support::worker::{TIME_LIMIT, World, escalation};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }

    /// Returns the counts of findings by kind, without zeros.
    fn findings(&self) -> Value {
        let mut found = self.json()["findings"].take();
        let kinds = found.as_object_mut().unwrap();
        kinds.retain(|_, findings| findings["count"] != 0);
        let counts = kinds.iter().map(|(kind, findings)| (kind.clone(), findings["count"].clone()));
        Value::Object(counts.collect())
    }
}

async fn run(world: &World, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    command.args(words).env_clear().envs(world.env()).kill_on_drop(true);
    let output = timeout(TIME_LIMIT, command.output()).await.unwrap().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    Ran { code: output.status.code(), out, err: split_log(output.stderr).0 }
}

/// A run without faults: duplicates, malformed and foreign records, a conflicting id.
async fn run_without_faults(name: &str) -> World {
    let world = World::new(name, 2, SimulatedDeskSettings::default()).await;
    world.publish((0..20).map(|n| escalation(&format!("e-{n}"), &format!("s-{n}")))).await;
    world.publish([escalation("e-0", "s-0"), json!({"session_id": "s-without-id"})]).await;
    world.publish_raw([Record::new("k", "poison"), Record::new("k", r#"{"type":"chat"}"#)]).await;
    let check = Record::new("k", "{}").header("handoff-type", "check");
    world.publish_raw([check.clone()]).await;
    produce(&world.bootstrap, &world.topic("out"), [check.clone()]).await;
    produce(&world.bootstrap, &world.topic("dead"), [check]).await;
    let worker = world.worker();
    world.dead_letters(2).await;
    let topic = world.topic("out");
    crate::support::kafka::read_all(&world.bootstrap, &topic, 22, TIME_LIMIT).await;
    // The ledger knows every id by now; use one of them with another session.
    world.publish([escalation("e-1", "s-other")]).await;
    world.dead_letters(3).await;
    worker.stop().await;
    world
}

/// Returns the value of this event's outcome, and its record.
async fn outcome(world: &World, id: &str) -> (Value, Record) {
    let records = read_to_end(&world.bootstrap, &world.topic("out")).await;
    let of_it = |record: &&crate::support::kafka::Received| {
        let value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        value["event_id"] == id
    };
    let found = records.iter().find(of_it).expect("it has an outcome");
    let value = serde_json::from_slice(found.value.as_ref().unwrap()).unwrap();
    let (key, headers) = (found.key.clone(), found.headers.clone());
    let record = Record { key, value: found.value.clone(), headers, ..Record::default() };
    (value, record)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_faults_has_no_findings_and_injected_faults_are_found() {
    let world = run_without_faults("audit").await;
    let ran = run(&world, &["audit"]).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("no findings"), "{}", ran.out);
    let ran = run(&world, &["audit", "--json", "--ledger"]).await;
    let report = ran.json();
    assert_eq!((ran.code, &report["clean"]), (Some(0), &json!(true)), "{report}");
    let counts = ["records", "escalations", "answered", "duplicates", "dead_letters", "not_for_us"];
    let counts = counts.map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [26, 21, 21, 1, 2, 2], "{report}");
    assert_eq!(report["ledger"]["read"], true);

    let out = world.topic("out");
    let (mut doubled, repeated) = outcome(&world, "e-3").await;
    let (mut contradictory, known) = outcome(&world, "e-4").await;
    let outcomes = read_to_end(&world.bootstrap, &out).await;
    let published = |record: &Record| {
        outcomes.iter().find(|outcome| outcome.value == record.value).expect("it is there")
    };
    // Only within a partition it is known which one came first.
    let (of_3, of_4) = (published(&repeated).partition, published(&known).partition);
    let known = format!("published at {out}/{of_4}/{}", published(&known).offset);
    let (mut orphan, _) = outcome(&world, "e-5").await;
    doubled["decided_at"] = json!("2026-01-01T00:00:00Z");
    contradictory["agent_id"] = json!("somebody-else@x");
    orphan["event_id"] = json!("never-asked");
    let wrong = [(doubled, of_3), (contradictory, of_4), (orphan, 0)];
    let wrong = wrong.map(|(value, on)| Record::new("k", value.to_string()).on(on));
    produce(&world.bootstrap, &out, [repeated.on(of_3)].into_iter().chain(wrong)).await;
    produce(&world.bootstrap, &out, [Record::new("k", "garbage")]).await;
    let dead_letters = read_to_end(&world.bootstrap, &world.topic("dead")).await;
    let poison =
        dead_letters.iter().find(|record| record.value.as_deref() == Some(b"poison")).unwrap();
    let (value, headers) = (poison.value.clone(), poison.headers.clone());
    let again = Record { value, headers, ..Record::default() };
    produce(&world.bootstrap, &world.topic("dead"), [again]).await;

    let ran = run(&world, &["audit", "--json", "--no-ledger"]).await;
    let expected = json!({"contradictory": 1, "doubled": 1, "dead_letter_doubled": 1, "orphan": 1,
        "repeated": 1, "unreadable": 1});
    assert_eq!((ran.code, ran.findings()), (Some(1), expected), "{}", ran.out);
    let contradictory = &ran.json()["findings"]["contradictory"]["first"][0];
    assert_eq!(contradictory["event_id"], "e-4");
    assert_eq!(contradictory["source"]["topic"], json!(world.topic("in")));
    assert_eq!(contradictory["seen_at"]["topic"], json!(out));
    let ran = run(&world, &["audit"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("findings: 1 contradictory, 1 doubled, 1 repeated"), "{}", ran.err);
    let line =
        ran.out.lines().find(|line| line.starts_with("contradictory  ") && line.contains("e-4"));
    // The row is the second one, which was forged; the ledger knows the first.
    let expected = format!("{known}, which is not this one");
    assert!(line.is_some_and(|line| line.contains(&expected)), "{expected}: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_outcomes_are_open_until_they_are_due_then_missing() {
    let mut world = run_without_faults("lost").await;
    // The same escalations with empty outcome and dead-letter topics.
    let empty = World::new("lost-out", 2, SimulatedDeskSettings::default()).await;
    for (key, topic) in [("OUTCOMES", "out"), ("DEAD_LETTERS", "dead")] {
        world.set(&format!("KAFKA__{key}_TOPIC"), &empty.topic(topic));
    }
    let ran = run(&world, &["audit", "--json"]).await;
    assert_eq!((ran.code, ran.findings()), (Some(0), json!({})), "{}", ran.out);
    let open = ran.json()["open"].take();
    // Either of the two records with the conflicting id may still get the outcome: both count.
    assert_eq!(open["count"], 23, "{open}");
    assert!(open["first"][0]["ledger"].as_str().unwrap().starts_with("published at"), "{open}");

    world.set("ESCALATION__TIME_TO_LIVE_S", "1").set("ESCALATION__DOUBT_GRACE_S", "0");
    sleep(Duration::from_secs(2)).await;
    let ran = run(&world, &["audit", "--json", "--slack", "0s", "--show", "30"]).await;
    let expected = json!({"dead_letter_missing": 2, "missing": 21});
    assert_eq!((ran.code, ran.findings()), (Some(1), expected), "{}", ran.out);
    let missing = ran.json()["findings"]["missing"].take();
    let ids = missing["first"].as_array().unwrap().iter();
    let ids: Vec<_> = ids.map(|case| case["event_id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.contains(&"e-7".to_owned()), "{ids:?}");
    let ran = run(&world, &["audit", "--slack", "0s", "--show", "1"]).await;
    assert!(ran.err.ends_with("findings: 21 missing, 2 dead_letter_missing\n"), "{}", ran.err);
    assert!(ran.out.contains("published at"), "the ledger says where it is: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_by_offsets_or_by_time() {
    let world = run_without_faults("range").await;
    let ran = run(&world, &["audit", "--json", "--from", "0:1", "--to", "0:3"]).await;
    assert_eq!((ran.code, &ran.json()["records"]), (Some(0), &json!(3)), "{}", ran.out);
    let range = json!([{"partition": 0, "from": 1, "before": 4}]);
    assert_eq!(ran.json()["range"], range);
    let ran = run(&world, &["audit", "--json", "--since", "1h"]).await;
    assert_eq!((ran.code, &ran.json()["records"]), (Some(0), &json!(26)), "{}", ran.out);
    let ran = run(&world, &["audit", "--json", "--until", "1h"]).await;
    assert_eq!((ran.code, &ran.json()["records"]), (Some(0), &json!(0)), "{}", ran.out);
    assert_eq!(run(&world, &["audit", "--from", "9:1"]).await.code, Some(2));
    // The audit works without a ledger, unless --ledger requires it.
    let mut other = world;
    other.set("LEDGER__URL", "sqlite:///no/such/folder/ledger.db");
    let ran = run(&other, &["audit"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.starts_with("without the ledger: "), "{}", ran.err);
    assert_eq!(run(&other, &["audit", "--ledger"]).await.code, Some(69));
    let ran = run(&other, &["events", "show", "e-1"]).await;
    assert_eq!(ran.code, Some(69));
    assert!(ran.err.contains("is not there (yet)"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_show_prints_the_history_of_an_escalation_during_and_after_a_run() {
    let mut world = World::new("history", 1, SimulatedDeskSettings::default()).await;
    world.set("RETRY__INITIAL_MS", "10").set("RETRY__MAX_MS", "20").set("RETRY__PARK_MS", "20000");
    world.desk.schedule(
        InjectedFault::error(60_014).commands(&[ApiCommand::Transfer]).session("s").times(4),
    );
    world.publish([escalation("e", "s")]).await;
    world.publish_raw([Record::new("k", "poison")]).await;
    let worker = world.worker();
    world.dead_letters(1).await;
    let begun = Instant::now();
    let ran = loop {
        let ran = run(&world, &["events", "show", "e"]).await;
        if ran.out.contains("parked until") {
            break ran;
        }
        assert!(begun.elapsed() < TIME_LIMIT, "it is not parked: {}{}", ran.out, ran.err);
        sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for part in ["attempts    4", "60014", "claimed", "s\n"] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let ran = run(&world, &["audit", "--json"]).await;
    assert_eq!(ran.json()["ledger"]["unfinished"], json!({"parked": 1}), "{}", ran.out);
    world.outcomes(1).await;
    worker.stop().await;
    let ran = run(&world, &["events", "show", "e", "--json"]).await;
    let shown = ran.json();
    assert_eq!((&shown["state"], &shown["key"]), (&json!("published"), &json!("id:e")), "{shown}");
    assert_eq!(shown["outcome"]["status"], "assigned");
    assert_eq!(shown["outcome"]["attempts"], 5);
    let what: Vec<_> =
        shown["history"].as_array().unwrap().iter().map(|s| s["what"].clone()).collect();
    assert_eq!(what, ["claimed", "parked", "claimed", "settled", "published"]);
    let ran = run(&world, &["events", "show", "e"]).await;
    assert!(ran.out.contains("outcome     assigned to "), "{}", ran.out);
    assert!(ran.out.contains(&format!("published at {}/0/0", world.topic("out"))), "{}", ran.out);
    let ran = run(&world, &["events", "show", &format!("{}/0/1", world.topic("in"))]).await;
    assert!(ran.out.contains("dead letter not_json"), "{}", ran.out);
    let ran = run(&world, &["events", "show", "nobody"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("has no entry for \"nobody\""), "{}", ran.err);
}
