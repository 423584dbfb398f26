//! The commands that talk to Kafka, run as people run them: the binary, its output, its exit code.
//!
//! Every test has topics of its own. Nothing here looks into the program; it never tests the
//! service.

mod check;
mod outcomes;

use std::process::{Output, Stdio};
use std::time::Duration;

use handoff::sim::desk::Desk;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::kafka::{Received, create_topics, read_to_end, shared, unique};

const LONG: Duration = Duration::from_secs(60);

/// Topics, and the settings that name them.
struct Site {
    bootstrap: String,
    name: String,
    env: Vec<(String, String)>,
}

impl Site {
    /// Settings for topics that do not exist yet.
    fn planned(bootstrap: &str) -> Self {
        let name = unique("cli");
        let mut site = Self { bootstrap: bootstrap.to_owned(), name, env: vec![] };
        site.set("KAFKA__BOOTSTRAP_SERVERS", bootstrap);
        site.set("KAFKA__GROUP_ID", &site.topic("group"));
        for (key, topic) in
            [("ESCALATIONS", "escalations"), ("OUTCOMES", "outcomes"), ("DEAD_LETTERS", "letters")]
        {
            site.set(&format!("KAFKA__{key}_TOPIC"), &site.topic(topic));
        }
        site
    }

    /// The three topics on the shared broker.
    async fn new() -> Self {
        let site = Self::planned(shared().await);
        let names = ["escalations", "outcomes", "letters"].map(|name| site.topic(name));
        create_topics(&site.bootstrap, &names.each_ref().map(|name| (name.as_str(), 2))).await;
        site
    }

    fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("HANDOFF__{key}"), value.to_owned()));
    }

    fn with_desk(mut self, desk: &Desk, key: &str) -> Self {
        let (identity, _) = desk.credentials();
        self.set("DESK__ENDPOINT", &desk.endpoint());
        self.set("DESK__SDKAPPID", &identity.sdkappid.to_string());
        self.set("DESK__IDENTIFIER", &identity.identifier);
        self.set("DESK__SECRET_KEY", key);
        self
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
        command.args(arguments).env_clear().envs(self.env.clone()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let output = timeout(LONG, self.command(arguments).output()).await;
        Ran::of(output.expect("the command ends").expect("the binary runs"))
    }

    async fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = timeout(LONG, child.wait_with_output()).await;
        Ran::of(output.expect("the command ends").unwrap())
    }

    async fn escalations(&self) -> Vec<Received> {
        read_to_end(&self.bootstrap, &self.topic("escalations")).await
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The line that contains this.
    #[track_caller]
    fn line(&self, part: &str) -> &str {
        let mut lines = self.out.lines();
        lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {self:#?}"))
    }
}

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
    let site = Site::new().await;
    let ran = site
        .run(&["publish", "--session", "s-1", "--id", "e-1", "--group", "7", "--attribute", "a=b"])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let records = site.escalations().await;
    let value = r#"{"attributes":{"a":"b"},"id":"e-1","session_id":"s-1","target":{"group":7}}"#;
    assert_eq!(texts(&records), [(Some("s-1"), value)]);
    let place = format!("{}/{}/0", site.topic("escalations"), records[0].partition);
    assert_eq!(ran.out, format!("{place}  e-1  s-1\n"));
    assert_eq!(ran.err, format!("1 published to {}\n", site.topic("escalations")));

    // Without an id the place is the identity.
    let ran = site.run(&["publish", "--session", "s-1", "--json"]).await;
    let published: Value = serde_json::from_str(&ran.out).unwrap();
    let source = json!({"topic": site.topic("escalations"), "partition": records[0].partition,
        "offset": 1});
    let id = format!("{}/{}/1", site.topic("escalations"), records[0].partition);
    assert_eq!(published, json!({"event_id": id, "session_id": "s-1", "source": source}));
}

