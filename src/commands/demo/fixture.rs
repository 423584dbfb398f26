//! The surroundings of the service in the demo: broker, simulated Desk and configuration.
//!
//! The service is configured as in production, from the defaults and environment variables; the
//! variables are built here.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::try_join_all;
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;

use super::case::DemoCase;
use super::cases;
use super::reader::PublishedReader;
use super::service::DemoService;
use super::temp_folder::TempFolder;
use crate::adapters::kafka::{ClusterProbe, GroupOffsets, OutgoingRecord, RecordPublisher};
use crate::app::{self, Service};
use crate::config::{self, Config};
use crate::domain::record::Position;
use crate::sim::broker::EmbeddedBroker;
use crate::sim::desk::{
    FaultSchedule, LatencyRange, SessionReport, SimulatedDesk, SimulatedDeskSettings,
};
use crate::telemetry;

pub(super) const ESCALATIONS: &str = "handoff.escalations";
const OUTCOMES: &str = "handoff.outcomes";
const DEAD_LETTERS: &str = "handoff.dead-letters";
const GROUP: &str = "handoff";
const PARTITIONS: i32 = 4;
/// How long to wait for the broker.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// The latency of calls to Desk.
const LATENCY: LatencyRange = LatencyRange { min_ms: 20, max_ms: 60 };

/// Broker, simulated Desk and the service's configuration.
pub(super) struct DemoFixture {
    broker: EmbeddedBroker,
    desk: SimulatedDesk,
    config: Config,
    publisher: RecordPublisher,
    folder: TempFolder,
}

/// What the simulated Desk recorded.
#[derive(Debug, Clone, Default)]
pub(super) struct DeskObservations {
    /// Calls of all commands.
    pub(super) calls: u64,
    /// The reports of all sessions that were called, by id.
    pub(super) sessions: HashMap<String, SessionReport>,
}

impl DemoFixture {
    /// Starts the broker and the simulated Desk, and schedules the faults of the cases.
    pub(super) fn start(cases: &[DemoCase], verbose: bool) -> anyhow::Result<Self> {
        let broker = start_broker()?;
        let desk = SimulatedDesk::start_local(SimulatedDeskSettings {
            latency: LATENCY,
            agents: cases::staff(),
            ..SimulatedDeskSettings::default()
        })?;
        // Before the service starts, so that no call can see the default state.
        for case in cases {
            if let Some(change) = &case.initial {
                desk.change_session(change);
            }
        }
        let faults = cases.iter().flat_map(|case| case.faults.clone()).collect();
        desk.schedule(FaultSchedule { faults, ..FaultSchedule::default() });
        let folder = TempFolder::new()?;
        let config = config::load(None, environment(&broker, &desk, folder.path()))
            .context("the demo's configuration is invalid")?;
        if verbose {
            telemetry::start_log(&config.log)?;
        }
        let publisher = RecordPublisher::start(&config.kafka, LIMIT)?;
        Ok(Self { broker, desk, config, publisher, folder })
    }

    /// An introduction for people.
    pub(super) fn introduction(&self) -> String {
        let LatencyRange { min_ms, max_ms } = LATENCY;
        let settle = self.config.policy.settle_time.as_secs_f64();
        format!(
            "An embedded Kafka broker, a simulated Desk and the real service, all in this process. A \
             call to\nDesk takes {min_ms} to {max_ms} ms, and much goes wrong. After a lost answer \
             the service waits for Desk's\nown time limit of {settle} s and then queries the state \
             of the session. \"known by\" is Desk's reply,\nor that state.\n"
        )
    }

    /// Opens a reader of what the service publishes.
    pub(super) fn open_reader(&self) -> anyhow::Result<PublishedReader> {
        PublishedReader::open(&self.config.kafka)
    }

