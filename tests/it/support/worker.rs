//! A test's environment: topics on a real Kafka, a simulated Desk, and workers between them.
//!
//! A worker is either the real program in its own process (for signals) or the same service inside
//! the test's process (for speed). Tests see only what comes out of the topics, the log and the admin
//! port.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handoff::sim::desk::{DEMO_KEY, SimulatedDesk, SimulatedDeskSettings};
use handoff::{app, config};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::kafka::{
    self, Received, Record, committed, create_topics, high_watermarks, produce, read_all,
    read_to_end, shared, unique,
};
use super::outcome_schema::check_outcome;

/// Longest wait for anything.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(300);
/// A process listens within this time, on a machine that does much else.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// One test's world.
pub(crate) struct World {
    pub(crate) bootstrap: String,
    pub(crate) name: String,
    pub(crate) desk: SimulatedDesk,
    pub(crate) partitions: i32,
    env: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl World {
    /// On the shared broker.
    pub(crate) async fn new(name: &str, partitions: i32, options: SimulatedDeskSettings) -> Self {
        Self::on(shared().await, name, partitions, options).await
    }

    /// On a broker of the test's own.
    pub(crate) async fn on(
        bootstrap: &str,
        name: &str,
        partitions: i32,
        options: SimulatedDeskSettings,
    ) -> Self {
        let name = unique(name);
        let desk = SimulatedDesk::start_local(options).expect("the simulated Desk starts");
        let folder = tempfile::tempdir().expect("a folder");
        let (bootstrap_servers, env) = (bootstrap.to_owned(), BTreeMap::new());
        let world = Self { bootstrap: bootstrap_servers, name, desk, partitions, env, folder };
        let names = ["in", "out", "dead"].map(|topic| world.topic(topic));
        let topics: Vec<_> = names.iter().map(|name| (name.as_str(), partitions)).collect();
        create_topics(bootstrap, &topics).await;
        world
    }

    /// Set a configuration key for the workers to come, as the environment does.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.env.insert(format!("HANDOFF__{key}"), value.to_owned());
        self
    }

    /// Set another variable of the environment for the processes to come.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The configuration file of the workers to come, where the environment cannot say it.
    pub(crate) fn configure(&self, toml: &str) {
        std::fs::write(self.file(), toml).expect("the file can be written");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("handoff.toml")
    }

    /// The file of the ledger, unless `LEDGER__URL` was set.
    pub(crate) fn ledger_file(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn topic(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// The environment that makes a worker part of this world.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let mut env: BTreeMap<String, String> = [
            ("KAFKA__BOOTSTRAP_SERVERS", self.bootstrap.clone()),
            ("KAFKA__GROUP_ID", self.name.clone()),
            ("KAFKA__ESCALATIONS_TOPIC", self.topic("in")),
            ("KAFKA__OUTCOMES_TOPIC", self.topic("out")),
            ("KAFKA__DEAD_LETTERS_TOPIC", self.topic("dead")),
            ("DESK__ENDPOINT", self.desk.endpoint()),
            ("DESK__SDKAPPID", "1400000000".into()),
            ("DESK__IDENTIFIER", "administrator".into()),
            ("DESK__SECRET_KEY", DEMO_KEY.into()),
            ("DESK__QUOTA_PER_SECOND", "0".into()),
            ("LEDGER__URL", format!("sqlite://{}", self.ledger_file().display())),
            ("ADMIN__LISTEN", String::new()),
            ("LOG__LEVEL", "info".into()),
        ]
        .map(|(key, value)| (format!("HANDOFF__{key}"), value))
        .into();
        env.extend(self.env.clone());
        if self.file().exists() {
            env.insert("HANDOFF_CONFIG".into(), self.file().display().to_string());
        }
        env.into_iter().collect()
    }

    /// A worker inside this process.
    pub(crate) fn worker(&self) -> Worker {
        let file = Some(self.file()).filter(|file| file.exists());
        let config = config::load(file.as_deref(), self.env());
        let config = config.expect("the test's configuration is good");
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(app::run(config, None, stop));
        Worker { shutdown, tasks }
    }

    /// A worker in a process of its own.
    pub(crate) fn process(&self) -> Process {
        let log = tempfile::NamedTempFile::new().expect("a file for the log");
        let child = self.start(log.reopen().expect("the log file opens").into(), Stdio::null());
        Process { child, log }
    }

    /// The same, with its standard error, which is its log, and its standard output in the caller's
    /// hands.
    pub(crate) fn process_writing_to(&self, log: Stdio, output: Stdio) -> Process {
        let child = self.start(log, output);
        Process { child, log: tempfile::NamedTempFile::new().expect("an empty file") }
    }

