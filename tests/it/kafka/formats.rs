//! Records of other systems: a topic with all formats and poison in between, answered in each form of
//! outcomes; an event whose mapping is removed; and repetitions of an escalation without an id.

use std::collections::{BTreeMap, BTreeSet};

use handoff::domain::wire::outcome::{OutcomeRecord, Status};
use handoff::sim::desk::{ApiCommand, InjectedFault, SimulatedDeskSettings, StaffChange};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{Duration, Instant, sleep};

use crate::support::kafka::{Received, Record, read_all, read_to_end};
use crate::support::worker::{TIME_LIMIT, World, by_event, escalation};

pub(super) const INPUT: &str = r#"
[input]
dialects = ["rasa", "bot_framework", "dialogflow", "native"]

[[mappings]]
name = "dialogflow"
match = { "/queryResult/responseMessages/*/liveAgentHandoff" = { exists = true } }
session_id = { pointer = "/session", last_segment = true }
id = "/responseId"
"#;

/// Events wait in the ledger while nobody is online.
const PATIENT: &str = "\n[[routes]]\nname = \"all\"\ntargets = [{ default = true }]\n\
                       while_nobody_online = \"keep_trying\"\nretry_ms = [500]\n";

pub(super) fn value(value: Value) -> Record {
    Record::new("k", value.to_string())
}

fn cloudevent(id: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "type": "com.example.handoff.requested",
        "source": "/bots/web", "correlationid": "order-7", "data": data,
    })
}

fn activity(id: &str, session: &str) -> Value {
    json!({
        "type": "event", "name": "handoff.initiate", "id": id, "channelId": "directline",
        "conversation": {"id": session, "isGroup": false}, "value": {"va_AgentMessage": "refund"},
    })
}

/// One record of each format, by the identity that its outcome has; `record`: that of the position.
pub(super) fn escalations() -> Vec<(&'static str, Record)> {
    let inside = |session: &str| json!({"session_id": session});
    let rasa = |event: Value| {
        let mut event = event;
        event["sender_id"] = "rasa-1".into();
        event["name"] = "action_human_handoff".into();
        event
    };
    let dialogflow = json!({
        "responseId": "dialogflow-1", "session": "projects/p/agents/a/sessions/s-dialogflow",
        "queryResult": {"responseMessages": [{"text": {}}, {"liveAgentHandoff": {}}]},
    });
    let mantle = json!({
        "conversation_id": "mantle-1", "event_id": "0b6f", "sequence": 7, "session_id": null,
        "action": {"name": "action_human_handoff"},
    });
    let binary = value(json!({"session_id": "s-binary"}))
        .header("ce_specversion", "1.0")
        .header("ce_id", "2")
        .header("ce_type", "com.example.handoff.requested")
        .header("ce_source", "/bots/web")
        .header("content-type", "application/json");
    let structured = value(cloudevent("1", inside("s-structured")))
        .header("content-type", "application/cloudevents+json; charset=UTF-8");
    let connect = json!({"schema": {"type": "string"}, "payload": inside("s-connect").to_string()});
    let framed = [&b"\0\0\0\0\x07"[..], inside("s-framed").to_string().as_bytes()].concat();
    vec![
        ("native-1", value(escalation("native-1", "s-native"))),
        ("outbox-1", value(connect).header("id", "outbox-1")),
        ("framed-1", Record::new("k", framed).header("id", "framed-1")),
        ("/bots/web 1", structured),
        ("/bots/web 2", binary),
        ("record", value(rasa(json!({"event": "action", "timestamp": null})))),
        ("0b6f", value(mantle)),
        ("s-activity a-1", value(activity("a-1", "s-activity"))),
        ("s-set a-2", value(json!({"activities": [activity("a-2", "s-set")], "watermark": "5"}))),
        ("dialogflow-1", value(dialogflow)),
    ]
}

/// What is not for us, and what is malformed, by its class.
fn others() -> Vec<(Option<&'static str>, Record)> {
    let avro = Record::new("k", &b"\0\0\0\0\x07\x06s-1"[..]);
    let batch = value(json!([])).header("content-type", "application/cloudevents-batch+json");
    vec![
        (None, value(json!({"sender_id": "rasa-1", "event": "user", "text": "hi"}))),
        (Some("not_json"), Record::new("k", "oops")),
        (None, value(json!({"type": "message", "conversation": {"id": "c"}}))),
        (Some("not_json"), avro),
        (Some("bad_cloud_event"), value(cloudevent("", json!({"session_id": "s"})))),
        (None, value(json!({"op": "d", "before": {}, "after": null}))),
        (Some("batch_not_supported"), batch),
        (Some("null_value"), Record { key: Some(b"k".to_vec()), ..Record::default() }),
        (Some("bad_session_id"), value(json!({"customer": "c-1"}))),
    ]
}

