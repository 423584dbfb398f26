//! The commands that use Kafka, run as a user runs them: the binary, its output, its exit code.
//!
//! Each test has its own topics. The service itself is running in `quick_start` only; see `kafka` for
//! tests of it.

mod broker_away;
mod check;
mod explain;
mod files;
mod outcomes;
mod publish;
mod quick_start;
mod routes;

use std::process::{Output, Stdio};
use std::time::Duration;

use handoff::sim::desk::SimulatedDesk;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::kafka::{Received, create_topics, read_to_end, shared, unique};
use crate::support::programs::split_log;

/// How long a command may run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The topics of one test, and the settings that name them.
struct TestTopics {
    bootstrap: String,
    name: String,
    env: Vec<(String, String)>,
}

impl TestTopics {
    /// Returns settings for topics that do not exist.
    fn missing(bootstrap: &str) -> Self {
        let name = unique("cli");
        let mut topics = Self { bootstrap: bootstrap.to_owned(), name, env: vec![] };
        topics.set("KAFKA__BOOTSTRAP_SERVERS", bootstrap);
        topics.set("KAFKA__GROUP_ID", &topics.topic("group"));
        for (key, topic) in [
            ("ESCALATIONS", "escalations"),
            ("OUTCOMES", "outcomes"),
            ("DEAD_LETTERS", "dead-letters"),
        ] {
            topics.set(&format!("KAFKA__{key}_TOPIC"), &topics.topic(topic));
        }
        topics
    }

    /// Creates the three topics on the shared broker.
    async fn create() -> Self {
        let topics = Self::missing(shared().await);
        let names = ["escalations", "outcomes", "dead-letters"].map(|name| topics.topic(name));
        create_topics(&topics.bootstrap, &names.each_ref().map(|name| (name.as_str(), 2))).await;
        topics
    }

    fn set(&mut self, key: &str, value: &str) {
        self.env.push((format!("HANDOFF__{key}"), value.to_owned()));
    }

    fn with_desk(mut self, desk: &SimulatedDesk, key: &str) -> Self {
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

    async fn run(&self, arguments: &[&str]) -> CommandOutput {
        let output = timeout(TIMEOUT, self.command(arguments).output()).await;
        CommandOutput::from(output.expect("the command ends").expect("the binary runs"))
    }

    async fn run_with(&self, arguments: &[&str], input: &str) -> CommandOutput {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = timeout(TIMEOUT, child.wait_with_output()).await;
        CommandOutput::from(output.expect("the command ends").unwrap())
    }

    async fn escalations(&self) -> Vec<Received> {
        read_to_end(&self.bootstrap, &self.topic("escalations")).await
    }
}

/// The result of a command.
#[derive(Debug)]
struct CommandOutput {
    code: Option<i32>,
    out: String,
    /// Standard error without the warnings of the log.
    err: String,
    /// These warnings.
    log: String,
}

impl CommandOutput {
    fn from(output: Output) -> Self {
        let out = String::from_utf8(output.stdout).expect("text");
        let (err, log) = split_log(output.stderr);
        Self { code: output.status.code(), out, err, log }
    }

    /// Returns the first line of standard output that contains `part`.
    #[track_caller]
    fn line(&self, part: &str) -> &str {
        let mut lines = self.out.lines();
        lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {self:#?}"))
    }
}
