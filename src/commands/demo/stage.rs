//! What stands around the worker in the demo: the broker and Desk, and the worker's configuration.
//!
//! The worker is configured as everybody's is, from the defaults and the environment; only that
//! this environment is made here. This file never judges what came.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::try_join_all;
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;

use super::cast;
use super::scene::Scene;
use super::scratch::Scratch;
use super::watch::Watch;
use super::worker::Worker;
use crate::adapters::kafka::{Outgoing, Probe, Publisher, Standing};
use crate::config::{self, Config};
use crate::domain::record::Position;
use crate::sim::broker::Broker;
use crate::sim::desk::{Desk, Options, Script, SessionReport, Span};
use crate::telemetry;

const ESCALATIONS: &str = "handoff.escalations";
const OUTCOMES: &str = "handoff.outcomes";
const DEAD_LETTERS: &str = "handoff.dead-letters";
const GROUP: &str = "handoff";
const PARTITIONS: i32 = 4;
const LIMIT: Duration = Duration::from_secs(10);
/// The least and the most time that a call to Desk takes.
const LATENCY_MS: (u64, u64) = (20, 60);

/// Broker and Desk, and the worker's configuration.
pub(super) struct Stage {
    broker: Broker,
    desk: Desk,
    config: Config,
    publisher: Publisher,
    scratch: Scratch,
}

/// What Desk has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct DeskFacts {
    /// Calls of all kinds.
    pub(super) calls: u64,
    /// The sessions that are known, by id.
    pub(super) sessions: HashMap<String, SessionReport>,
}

impl Stage {
    /// Start the broker and Desk, and tell Desk what to do wrong.
    pub(super) fn set(scenes: &[Scene], verbose: bool) -> anyhow::Result<Self> {
        let broker =
            Broker::start(&[(ESCALATIONS, PARTITIONS), (OUTCOMES, PARTITIONS), (DEAD_LETTERS, 1)])?;
        let desk = Desk::start_local(Options {
            latency: Span::between(LATENCY_MS.0, LATENCY_MS.1),
            agents: cast::staff(),
            ..Options::default()
        })?;
        for scene in scenes {
            if let Some(change) = &scene.before {
                desk.change_session(change);
            }
        }
        let acts = scenes.iter().flat_map(|scene| scene.acts.clone()).collect();
        desk.script(Script { acts, ..Script::default() });
        let scratch = Scratch::new()?;
        let config = config::load(None, environment(&broker, &desk, scratch.path()))
            .context("the demo's own configuration is wrong")?;
        if verbose {
            telemetry::start_log(&config.log)?;
        }
        let publisher = Publisher::start(&config.kafka, LIMIT)?;
        Ok(Self { broker, desk, config, publisher, scratch })
    }

    /// What is set up here, for people.
    pub(super) fn opening(&self) -> String {
        let (least, most) = LATENCY_MS;
        let settle = self.config.policy.settle.as_secs_f64();
        format!(
            "An embedded Kafka broker, a simulated Desk and the real worker, all in this process. A \
             call to\nDesk takes {least} to {most} ms, and much goes wrong. Where an answer was lost, \
             Desk's own time limit of {settle} s\nis waited for, then Desk is asked who has the \
             session. \"known by\" is Desk's reply, or that state.\n"
        )
    }

    /// Read what the worker publishes.
    pub(super) fn watch(&self) -> anyhow::Result<Watch> {
        Watch::open(&self.config.kafka)
    }

    /// Start the worker, as `handoff run` does.
    pub(super) async fn start_worker(&self) -> anyhow::Result<Worker> {
        Worker::start(self.config.clone()).await
    }

    /// Publish everything at once; says where each record lies.
    pub(super) async fn publish(&self, scenes: &[Scene]) -> anyhow::Result<Vec<Position>> {
        let mut receipts = Vec::with_capacity(scenes.len());
        for scene in scenes {
            let record = Outgoing {
                topic: ESCALATIONS.into(),
                key: Some(scene.session.as_bytes().to_vec()),
                value: scene.value.clone(),
                headers: Vec::new(),
            };
            receipts.push(self.publisher.hand_over(&record).await?.acknowledged());
        }
        try_join_all(receipts).await
    }

    /// End everything; says what Desk has seen and which offsets were committed.
    pub(super) async fn end(self, scenes: &[Scene]) -> anyhow::Result<(DeskFacts, Standing)> {
        let Self { broker, desk, config, publisher, scratch } = self;
        desk.stop().await;
        let report = |scene: &Scene| Some((scene.session.clone(), desk.session(&scene.session)?));
        let sessions = scenes.iter().filter_map(report).collect();
        let facts = DeskFacts { calls: desk.stats().calls, sessions };
        // Asking blocks, and so does everything's end.
        let asking = spawn_blocking(move || {
            let standing = Probe::new(config.kafka, LIMIT)?.standing(PARTITIONS as usize);
            drop((publisher, broker));
            standing.map_err(|fault| anyhow!("the group's offsets are not known: {fault:?}"))
        });
        let standing = asking.await??;
        drop(scratch);
        Ok((facts, standing))
    }
}

/// What somebody would set to run the worker against these two.
fn environment(broker: &Broker, desk: &Desk, folder: &Path) -> Vec<(String, String)> {
    let (admin, key) = desk.credentials();
    let pairs = [
        ("KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers().to_owned()),
        ("KAFKA__GROUP_ID", GROUP.into()),
        ("KAFKA__ESCALATIONS_TOPIC", ESCALATIONS.into()),
        ("KAFKA__OUTCOMES_TOPIC", OUTCOMES.into()),
        ("KAFKA__DEAD_LETTERS_TOPIC", DEAD_LETTERS.into()),
        // The embedded broker is slow with the older protocol, and never ends a fetch early.
        ("KAFKA__CONSUMER_PROPERTIES__GROUP_PROTOCOL", "consumer".into()),
        ("KAFKA__CONSUMER_PROPERTIES__FETCH_WAIT_MAX_MS", "10".into()),
        ("KAFKA__PRODUCER_PROPERTIES__LINGER_MS", "5".into()),
        ("DESK__ENDPOINT", desk.endpoint()),
        ("DESK__SDKAPPID", admin.sdkappid.to_string()),
        ("DESK__IDENTIFIER", admin.identifier),
        ("DESK__SECRET_KEY", key.expose_secret().to_owned()),
        // So that the wait for an answer that never comes ends before `settle_ms`.
        ("DESK__TIMEOUT_MS", "2000".into()),
        ("DESK__QUOTA_PER_SECOND", "0".into()),
        ("DRAIN__TIMEOUT_MS", "3000".into()),
        ("LEDGER__URL", format!("sqlite://{}", folder.join("ledger.db").display())),
        ("ADMIN__LISTEN", "127.0.0.1:0".into()),
    ];
    pairs.into_iter().map(|(key, value)| (format!("HANDOFF__{key}"), value)).collect()
}