/// Publishes all formats with poison in between, and returns each outcome by its event.
async fn answered(name: &str, format: &str) -> (World, BTreeMap<String, Received>) {
    let mut world = World::new(name, 2, SimulatedDeskSettings::default()).await;
    world.configure(INPUT);
    world.set("OUTPUT__FORMAT", format);
    let (escalations, others) = (escalations(), others());
    let count = escalations.len();
    let mut records = Vec::new();
    for (number, (_, record)) in escalations.iter().enumerate() {
        records.extend(others.get(number).map(|(_, other)| other.clone().on(number as i32 % 2)));
        records.push(record.clone().on(number as i32 % 2));
    }
    let places = world.publish_raw(records.clone()).await;
    let worker = world.worker();
    read_all(&world.bootstrap, &world.topic("out"), count, TIME_LIMIT).await;
    let classes = others.iter().filter_map(|(class, _)| *class);
    let dead_letters = world.dead_letters(classes.clone().count()).await;
    worker.stop().await;
    world.assert_all_committed().await;
    let mut found: Vec<_> = dead_letters.iter().map(|d| d.text("handoff-error-class")).collect();
    let mut expected: Vec<_> = classes.collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "one dead letter for each");

    let outcomes = read_to_end(&world.bootstrap, &world.topic("out")).await;
    assert_eq!(outcomes.len(), count, "one outcome for each");
    let by_event: BTreeMap<_, _> = outcomes
        .into_iter()
        .map(|outcome| (outcome.text("handoff-event-id").to_owned(), outcome))
        .collect();
    let position = |record: &Record| {
        let index = records.iter().position(|r| r.value == record.value).expect("it was sent");
        format!("{}/{}/{}", world.topic("in"), places[index].0, places[index].1)
    };
    for (id, record) in &escalations {
        let id = if *id == "record" { position(record) } else { (*id).to_owned() };
        let outcome = by_event.get(&id).unwrap_or_else(|| panic!("{id} in {:?}", by_event.keys()));
        let read = OutcomeRecord::parse(outcome.value.as_deref().unwrap()).expect("an outcome");
        assert_eq!(read.known_status(), Some(Status::Assigned), "{id}");
        assert_eq!(read.event_id.as_deref(), Some(&*id));
    }
    let transfers = world.desk.stats().of(ApiCommand::Transfer).calls;
    assert_eq!(transfers, count as u64, "one transfer for each");
    (world, by_event)
}

fn json_of(outcome: &Received) -> Value {
    serde_json::from_slice(outcome.value.as_deref().unwrap()).unwrap()
}

