//! The surroundings of the service that keeps running: broker, simulated Desk, configuration file.
//!
//! The service takes everything from the file, as `handoff run` does, so that other commands can use
//! the same file while the demo runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;

use super::super::fixture::{ESCALATIONS, LIMIT, start_broker};
use super::super::temp_folder::TempFolder;
use super::conversations::Conversations;
use super::phases::PhaseChange;
use super::stream::{EscalationStream, StreamRecord};
use crate::adapters::kafka::{OutgoingRecord, RecordPublisher};
use crate::config::{ConfigFile, LoadedConfig, Reloader};
use crate::sim::broker::EmbeddedBroker;
use crate::sim::desk::{
    Agent, ConnectionOutage, FaultSchedule, InjectedFault, LatencyRange, SimulatedDesk,
    SimulatedDeskSettings, StaffChange,
};

const TEMPLATE: &str = include_str!("demo.toml");
/// The secret key of some other app: Desk refuses what it signs.
const OTHER_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const LATENCY: LatencyRange = LatencyRange { min_ms: 40, max_ms: 180 };
/// Sessions that the simulated Desk remembers: those of some twenty minutes.
const MAX_SESSIONS: usize = 2_000;

const SUPPORT: i64 = 2473;
const VIP: i64 = 2480;
const BILLING: i64 = 3001;
const NIGHT: i64 = 4000;

/// Broker, simulated Desk, its customers, and the folder with configuration, key and ledger.
pub(super) struct ServedFixture {
    desk: SimulatedDesk,
    stream: EscalationStream,
    conversations: Conversations,
    publisher: RecordPublisher,
    broker: EmbeddedBroker,
    folder: TempFolder,
}

impl ServedFixture {
    /// Starts broker and Desk, and writes the configuration of a service that listens on `admin`.
    pub(super) fn start(admin: SocketAddr, seed: u64) -> anyhow::Result<(Self, LoadedConfig)> {
        let broker = start_broker()?;
        let desk = SimulatedDesk::start_local(SimulatedDeskSettings {
            latency: LATENCY,
            agents: staff(),
            seed,
            max_sessions: MAX_SESSIONS,
            ..SimulatedDeskSettings::default()
        })?;
        let folder = TempFolder::new()?;
        let config_file = config_file(&folder);
        let text = config_text(&ServedAddresses {
            broker: broker.bootstrap_servers(),
            desk: &desk,
            folder: folder.path(),
            admin,
        });
        std::fs::write(&config_file, text)
            .with_context(|| format!("failed to write {}", config_file.display()))?;
        let (_, key) = desk.credentials();
        replace(&key_file(folder.path()), key.expose_secret())?;
        let loaded = Reloader::start(ConfigFile::read(&config_file)?, Vec::new())
            .context("the demo's configuration is invalid")?;
        let publisher = RecordPublisher::start(&loaded.config.kafka, LIMIT)?;
        let stream = EscalationStream::new(seed);
        // Another sequence than the stream's.
        let conversations = Conversations::new(!seed);
        Ok((Self { desk, stream, conversations, publisher, broker, folder }, loaded))
    }

    /// The file with which other commands find the same topics and ledger.
    pub(super) fn config_file(&self) -> PathBuf {
        config_file(&self.folder)
    }

    /// Waits until records can be published without delay.
    pub(super) async fn warm_up(&self) {
        self.publisher.warm_up().await;
    }

    /// Publishes the next record of the stream.
    pub(super) async fn publish_next(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let record = self.stream.next(now);
        // Before the record, so that no call can see the default state.
        if let Some(change) = &record.initial {
            self.desk.change_session(change);
        }
        if !record.faults.is_empty() {
            let faults = record.faults.clone();
            self.desk.schedule(FaultSchedule { faults, ..FaultSchedule::default() });
        }
        self.conversations.add(&record.session, tokio::time::Instant::now());
        self.publish(record).await
    }

    /// Lets the customers leave whose time has come.
    pub(super) fn advance_conversations(&mut self) {
        self.conversations.advance(&self.desk, tokio::time::Instant::now());
    }

