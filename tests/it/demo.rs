//! `handoff demo` as users run it: it ends, succeeds, and its output can be read.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo, which must succeed with an empty standard error; returns its standard output.
async fn demo(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    command.arg("demo").args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (stdout, stderr) = (stdout.unwrap(), stderr.unwrap());
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

/// The line about the case with this description.
fn about<'a>(lines: &'a [Value], description: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["published"] == description);
    let line = found.next().unwrap_or_else(|| panic!("no line about {description:?}"));
    assert_eq!(found.next(), None, "once: {description}");
    line
}

#[tokio::test]
async fn json_lines_contain_each_outcome_and_the_summary() {
    let output = demo(&["--json", "--events", "200"]).await;
    let mut lines: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();

    let summary = lines.pop().unwrap();
    assert_eq!(summary["kind"], "summary");
    assert_eq!((&summary["ok"], &summary["differences"]), (&json!(true), &json!([])));
    assert_eq!((&summary["escalations"], &summary["answered"]), (&json!(216), &json!(216)));
    assert_eq!(
        summary["statuses"],
        json!({"assigned": 211, "expired": 1, "no_agent_online": 1, "queued": 1, "rejected": 2})
    );
    assert_eq!(summary["skipped"], json!({"expected": 1, "got": 1}));
    assert_eq!(summary["committed_partitions"], json!({"expected": 4, "got": 4}));
    assert_eq!(summary["records_uncommitted"], 0);
    assert!(summary["plain"]["per_second"].as_f64().unwrap() > 0.0);

    assert_eq!(lines.len(), 217, "216 outcomes and a dead letter");
    assert!(lines.iter().all(|line| line["kind"] != "unexpected"));
    assert_eq!(about(&lines, "not JSON")["class"], "not_json");
    let outcome = |description| &about(&lines, description)["outcome"];
    assert_eq!(outcome("internal error 141002 twice")["attempts"], 3);
    assert_eq!(outcome("already with an agent (Eve)")["agent_id"], "eve@example.com");
    let cascade = outcome("for Dora, else her group, else any");
    assert_eq!(cascade["tried"].as_array().unwrap().len(), 3);
    for description in ["lost answer: connection closed", "lost answer: time-out"] {
        let lost = outcome(description);
        assert_eq!(
            (&lost["attempts"], &lost["confirmed_by"]),
            (&json!(1), &json!("session_state"))
        );
        assert!(
            lost["elapsed_ms"].as_u64().unwrap() >= 3000,
            "waits for Desk's time limit: {lost}"
        );
    }
    assert_eq!(outcome("lost call: connection closed")["attempts"], 2);
}

#[tokio::test]
async fn the_table_has_no_escape_codes_outside_a_terminal() {
    let output = demo(&[]).await;
    assert!(!output.contains('\u{1b}'), "{output}");
    let last = output.lines().last().unwrap();
    assert!(last.starts_with("all 16 answered exactly once and as expected, in "), "{output}");
    let row = output.lines().find(|line| line.contains("for Dora only")).unwrap();
    assert!(row.contains("no_agent_online"), "{row}");
}