    /// Starts the service as `handoff run` does.
    pub(super) async fn start_service(&self) -> anyhow::Result<DemoService> {
        let config = self.config.clone();
        let listener = app::listen(&config).await?.context("the demo needs an admin port")?;
        DemoService::start(Service::build(config)?, listener)
    }

    /// Publishes all records at once and returns their positions.
    pub(super) async fn publish(&self, cases: &[DemoCase]) -> anyhow::Result<Vec<Position>> {
        let mut receipts = Vec::with_capacity(cases.len());
        for case in cases {
            let record = OutgoingRecord {
                topic: ESCALATIONS.into(),
                key: Some(case.session.as_bytes().to_vec()),
                value: case.value.clone(),
                headers: Vec::new(),
            };
            receipts.push(self.publisher.enqueue(&record).await?.acknowledged());
        }
        try_join_all(receipts).await
    }

    /// Stops everything; returns what Desk recorded and which offsets were committed.
    pub(super) async fn stop(
        self,
        cases: &[DemoCase],
    ) -> anyhow::Result<(DeskObservations, GroupOffsets)> {
        let Self { broker, desk, config, publisher, folder } = self;
        desk.stop().await;
        let report = |case: &DemoCase| Some((case.session.clone(), desk.session(&case.session)?));
        let sessions = cases.iter().filter_map(report).collect();
        let observations = DeskObservations { calls: desk.stats().calls, sessions };
        // Both the query of the offsets and the drop of the clients block the thread.
        let query = spawn_blocking(move || {
            let standing =
                ClusterProbe::new(config.kafka, LIMIT)?.group_offsets(PARTITIONS as usize);
            drop((publisher, broker));
            standing.map_err(|fault| anyhow!("the offsets of the group cannot be read: {fault:?}"))
        });
        let offsets = query.await??;
        drop(folder);
        Ok((observations, offsets))
    }
}

/// Starts a broker with the three topics.
pub(super) fn start_broker() -> anyhow::Result<EmbeddedBroker> {
    EmbeddedBroker::start(&[(ESCALATIONS, PARTITIONS), (OUTCOMES, PARTITIONS), (DEAD_LETTERS, 1)])
}

/// The variables that configure a service for this broker and this Desk.
fn environment(
    broker: &EmbeddedBroker,
    desk: &SimulatedDesk,
    folder: &Path,
) -> Vec<(String, String)> {
    let (admin, key) = desk.credentials();
    let pairs = [
        ("KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers().to_owned()),
        ("KAFKA__GROUP_ID", GROUP.into()),
        ("KAFKA__ESCALATIONS_TOPIC", ESCALATIONS.into()),
        ("KAFKA__OUTCOMES_TOPIC", OUTCOMES.into()),
        ("KAFKA__DEAD_LETTERS_TOPIC", DEAD_LETTERS.into()),
        // Joining by the older protocol takes seconds here, and the embedded broker answers a fetch
        // only when its wait is over.
        ("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer".into()),
        ("KAFKA__CONSUMER_PROPERTIES__FETCH_WAIT_MAX_MS", "10".into()),
        ("KAFKA__PRODUCER_PROPERTIES__LINGER_MS", "5".into()),
        ("DESK__ENDPOINT", desk.endpoint()),
        ("DESK__SDKAPPID", admin.sdkappid.to_string()),
        ("DESK__IDENTIFIER", admin.identifier),
        ("DESK__SECRET_KEY", key.expose_secret().to_owned()),
        // Below `settle_ms`, so that a call without an answer times out first.
        ("DESK__TIMEOUT_MS", "2000".into()),
        ("DESK__QUOTA_PER_SECOND", "0".into()),
        ("DRAIN__TIMEOUT_MS", "3000".into()),
        ("LEDGER__URL", format!("sqlite://{}", folder.join("ledger.db").display())),
        ("ADMIN__LISTEN", "127.0.0.1:0".into()),
    ];
    pairs.into_iter().map(|(key, value)| (format!("HANDOFF__{key}"), value)).collect()
}