#[tokio::test]
async fn publish_refuses_what_the_service_would() {
    let site = Site::new().await;
    let ran = site.run(&["publish", "--session", "s", "--priority", "11"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:#?}");
    assert!(ran.err.starts_with("arguments: priority is 11; allowed is a whole number"));
    assert_eq!(site.run(&["publish"]).await.code, Some(2));
    assert_eq!(site.run(&["publish", "--group", "1"]).await.code, Some(2));
    assert_eq!(site.run(&["publish", "f", "--group", "1"]).await.code, Some(2));
    assert_eq!(site.run(&["publish", "/no/such/file"]).await.code, Some(2));
    assert_eq!(site.escalations().await, []);
    let ran = site.run(&["publish", "--session", "s", "--priority", "11", "--unchecked"]).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(site.escalations().await.len(), 1);
}

#[tokio::test]
async fn publish_refuses_without_a_broker() {
    let site = Site::planned("127.0.0.1:1");
    let ran =
        site.run_with(&["publish", "-"], "{\"session_id\":\"s\",\"priority\":-5}\n{oops\n").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:#?}");
    assert!(ran.err.starts_with("line 1: priority is -5; allowed is "), "{}", ran.err);
    assert!(ran.err.contains("line 2: not JSON: "), "{}", ran.err);
    assert!(ran.err.contains("0 published to "), "{}", ran.err);
}

#[tokio::test]
async fn publish_names_what_the_service_passes_over() {
    let site = Site::new().await;
    let ran = site.run_with(&["publish", "-"], "{\"session_id\":\"s\",\"prioritty\":0}\n").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.err.starts_with("line 1: prioritty is passed over by the service"), "{}", ran.err);
    assert_eq!(site.escalations().await.len(), 1);
}

#[tokio::test]
async fn publish_lines_of_a_file_and_of_standard_input() {
    let site = Site::new().await;
    let lines = "{\"session_id\":\"s-1\",\"id\":\"a\"}\n\n{oops\n{\"id\":\"b\"}\n\
                 {\"session_id\":\"s-1\",\"id\":\"c\",\"x\": 1 }\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    std::fs::write(&file, lines).unwrap();
    let from_file = site.run(&["publish", file.to_str().unwrap()]).await;
    let from_stdin = site.run_with(&["publish", "-"], lines).await;
    for ran in [&from_file, &from_stdin] {
        assert_eq!(ran.code, Some(2), "{ran:#?}");
        let errors: Vec<_> = ran.err.lines().collect();
        assert!(errors[0].starts_with("line 3: not JSON: "), "{ran:#?}");
        assert!(errors[1].starts_with("line 4: session_id is missing"), "{ran:#?}");
        assert!(errors[2].starts_with("line 5: x is passed over by the service"), "{ran:#?}");
        assert!(errors[3].starts_with("handoff: 2 published to "), "{ran:#?}");
        let ids: Vec<_> = ran.out.lines().map(|line| line.split("  ").nth(1).unwrap()).collect();
        assert_eq!(ids, ["a", "c"]);
    }
    let records = site.escalations().await;
    let (a, c) = (r#"{"session_id":"s-1","id":"a"}"#, r#"{"session_id":"s-1","id":"c","x": 1 }"#);
    assert_eq!(texts(&records), [a, c, a, c].map(|value| (Some("s-1"), value)));
}

#[tokio::test]
async fn publish_an_array_and_unchecked_what_is_malformed() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.json");
    std::fs::write(&file, "[\n {\"session_id\": 7},\n {}\n]").unwrap();
    let ran = site.run(&["publish", "--unchecked", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.err.starts_with("line 3: session_id is missing"), "{ran:#?}");
    let mut records = site.escalations().await;
    records.sort_by_key(|record| record.key.is_none());
    assert_eq!(texts(&records), [(Some("7"), "{\"session_id\": 7}"), (None, "{}")]);
}

#[tokio::test]
async fn publish_without_topic_broker_or_configuration() {
    let site = Site::planned(shared().await);
    let ran = site.run(&["publish", "--session", "s"]).await;
    assert_eq!(ran.code, Some(69));
    let missing = format!("handoff: there is no topic {}: make it", site.topic("escalations"));
    assert!(ran.err.starts_with(&missing), "{ran:#?}");
    let mut site = Site::planned("127.0.0.1:9");
    site.set("KAFKA__CREATE_TOPICS", "perhaps");
    let ran = site.run(&["publish", "--session", "s"]).await;
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("the configuration has 1 problem:"), "{ran:#?}");
    assert!(ran.err.contains("`kafka.create_topics` = \"perhaps\""), "{ran:#?}");
}
