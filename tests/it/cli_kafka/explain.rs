//! `handoff explain`: a record of Kafka, files, exit codes. The pages of `docs/recipes/` show the text
//! of more records; see the test `recipes`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{CommandOutput, TestTopics};
use crate::support::kafka::{Record, produce};

const CONFIG: &str = r#"
[[hours]]
name = "office"
zone = "Europe/Berlin"
weekly = { mon-fri = ["09:00-18:00"] }

[[routes]]
name = "new"
shadow = true
when = { lang = "de" }
targets = [{ group = 9 }]

[[routes]]
name = "vip"
when = { tier = "vip" }
targets = [{ agents = ["anna@x"], group = 7 }]
while_nobody_online = "keep_trying"
retry_ms = [15000]

[[routes]]
name = "day"
when = { lang = { exists = true } }
targets = [{ group = 8 }]
hours = "office"
outside_hours = "park_until_open"
priority = 2
"#;

/// A Friday, 17:59 in Berlin; and two minutes later.
const OPEN: &str = "2026-11-27T16:59:00Z";
const CLOSED: &str = "2026-11-27T17:01:00Z";

async fn explain_by(
    topics: &TestTopics,
    config: &str,
    more: &[&str],
    value: &str,
) -> CommandOutput {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    topics.run_with(&[&["--config", &file, "explain"][..], more].concat(), value).await
}

async fn explain(more: &[&str], value: &str) -> CommandOutput {
    let topics = TestTopics::missing("127.0.0.1:9");
    explain_by(&topics, CONFIG, &[&["-"][..], more].concat(), value).await
}

