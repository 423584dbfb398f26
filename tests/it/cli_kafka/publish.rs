//! `handoff publish`: arguments, files and standard input become records.

use std::fs::OpenOptions;

use serde_json::{Value, json};

use super::{CommandOutput, TestTopics};
use crate::support::kafka::{Received, shared};

fn texts(records: &[Received]) -> Vec<(Option<&str>, &str)> {
    records
        .iter()
        .map(|record| {
            let key = record.key.as_deref().map(|key| str::from_utf8(key).unwrap());
            (key, str::from_utf8(record.value.as_deref().unwrap()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn publish_by_arguments_needs_no_desk() {
    let topics = TestTopics::create().await;
    let output = topics
        .run(&["publish", "--session", "s-1", "--id", "e-1", "--group", "7", "--attribute", "a=b"])
        .await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let records = topics.escalations().await;
    let value = r#"{"attributes":{"a":"b"},"id":"e-1","session_id":"s-1","target":{"group":7}}"#;
    assert_eq!(texts(&records), [(Some("s-1"), value)]);
    let position = format!("{}/{}/0", topics.topic("escalations"), records[0].partition);
    assert_eq!(output.out, format!("{position}  e-1  s-1\n"));
    assert_eq!(output.err, format!("1 published to {}\n", topics.topic("escalations")));

    // Without an id the position is the identity.
    let output = topics.run(&["publish", "--session", "s-1", "--json"]).await;
    let published: Value = serde_json::from_str(&output.out).unwrap();
    let source = json!({"topic": topics.topic("escalations"), "partition": records[0].partition,
        "offset": 1});
    let id = format!("{}/{}/1", topics.topic("escalations"), records[0].partition);
    assert_eq!(published, json!({"event_id": id, "session_id": "s-1", "source": source}));

    // Where nobody can read that, standard error says what is in the topic.
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = topics.command(&["publish", "--session", "s-1"]).stdout(full).spawn().unwrap();
    let output = CommandOutput::from(child.wait_with_output().await.unwrap());
    assert_eq!(output.code, Some(69), "{output:#?}");
    let published = format!("1 published to {}\n", topics.topic("escalations"));
    assert!(output.err.starts_with(&published), "{output:#?}");
}

#[tokio::test]
async fn publish_refuses_what_the_service_would_refuse() {
    let topics = TestTopics::create().await;
    let output = topics.run(&["publish", "--session", "s", "--priority", "11"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(2), ""), "{output:#?}");
    assert!(output.err.starts_with("arguments: priority is 11; allowed is a whole number"));
    assert_eq!(topics.run(&["publish"]).await.code, Some(2));
    assert_eq!(topics.run(&["publish", "--group", "1"]).await.code, Some(2));
    assert_eq!(topics.run(&["publish", "f", "--group", "1"]).await.code, Some(2));
    assert_eq!(topics.run(&["publish", "/no/such/file"]).await.code, Some(2));
    assert_eq!(topics.escalations().await, []);
    let output =
        topics.run(&["publish", "--session", "s", "--priority", "11", "--unchecked"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(topics.escalations().await.len(), 1);
}

#[tokio::test]
async fn publish_refuses_invalid_input_without_a_broker() {
    let topics = TestTopics::missing("127.0.0.1:1");
    let output =
        topics.run_with(&["publish", "-"], "{\"session_id\":\"s\",\"priority\":-5}\n{oops\n").await;
    assert_eq!((output.code, output.out.as_str()), (Some(2), ""), "{output:#?}");
    assert!(output.err.starts_with("line 1: priority is -5; allowed is "), "{}", output.err);
    assert!(output.err.contains("line 2: not JSON: "), "{}", output.err);
    assert!(output.err.contains("0 published to "), "{}", output.err);
}

#[tokio::test]
async fn publish_warns_about_fields_that_the_service_ignores() {
    let topics = TestTopics::create().await;
    let output =
        topics.run_with(&["publish", "-"], "{\"session_id\":\"s\",\"prioritty\":0}\n").await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert!(
        output.err.starts_with("line 1: prioritty is ignored by the service"),
        "{}",
        output.err
    );
    assert_eq!(topics.escalations().await.len(), 1);
}

#[tokio::test]
async fn publish_reads_lines_of_a_file_and_of_standard_input() {
    let topics = TestTopics::create().await;
    let lines = "{\"session_id\":\"s-1\",\"id\":\"a\"}\n\n{oops\n{\"id\":\"b\"}\n\
                 {\"session_id\":\"s-1\",\"id\":\"c\",\"x\": 1 }\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    std::fs::write(&file, lines).unwrap();
    let from_file = topics.run(&["publish", file.to_str().unwrap()]).await;
    let from_stdin = topics.run_with(&["publish", "-"], lines).await;
    for output in [&from_file, &from_stdin] {
        assert_eq!(output.code, Some(2), "{output:#?}");
        let errors: Vec<_> = output.err.lines().collect();
        assert!(errors[0].starts_with("line 3: not JSON: "), "{output:#?}");
        assert!(errors[1].starts_with("line 4: session_id is missing"), "{output:#?}");
        assert!(errors[2].starts_with("line 5: x is ignored by the service"), "{output:#?}");
        assert!(errors[3].starts_with("handoff: 2 published to "), "{output:#?}");
        let ids: Vec<_> = output.out.lines().map(|line| line.split("  ").nth(1).unwrap()).collect();
        assert_eq!(ids, ["a", "c"]);
    }
    let records = topics.escalations().await;
    let (a, c) = (r#"{"session_id":"s-1","id":"a"}"#, r#"{"session_id":"s-1","id":"c","x": 1 }"#);
    assert_eq!(texts(&records), [a, c, a, c].map(|value| (Some("s-1"), value)));
}

#[tokio::test]
async fn publish_reads_an_array_and_publishes_malformed_items_unchecked() {
    let topics = TestTopics::create().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.json");
    let array = "[\n {\"session_id\": 7},\n {}\n]";
    std::fs::write(&file, array).unwrap();
    let from_file = topics.run(&["publish", "--unchecked", file.to_str().unwrap()]).await;
    let from_stdin = topics.run_with(&["publish", "--unchecked", "-"], array).await;
    let on_one_line = "\u{feff}\n\n[{\"session_id\": 7}, {}]";
    let one_line = topics.run_with(&["publish", "--unchecked", "-"], on_one_line).await;
    for output in [from_file, from_stdin, one_line] {
        assert_eq!(output.code, Some(0), "{output:#?}");
        assert!(output.err.starts_with("line 3: session_id is missing"), "{output:#?}");
    }
    let mut records = topics.escalations().await;
    records.sort_by_key(|record| record.key.is_none());
    let (seven, none) = ((Some("7"), "{\"session_id\": 7}"), (None, "{}"));
    assert_eq!(texts(&records), [seven, seven, seven, none, none, none]);
}

#[tokio::test]
async fn publish_names_a_missing_topic_and_a_wrong_setting() {
    let topics = TestTopics::missing(shared().await);
    let output = topics.run(&["publish", "--session", "s"]).await;
    assert_eq!(output.code, Some(69));
    let missing = format!("handoff: there is no topic {}: create it", topics.topic("escalations"));
    assert!(output.err.starts_with(&missing), "{output:#?}");
    let mut topics = TestTopics::missing("127.0.0.1:9");
    topics.set("KAFKA__CREATE_TOPICS", "perhaps");
    let output = topics.run(&["publish", "--session", "s"]).await;
    assert_eq!(output.code, Some(78));
    assert!(output.err.contains("the configuration has 1 problem:"), "{output:#?}");
    assert!(output.err.contains("`kafka.create_topics` = \"perhaps\""), "{output:#?}");
}
