//! `handoff outcomes` against topics that the test has filled.
//!
//! It never runs the service: what is in the topics was put there here.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use super::{LONG, Ran, Site};
use crate::support::kafka::{Record, produce};

fn outcome(n: usize, status: &str) -> Record {
    let value = json!({"event_id": format!("e-{n}"), "session_id": format!("s-{}", n % 3),
        "status": status, "final": true, "agent_id": "a@x", "attempts": 1, "elapsed_ms": 812,
        "decided_at": "2026-11-23T10:00:00Z", "reason": "because"});
    let time = 1_700_000_000_000 + 1_000 * i64::try_from(n).unwrap();
    let record = Record::new(format!("s-{}", n % 3), value.to_string());
    Record { timestamp: Some(time), ..record }.on(i32::try_from(n % 2).unwrap())
}

fn event_ids(ran: &Ran) -> Vec<String> {
    let json = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    json.map(|value| value["event_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn outcomes_are_picked_and_in_order_of_time() {
    let site = Site::new().await;
    let topic = site.topic("outcomes");
    let ran = site.run(&["outcomes"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert_eq!(ran.err, format!("nothing found in {topic}\n"));

    let status = |n| if n % 10 == 0 { "failed" } else { "assigned" };
    produce(&site.bootstrap, &topic, (0..40).map(|n| outcome(n, status(n)))).await;
    let ids = |range: std::ops::Range<usize>, fits: fn(usize) -> bool| -> Vec<String> {
        range.filter(|n| fits(*n)).map(|n| format!("e-{n}")).collect()
    };
    let check = async |arguments: &[&str], expected: Vec<String>| {
        let ran = site.run(&[&["outcomes", "--json"], arguments].concat()).await;
        assert_eq!((ran.code, event_ids(&ran)), (Some(0), expected), "{arguments:?} {}", ran.err);
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
    let wrong = site.run(&["outcomes", "--status", "lost"]).await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("no_agent_online"), "{wrong:#?}");
}

#[tokio::test]
async fn outcomes_for_people_show_what_is_none() {
    let site = Site::new().await;
    let check = Record::new("handoff-check", "{}").header("handoff-type", "check");
    let bad = Record { timestamp: Some(1_700_000_001_000), ..Record::new("k", "\u{1b}[31mno") };
    produce(&site.bootstrap, &site.topic("outcomes"), [outcome(0, "failed"), check, bad]).await;
    let ran = site.run(&["outcomes"]).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 3, "{ran:#?}");
    assert!(lines[0].starts_with("TIME") && lines[0].ends_with("REASON"));
    let row: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(
        row,
        ["2026-11-23T10:00:00Z", "failed", "s-0", "a@x", "1", "812ms", "e-0", "because"]
    );
    assert!(lines[2].starts_with("2023-11-14T22:13:21Z  unreadable"), "{ran:#?}");
    assert!(!ran.out.contains('\u{1b}'), "{ran:#?}");
}

#[tokio::test]
async fn outcomes_are_followed_and_a_closed_pipe_is_no_failure() {
    let site = Site::new().await;
    let topic = site.topic("outcomes");
    produce(&site.bootstrap, &topic, [outcome(0, "assigned")]).await;
    let mut child = site.command(&["outcomes", "--follow", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(next().await.contains("e-0"));
    produce(&site.bootstrap, &topic, [outcome(1, "assigned")]).await;
    assert!(next().await.contains("e-1"));
    drop(lines);
    produce(&site.bootstrap, &topic, [outcome(2, "assigned"), outcome(3, "assigned")]).await;
    let ended = timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test]
async fn outcomes_shows_dead_letters() {
    let site = Site::new().await;
    let letter = Record::new("s-1", "12345")
        .header("handoff-error-class", "not_an_object")
        .header("handoff-error", "JSON, but not an object")
        .header("handoff-source-topic", "t")
        .header("handoff-source-partition", "3")
        .header("handoff-source-offset", "42")
        .header("handoff-first-seen", "2026-11-23T10:00:00.5Z");
    produce(&site.bootstrap, &site.topic("letters"), [letter.on(0)]).await;
    let ran = site.run(&["outcomes", "--dead-letters"]).await;
    let row: Vec<_> = ran.line("2026").split_whitespace().collect();
    let place = format!("{}/0/0", site.topic("letters"));
    let expected = ["2026-11-23T10:00:00Z", "not_an_object", "5", "t/3/42", place.as_str()];
    assert_eq!(row[..5], expected, "{ran:#?}");
    let ran = site.run(&["outcomes", "--dead-letters", "--json", "--session", "s-1"]).await;
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["bytes"], &json["source"]["offset"]), (&json!(5), &json!(42)));
    let conflict = ["outcomes", "--dead-letters", "--status", "failed"];
    assert_eq!(site.run(&conflict).await.code, Some(2));
}