/// The value of a record that the real software wrote.
fn written_by_software(name: &str) -> String {
    let path = format!("{}/tests/fixtures/formats/real/{name}", env!("CARGO_MANIFEST_DIR"));
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    fixture["value"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_cloudevent_is_explained_by_each_step() {
    let value = written_by_software("cloudevents-python-binary.json");
    let headers = [
        "--header=ce_specversion=1.0",
        "--header=ce_id=1234",
        "--header=ce_type=com.example.escalation",
        "--header=ce_source=/bots/shop",
        "--header=ce_time=2026-11-27T16:58:00Z",
    ];
    let arguments = [&["--now", OPEN, "--key=s-1"][..], &headers].concat();
    let output = explain(&arguments, &value).await;
    assert_eq!((output.code, &*output.err), (Some(0), ""), "{output:#?}");
    assert_snapshot!(output.out, @r#"
    record        79 bytes, key "s-1", headers ce_specversion ce_id ce_type ce_source ce_time
    read at       2026-11-27T16:59:00Z
    result        Desk is called, for up to 2 targets one after the other

    Reading
      cloudevents   yes
      native        yes

    Escalation
      session       s-1
      id            /bots/shop 1234
      requested at  2026-11-27T16:58:00.000Z (1m ago)
      deadline      2026-11-27T17:08:00.000Z (in 9m)
      reason        user_requested
      attribute     lang = "de"

    Routes: the first that matches is used
      new (shadow)  counted: it matches, as a shadow route
      vip           not used: `when.tier` does not hold: it is absent
      day           used
      hours         "office" open

    Calls: one after the other, until an agent or the queue has the session
      1             group 8
                    transfer_to_human {"SessionId":"s-1","AgentGroupId":8,"Priority":2}
      2             default
                    transfer_to_human {"SessionId":"s-1","Priority":2}

    If nobody is online
      outcome       no_agent_online
      reason        141001: no agent available
    "#);
}

#[tokio::test]
async fn a_record_outside_the_hours_is_parked_and_called_when_they_begin() {
    let value = r#"{"id":"e-1","session_id":"s-1","attributes":{"lang":"de"},"expires_at":"2026-12-01T00:00:00Z"}"#;
    let output = explain(&["--now", CLOSED], value).await;
    assert_eq!((output.code, &*output.err), (Some(0), ""), "{output:#?}");
    assert_snapshot!(output.out, @r#"
    record        94 bytes, no key
    read at       2026-11-27T17:01:00Z
    result        parked until its route opens

    Reading
      cloudevents   no: specversion, id, type and source are neither members nor headers `ce_..`
      native        yes

    Escalation
      session       s-1
      id            e-1
      requested at  2026-11-27T17:01:00.000Z (in 0s)
      deadline      2026-12-01T00:00:00.000Z (in 78h 59m)
      attribute     lang = "de"

    Routes: the first that matches is used
      new (shadow)  counted: it matches, as a shadow route
      vip           not used: `when.tier` does not hold: it is absent
      day           used
      hours         "office" closed until 2026-11-30T08:00:00Z: parked until they open

    Instead of a call
      interim       an outcome no_agent_online with "final": false
      then          parked until 2026-11-30T08:00:00Z; --now 2026-11-30T08:00:00Z shows what follows
    "#);
    // The time that it names is one at which Desk is called.
    let opens_at = output.line("then").rsplit("--now ").next().unwrap();
    let opens_at = opens_at.split(' ').next().unwrap().to_owned();
    let output = explain(&["--now", &opens_at], value).await;
    assert!(output.line("result").ends_with("one after the other"), "{output:#?}");

    let answered = CONFIG.replace("park_until_open", "answer");
    let topics = TestTopics::missing("127.0.0.1:9");
    let output = explain_by(&topics, &answered, &["-", "--now", CLOSED], value).await;
    assert_eq!(output.code, Some(1), "{output:#?}");
    let sentence = "handoff: the outcome no_agent_online, no call: outside the hours \"office\"\n";
    assert_eq!(output.err, sentence);
}

#[tokio::test]
async fn a_record_for_which_desk_is_not_called_ends_with_1_and_says_why() {
    for (value, why) in [
        ("oops", "a dead letter (not_json): not JSON: "),
        (r#"{"session_id":"s","priority":11}"#, "the outcome rejected, no call: priority is 11; "),
        (
            r#"{"session_id":"s","expires_at":"2020-01-01T00:00:00Z"}"#,
            "the outcome expired, no call",
        ),
        (r#"{"session_id":"s","type":"x"}"#, "skipped, it is not for us: its type is \"x\", which"),
        (r#"{"op":"d","before":{},"after":null}"#, "skipped, it is not for us: a change event"),
    ] {
        let output = explain(&["--now", OPEN], value).await;
        assert_eq!(output.code, Some(1), "{output:#?}");
        assert!(output.err.starts_with(&format!("handoff: {why}")), "{output:#?}");
        let output = explain(&["--json"], value).await;
        let object: Value = serde_json::from_str(&output.out).unwrap();
        assert!(object["why"].as_str().unwrap().starts_with(why), "{object}");
    }
}

#[tokio::test]
async fn a_record_is_read_from_kafka_with_its_key_and_headers() {
    let mut topics = TestTopics::create().await;
    topics.set("INPUT__CLOUDEVENTS", "false");
    let topic = topics.topic("escalations");
    let value = json!({"session_id": "s-1", "attributes": {"tier": "vip", "lang": "fr"}});
    let record = Record::new("s-1", value.to_string()).header("id", "outbox-1").on(1);
    let other = Record::new("s-2", "{}").on(1);
    produce(&topics.bootstrap, &topic, [other, record]).await;
    let at = format!("--at={topic}/1/1");
    let output = explain_by(&topics, CONFIG, &[&at, "--json"], "").await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let explained: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(explained["source"], json!({"topic": topic, "partition": 1, "offset": 1}));
    assert_eq!(explained["escalation"]["event_id"], "outbox-1");
    let bodies: Vec<_> =
        explained["calls"].as_array().unwrap().iter().map(|c| &c["body"]).collect();
    let named = r#"{"SessionId":"s-1","AgentIdList":["anna@x"],"AgentGroupId":7}"#;
    assert_eq!(bodies, [named, r#"{"SessionId":"s-1"}"#]);
    assert_eq!(explained["ending"], json!({"then": "tried_again", "wait_s": 15.0}));
    let routes: Vec<_> =
        explained["routes"].as_array().unwrap().iter().map(|route| &route["why"]).collect();
    let mismatch = "`when.lang` does not hold: it is \"fr\"";
    let earlier = "\"vip\" before it matches, too";
    assert_eq!(routes, [&json!(mismatch), &Value::Null, &json!(earlier)]);

    let output = explain_by(&topics, CONFIG, &[&at], "").await;
    let source = format!("{topic}/1/1, 60 bytes, key \"s-1\", headers id, written ");
    assert!(output.line("record").contains(&source), "{output:#?}");
    for (at, error) in [
        (format!("--at={topic}/1/2"), "there is no record "),
        (format!("--at={topic}/7/0"), "has no partition 7"),
    ] {
        let output = explain_by(&topics, CONFIG, &[&at], "").await;
        assert_eq!(output.code, Some(2), "{output:#?}");
        assert!(output.err.contains(error), "{output:#?}");
    }
}

#[tokio::test]
async fn wrong_arguments_end_with_2_and_a_bad_configuration_with_78() {
    let topics = TestTopics::missing("127.0.0.1:9");
    for arguments in [
        &[][..],
        &["/no/such/file"],
        &["-", "--at", "t/0/0"],
        &["--at", "t/0"],
        &["--at", "t/0/0", "--key", "k"],
        &["-", "--header", "h"],
    ] {
        let output = explain_by(&topics, CONFIG, arguments, "").await;
        assert_eq!(output.code, Some(2), "{arguments:?} {output:#?}");
    }
    let output = explain_by(&topics, "[input]\ndialect = []", &["-"], "{}").await;
    assert_eq!(output.code, Some(78), "{output:#?}");
}