    /// Changes the simulated world.
    pub(super) async fn change(&mut self, change: PhaseChange) -> anyhow::Result<()> {
        let limit = |limit| FaultSchedule { limit_per_second: Some(limit), ..Default::default() };
        match change {
            PhaseChange::Calm => self.desk.clear_faults(),
            PhaseChange::Rush => {}
            PhaseChange::LostAnswers => self.desk.schedule(InjectedFault::lost_answer().times(3)),
            PhaseChange::BadRecords => {
                for record in self.stream.unreadable() {
                    self.publish(record).await?;
                }
            }
            PhaseChange::BillingOnline(online) => {
                self.desk.change_staff(&StaffChange::group(BILLING, online));
            }
            PhaseChange::DeskReachable(true) => self.desk.set_outage(ConnectionOutage::None),
            PhaseChange::DeskReachable(false) => self.desk.set_outage(ConnectionOutage::Refusing),
            PhaseChange::DeskLimit(per_second) => self.desk.schedule(limit(per_second)),
            PhaseChange::RightKey(true) => {
                let (_, key) = self.desk.credentials();
                replace(&key_file(self.folder.path()), key.expose_secret())?;
            }
            PhaseChange::RightKey(false) => {
                replace(&key_file(self.folder.path()), OTHER_KEY)?;
                // The service signs again only when its signature ends or is refused.
                self.desk.schedule(InjectedFault::error(70_001));
            }
        }
        Ok(())
    }

    async fn publish(&self, record: StreamRecord) -> anyhow::Result<()> {
        let record = OutgoingRecord {
            topic: ESCALATIONS.into(),
            key: Some(record.session.into_bytes()),
            value: record.value,
            headers: record.headers,
        };
        self.publisher.enqueue(&record).await?.acknowledged().await.map(drop)
    }

    /// Stops everything and removes the folder.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Self { broker, desk, publisher, folder, .. } = self;
        desk.stop().await;
        // The drop of the Kafka clients blocks the thread.
        spawn_blocking(move || drop((publisher, broker))).await?;
        drop(folder);
        Ok(())
    }
}

fn staff() -> Vec<Agent> {
    let agent = |id: &str, group, capacity| Agent {
        group: Some(group),
        capacity: Some(capacity),
        ..Agent::new(format!("{id}@example.com"))
    };
    vec![
        agent("anna", SUPPORT, 5),
        agent("ben", SUPPORT, 4),
        agent("carla", VIP, 3),
        agent("dmitri", VIP, 3),
        agent("emre", BILLING, 5),
        agent("fatou", BILLING, 5),
        Agent { online: false, ..agent("goro", NIGHT, 3) },
    ]
}

/// What the configuration must name.
struct ServedAddresses<'a> {
    broker: &'a str,
    desk: &'a SimulatedDesk,
    folder: &'a Path,
    admin: SocketAddr,
}

fn config_text(addresses: &ServedAddresses<'_>) -> String {
    let ServedAddresses { broker, desk, folder, admin } = addresses;
    let (identity, _) = desk.credentials();
    TEMPLATE
        .replace("@broker@", broker)
        .replace("@desk@", &desk.endpoint())
        .replace("@sdkappid@", &identity.sdkappid.to_string())
        .replace("@identifier@", &identity.identifier)
        .replace("@key@", &key_file(folder).display().to_string())
        .replace("@ledger@", &folder.join("ledger.db").display().to_string())
        .replace("@listen@", &admin.to_string())
}

fn config_file(folder: &TempFolder) -> PathBuf {
    folder.path().join("handoff.toml")
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("desk-key")
}

/// Replaces a file as a whole: the service may read it at any moment.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("failed to write {}", file.display()))
}

/// The demo's configuration, without anything that runs.
#[cfg(test)]
pub(super) fn test_config() -> crate::config::Config {
    let text = ["@broker@", "@listen@"]
        .iter()
        .fold(TEMPLATE.to_owned(), |text, address| text.replace(address, "127.0.0.1:1"));
    let text = text.replace("@desk@", "http://127.0.0.1:1").replace("@sdkappid@", "1400000000");
    let file = std::env::temp_dir().join(format!("handoff-demo-{}.toml", fastrand::u64(..)));
    std::fs::write(&file, text).unwrap();
    let config = crate::config::load(Some(&file), Vec::new());
    std::fs::remove_file(&file).unwrap();
    config.unwrap()
}