    fn start(&self, log: Stdio, output: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_handoff"))
            .arg("run")
            .env_clear()
            .envs(self.env())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log)
            .spawn()
            .expect("the worker starts")
    }

    /// Publish escalations, keyed by their session.
    pub(crate) async fn publish(&self, events: impl IntoIterator<Item = Value>) {
        let record = |event: Value| {
            let key = event["session_id"].as_str().unwrap_or_default().to_owned();
            Record::new(key, event.to_string())
        };
        self.publish_raw(events.into_iter().map(record)).await;
    }

    /// Publish records as they are.
    pub(crate) async fn publish_raw(
        &self,
        records: impl IntoIterator<Item = Record>,
    ) -> Vec<(i32, i64)> {
        produce(&self.bootstrap, &self.topic("in"), records).await
    }

    /// Wait for this many outcomes, then make sure that no more follow.
    pub(crate) async fn outcomes(&self, count: usize) -> Vec<Value> {
        let records = self.settled("out", count).await;
        let parse = |record: &Received| -> Value {
            let value = record.value.as_deref().expect("an outcome has a value");
            let outcome = serde_json::from_slice(value).expect("an outcome is JSON");
            check_outcome(&outcome);
            outcome
        };
        records.iter().map(parse).collect()
    }

    /// Wait for this many dead letters, then make sure that no more follow.
    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<Received> {
        self.settled("dead", count).await
    }

    async fn settled(&self, topic: &str, count: usize) -> Vec<Received> {
        let topic = self.topic(topic);
        read_all(&self.bootstrap, &topic, count, TIME_LIMIT).await;
        sleep(Duration::from_millis(300)).await;
        read_to_end(&self.bootstrap, &topic).await
    }

    /// Wait until everything that was read is committed, while the workers run.
    pub(crate) async fn all_is_committed(&self) {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            let commits = self.commits().await;
            if commits.iter().all(|(_, committed, end)| *committed == Some(*end)) {
                return;
            }
            assert!(Instant::now() < until, "partition, committed, end: {commits:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everything that was read is committed.
    pub(crate) async fn assert_all_committed(&self) {
        for (partition, committed, end) in self.commits().await {
            assert_eq!(committed, Some(end), "committed in partition {partition}");
        }
    }

    /// Each partition that has records, what is committed in it, and where it ends.
    async fn commits(&self) -> Vec<(usize, Option<i64>, i64)> {
        let topic = self.topic("in");
        let ends = high_watermarks(&self.bootstrap, &topic).await;
        let committed = committed(&self.bootstrap, &self.name, &topic, self.partitions).await;
        let written = ends.into_iter().enumerate().filter(|(_, end)| *end > 0);
        written.map(|(partition, end)| (partition, committed[partition], end)).collect()
    }
}

/// A worker inside the test's process.
pub(crate) struct Worker {
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Worker {
    /// Stop as SIGTERM does, and wait for the end.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(TIME_LIMIT, self.tasks.join_next()).await;
        let ended = ended.expect("the worker stops").expect("it was started");
        ended.expect("no panic").expect("a clean end");
    }
}

/// A worker in a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Process {
    /// Send SIGTERM and wait for the end; the exit code must be 0.
    pub(crate) async fn terminate(mut self) {
        self.signal("TERM");
        let status = self.wait().await;
        assert!(status.success(), "exit {status}; log:\n{}", self.log());
    }

    /// End it as a crash does.
    pub(crate) async fn kill(mut self) {
        self.signal("KILL");
        self.wait().await;
    }

    /// Send a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill runs").success(), "the worker lives; log:\n{}", self.log());
    }

    /// Wait for the end.
    pub(crate) async fn wait(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < until, "still running; log:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("the log can be read")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of worker {}:\n{}", self.child.id(), self.log());
        }
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// An escalation that asks for nothing special.
pub(crate) fn escalation(id: &str, session: &str) -> Value {
    json!({"id": id, "session_id": session})
}

/// Outcomes by event id; every event must have exactly one, and final.
pub(crate) fn by_event(outcomes: Vec<Value>) -> BTreeMap<String, Value> {
    let mut by_event = BTreeMap::new();
    for outcome in outcomes {
        assert_eq!(outcome["final"], true, "{outcome}");
        let id = outcome["event_id"].as_str().expect("an event id").to_owned();
        if let Some(twice) = by_event.insert(id, outcome.clone()) {
            panic!("two final outcomes for one event: {twice} and {outcome}");
        }
    }
    by_event
}

/// When an outcome was decided. As texts such times cannot be compared: trailing zeros are left out.
pub(crate) fn decided_at(outcome: &Value) -> jiff::Timestamp {
    outcome["decided_at"].as_str().unwrap().parse().expect("a time")
}

/// Ask a worker's admin port: the status and the text. A process that has just been started may not
/// listen yet.
pub(crate) async fn ask_admin(port: u16, route: &str) -> (u16, String) {
    // Fails if another test of this process has already installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let until = Instant::now() + STARTS_WITHIN;
    let response = loop {
        match client.get(format!("http://127.0.0.1:{port}/{route}")).send().await {
            Err(error) if error.is_connect() && Instant::now() < until => {
                sleep(Duration::from_millis(50)).await;
            }
            response => break response.expect("the admin port answers"),
        }
    };
    (response.status().as_u16(), response.text().await.expect("a text"))
}

/// A port that nobody listens on, and that is given to nobody else in this process.
pub(crate) fn free_port() -> u16 {
    kafka::free_port().expect("a port")
}
