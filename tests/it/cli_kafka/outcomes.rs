//! `handoff outcomes` with records that the tests have put into the topics.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use super::{CommandOutput, TIMEOUT, TestTopics};
use crate::support::kafka::{Record, produce};

fn outcome(n: usize, status: &str) -> Record {
    let value = json!({"event_id": format!("e-{n}"), "session_id": format!("s-{}", n % 3),
        "status": status, "final": true, "agent_id": "a@x", "attempts": 1, "elapsed_ms": 812,
        "decided_at": "2026-11-23T10:00:00Z", "reason": "because"});
    let time = 1_700_000_000_000 + 1_000 * i64::try_from(n).unwrap();
    let record = Record::new(format!("s-{}", n % 3), value.to_string());
    Record { timestamp: Some(time), ..record }.on(i32::try_from(n % 2).unwrap())
}

fn event_ids(output: &CommandOutput) -> Vec<String> {
    let json = output.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    json.map(|value| value["event_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn outcomes_are_filtered_and_in_order_of_time() {
    let topics = TestTopics::create().await;
    let topic = topics.topic("outcomes");
    let output = topics.run(&["outcomes"]).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""), "{}", output.err);
    assert_eq!(output.err, format!("nothing found in {topic}\n"));

    let status = |n| if n % 10 == 0 { "failed" } else { "assigned" };
    produce(&topics.bootstrap, &topic, (0..40).map(|n| outcome(n, status(n)))).await;
    let ids = |range: std::ops::Range<usize>, matches: fn(usize) -> bool| -> Vec<String> {
        range.filter(|n| matches(*n)).map(|n| format!("e-{n}")).collect()
    };
    let check = async |arguments: &[&str], expected: Vec<String>| {
        let output = topics.run(&[&["outcomes", "--json"], arguments].concat()).await;
        assert_eq!(
            (output.code, event_ids(&output)),
            (Some(0), expected),
            "{arguments:?} {}",
            output.err
        );
    };
    check(&[], ids(20..40, |_| true)).await;
    check(&["--last", "3"], ids(37..40, |_| true)).await;
    check(&["--status", "failed"], ids(0..40, |n| n % 10 == 0)).await;
    check(&["--status", "failed", "--last", "1"], ids(30..31, |_| true)).await;
    check(&["--session", "s-1", "--last", "99"], ids(0..40, |n| n % 3 == 1)).await;
    check(&["--event", "e-1", "--event", "e-7"], ids(0..8, |n| n == 1 || n == 7)).await;
    check(&["--since", "2023-11-14T22:13:50Z"], ids(30..50, |n| n < 40)).await;
    check(&["--since", "2023-11-14T22:13:45Z", "--last", "2"], ids(38..40, |_| true)).await;
    check(&["--since", "1h"], vec![]).await;
    let wrong = topics.run(&["outcomes", "--status", "lost"]).await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("no_agent_online"), "{wrong:#?}");
}

#[tokio::test]
async fn the_table_shows_unreadable_records_without_control_characters() {
    let topics = TestTopics::create().await;
    let check = Record::new("handoff-check", "{}").header("handoff-type", "check");
    let bad = Record { timestamp: Some(1_700_000_001_000), ..Record::new("k", "\u{1b}[31mno") };
    produce(&topics.bootstrap, &topics.topic("outcomes"), [outcome(0, "failed"), check, bad]).await;
    let output = topics.run(&["outcomes"]).await;
    assert_eq!(output.code, Some(0), "{output:#?}");
    let lines: Vec<_> = output.out.lines().collect();
    assert_eq!(lines.len(), 3, "{output:#?}");
    assert!(lines[0].starts_with("TIME") && lines[0].ends_with("REASON"));
    let row: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        row,
        ["2026-11-23T10:00:00Z", "failed", "s-0", "a@x", "1", "812ms", "e-0", "because"]
    );
    assert!(lines[2].starts_with("2023-11-14T22:13:21Z  unreadable"), "{output:#?}");
    assert!(!output.out.contains('\u{1b}'), "{output:#?}");
}

#[tokio::test]
async fn outcomes_are_followed_until_the_pipe_is_closed() {
    let topics = TestTopics::create().await;
    let topic = topics.topic("outcomes");
    produce(&topics.bootstrap, &topic, [outcome(0, "assigned")]).await;
    let mut child = topics.command(&["outcomes", "--follow", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(next().await.contains("e-0"));
    produce(&topics.bootstrap, &topic, [outcome(1, "assigned")]).await;
    assert!(next().await.contains("e-1"));
    drop(lines);
    produce(&topics.bootstrap, &topic, [outcome(2, "assigned"), outcome(3, "assigned")]).await;
    let ended = timeout(TIMEOUT, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn dead_letters_are_shown_with_class_size_and_source() {
    let topics = TestTopics::create().await;
    let dead_letter = Record::new("s-1", "12345")
        .header("handoff-error-class", "not_an_object")
        .header("handoff-error", "JSON, but not an object")
        .header("handoff-source-topic", "t")
        .header("handoff-source-partition", "3")
        .header("handoff-source-offset", "42")
        .header("handoff-first-seen", "2026-11-23T10:00:00.5Z");
    produce(&topics.bootstrap, &topics.topic("dead-letters"), [dead_letter.on(0)]).await;
    let output = topics.run(&["outcomes", "--dead-letters"]).await;
    let row: Vec<_> = output.line("2026").split_whitespace().collect();
    let position = format!("{}/0/0", topics.topic("dead-letters"));
    let expected = ["2026-11-23T10:00:00Z", "not_an_object", "5", "t/3/42", position.as_str()];
    assert_eq!(row[..5], expected, "{output:#?}");
    let output = topics.run(&["outcomes", "--dead-letters", "--json", "--session", "s-1"]).await;
    let json: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&json["bytes"], &json["source"]["offset"]), (&json!(5), &json!(42)));
    let conflict = ["outcomes", "--dead-letters", "--status", "failed"];
    assert_eq!(topics.run(&conflict).await.code, Some(2));
}