pub(super) async fn audit(world: &World) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    let output = command.arg("audit").env_clear().envs(world.env()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_mixed_formats_is_answered_and_its_poison_delays_nobody() {
    let (world, outcomes) = answered("formats", "native").await;
    let ids: BTreeSet<_> = outcomes.keys().map(String::as_str).collect();
    assert!(ids.contains("/bots/web 1"), "{ids:?}");
    assert_eq!(json_of(&outcomes["native-1"])["session_id"], "s-native");
    audit(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_cloudevents_that_name_the_event_that_asked() {
    let (world, outcomes) = answered("formats-ce", "cloudevents").await;
    let outcome = &outcomes["/bots/web 1"];
    assert_eq!(outcome.text("content-type"), "application/cloudevents+json; charset=UTF-8");
    let event = json_of(outcome);
    for (name, expected) in [
        ("specversion", "1.0"),
        ("id", "/bots/web 1/final"),
        ("type", "com.example.handoff.outcome.v1"),
        ("source", &format!("/handoff/{}", world.name)),
        ("subject", "s-structured"),
        ("causationid", "1"),
        ("correlationid", "order-7"),
    ] {
        assert_eq!(event[name], expected, "{event}");
    }
    assert_eq!(event["data"]["status"], "assigned");
    assert_eq!(json_of(&outcomes["native-1"])["causationid"], "native-1");
    audit(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_the_status_of_their_conversation() {
    let (world, outcomes) = answered("formats-status", "handoff_status").await;
    let activity = json_of(&outcomes["s-activity a-1"]);
    assert_eq!(activity["name"], "handoff.status");
    assert_eq!(activity["value"], json!({"state": "accepted"}));
    assert_eq!(activity["conversation"], json!({"id": "s-activity", "isGroup": false}));
    assert_eq!(json_of(&outcomes["native-1"])["conversation"], json!({"id": "s-native"}));
    audit(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_event_whose_mapping_is_gone_waits_until_it_is_back_and_blocks_no_other() {
    let world = World::new("formats-gone", 1, SimulatedDeskSettings::default()).await;
    world.configure(&format!("{INPUT}{PATIENT}"));
    world.desk.change_staff(&StaffChange::everyone(false));
    let (id, record) = escalations().pop().expect("that of the mapping");
    // Both wait in one room, and its oldest event is the one that probes.
    world.publish_raw([record, value(escalation("beside", "s-beside"))]).await;
    let worker = world.process();
    assert!(world.outcomes(2).await.iter().all(|outcome| outcome["final"] == false));
    worker.terminate().await;

    world.configure(PATIENT);
    world.desk.change_staff(&StaffChange::everyone(true));
    let worker = world.process();
    let said = async || worker.log().contains("is not read by the present dialects");
    until("the log says so", said).await;
    let outcomes = world.outcomes(3).await;
    assert_eq!(
        (&outcomes[2]["event_id"], &outcomes[2]["status"]),
        (&json!("beside"), &json!("assigned"))
    );
    worker.terminate().await;
    assert_eq!(world.outcomes(3).await.len(), 3, "the other is neither answered nor lost");

    world.configure(&format!("{INPUT}{PATIENT}"));
    let worker = world.process();
    let outcomes = world.outcomes(4).await;
    assert_eq!(
        (&outcomes[3]["event_id"], &outcomes[3]["status"]),
        (&json!(id), &json!("assigned"))
    );
    worker.terminate().await;
    assert_eq!(world.dead_letters(0).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_event_keeps_its_identity_when_the_rules_of_identities_change() {
    let mut world = World::new("formats-identity", 1, SimulatedDeskSettings::default()).await;
    world.configure(PATIENT);
    world.desk.change_staff(&StaffChange::everyone(false));
    let record = value(json!({"session_id": "s"})).header("x-id", "other");
    let places = world.publish_raw([record]).await;
    let worker = world.process();
    world.outcomes(1).await;
    worker.terminate().await;

    world.set("INPUT__ID_HEADER", "x-id");
    world.desk.change_staff(&StaffChange::everyone(true));
    let worker = world.process();
    let outcomes = world.outcomes(2).await;
    let id = format!("{}/0/{}", world.topic("in"), places[0].1);
    assert_eq!(outcomes[1]["event_id"], id);
    assert_eq!(outcomes[1]["status"], "assigned");
    worker.terminate().await;
    // The audit reads the topics alone, by the rules of the moment.
    world.set("INPUT__ID_HEADER", "id");
    audit(&world).await;
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < TIME_LIMIT, "not after {TIME_LIMIT:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_event_whose_mapping_is_gone_is_not_skipped() {
    let mut world = World::new("formats-skip", 1, SimulatedDeskSettings::default()).await;
    world.configure(INPUT);
    world.set("KAFKA__CONSUMER_PROPERTIES__GROUP_INSTANCE_ID", "one");
    world.set("DESK__TIMEOUT_MS", "20000").set("DESK__SETTLE_MS", "500");
    world.desk.schedule(InjectedFault::hang().commands(&[ApiCommand::Transfer]));
    let (id, record) = escalations().pop().expect("that of the mapping");
    world.publish_raw([record]).await;
    let worker = world.process();
    until("it is called", async || world.desk.stats().of(ApiCommand::Transfer).calls == 1).await;
    worker.kill().await;

    world.configure("");
    let worker = world.process();
    let said = async || worker.log().contains("is not read by the present dialects");
    until("the log says so", said).await;
    assert_eq!(world.dead_letters(0).await.len(), 0, "it is no malformed record of the others");

    world.configure(INPUT);
    worker.signal("HUP");
    let outcomes = world.outcomes(1).await;
    assert_eq!(
        (&outcomes[0]["event_id"], &outcomes[0]["status"]),
        (&json!(id), &json!("assigned"))
    );
    worker.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_without_an_id_is_not_answered_and_the_log_names_the_first() {
    let mut world = World::new("formats-again", 1, SimulatedDeskSettings::default()).await;
    world.set("INPUT__SAME_SESSION_WITHIN_S", "60");
    let now = handoff::clock::Clock::system().now().as_millisecond();
    let at = |second: i64| {
        let record = value(json!({"session_id": "s"}));
        Record { timestamp: Some(now - 200_000 + second * 1_000), ..record }
    };
    let of_other = value(json!({"session_id": "other"}));
    let places = world.publish_raw([at(0), at(1), of_other, at(60), at(61)]).await;
    let worker = world.process();
    let outcomes = by_event(world.outcomes(3).await);
    let name = |offset: i64| format!("{}/0/{offset}", world.topic("in"));
    let expected: BTreeSet<_> = [0, 2, 4].map(|index| name(places[index].1)).into();
    assert_eq!(outcomes.into_keys().collect::<BTreeSet<_>>(), expected);
    let log = worker.log();
    let lines = log.lines().filter(|line| line.contains("repeats an escalation of its session"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "the second is suppressed: {log}");
    assert!(lines[0].contains(&format!("first={}", name(0))), "{lines:?}");
    world.all_is_committed().await;
    worker.terminate().await;
    world.assert_all_committed().await;
    audit(&world).await;
}
