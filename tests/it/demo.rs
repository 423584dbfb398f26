//! `handoff demo` as users run it: it ends, succeeds, and its output can be read.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::support::worker::ask_admin;

const LIMIT: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(100);

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

/// A demo that keeps running, on a free port.
struct Served {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    folder: PathBuf,
}

impl Served {
    async fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
        command.args(["demo", "--serve", "--listen", "127.0.0.1:0"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
        let port = first.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.strip_suffix('/'));
        let port = port.and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("the address comes first: {first}"));
        let folder = format!("handoff-demo-{}", child.id().unwrap());
        Self { child, lines, port, folder: std::env::temp_dir().join(folder) }
    }

    /// The sum of all series of a metric.
    async fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = ask_admin(self.port, "metrics").await;
        let samples = metrics.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    async fn wait_for(&self, name: &str, least: u64) {
        let counted = async {
            while self.metric(name).await < least {
                sleep(A_MOMENT).await;
            }
        };
        timeout(LIMIT, counted).await.unwrap_or_else(|_| panic!("{name} stays below {least}"));
    }

    /// Waits until it has ended by itself; returns what it printed after the first line.
    async fn ended(mut self) -> String {
        let mut printed = String::new();
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                printed += &line;
                printed.push('\n');
            }
        };
        timeout(LIMIT, rest).await.expect("it ends");
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}: {printed}");
        assert!(!self.folder.exists(), "nothing is left behind");
        printed
    }
}

#[tokio::test]
async fn the_demo_that_serves_shows_a_moving_service_and_ends_on_time() {
    // The next phase would begin after 20 s.
    let served = Served::start(&["--for", "18s", "--seed", "7"]).await;
    served.wait_for("handoff_outcomes_total", 3).await;
    let seen = served.metric("handoff_outcomes_total").await;
    served.wait_for("handoff_outcomes_total", seen + 1).await;
    let (status, text) = ask_admin(served.port, "status").await;
    assert_eq!(status, 200);
    let status: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(status["ready"], true, "{status}");
    let printed = served.ended().await;
    assert!(printed.contains("  0:06  answers of Desk get lost"), "{printed}");
    assert!(printed.lines().last().unwrap().starts_with("stopped: answered "), "{printed}");
}

#[tokio::test]
async fn the_demo_that_serves_ends_by_a_signal_and_leaves_nothing() {
    let served = Served::start(&[]).await;
    served.wait_for("handoff_outcomes_total", 1).await;
    // Meanwhile other commands use its configuration.
    let config = served.folder.join("handoff.toml");
    let mut outcomes = Command::new(env!("CARGO_BIN_EXE_handoff"));
    outcomes.arg("--config").arg(&config).args(["outcomes", "--json"]);
    let shown = timeout(LIMIT, outcomes.output()).await.unwrap().unwrap();
    assert!(shown.status.success() && !shown.stdout.is_empty(), "{shown:?}");
    let pid = served.child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap();
    assert!(sent.success());
    served.ended().await;
}
