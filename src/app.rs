//! The composition root: build every part from the configuration, start, run, drain, stop.
//!
//! Here, and only here, the real clock and real chance enter.
//! This file never decides anything about an escalation.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::adapters::admin::{self, View};
use crate::adapters::{desk, kafka, ledger};
use crate::clock::{Clock, Rng};
use crate::config::Config;
use crate::consume::{IntakeLimits, IntakeSettings, consume};
use crate::deliver::{Context, Ports};
use crate::domain::course::Policy;
use crate::gate::Gate;
use crate::health::Health;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::telemetry::Metrics;

/// Why the ledger does not work, if it does not.
type Problem = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Messages, of some records each, between the consumer's thread and the consuming task.
const INBOUND: usize = 4;
/// How long an event may be unsettled past its deadline and grace before that is unhealthy.
const OVERDUE: Duration = Duration::from_secs(60);
/// The wait for brokers when missing topics are looked for at start, and between two looks.
const LOOK_FOR_TOPICS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The wait for brokers when topics are created at start.
const CREATE_TOPICS: Duration = Duration::from_secs(10);

/// At the end, the wait for the ledger to write what it was told.
const LEDGER_LIMIT: Duration = Duration::from_secs(10);
/// Between two prunings of the ledger.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// The client for Desk, with the real clock.
pub fn desk_client(settings: desk::Settings) -> anyhow::Result<desk::Client> {
    desk::Client::new(settings, Clock::system(), Rng::system())
}

/// Open the admin port.
pub async fn listen(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on admin.listen {address}"))?;
    Ok(Some(listener))
}

/// Run the service until `shutdown`, then drain.
pub async fn run(
    config: Config,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    Service::build(config)?.run(listener, shutdown).await
}

impl Service {
    /// Run until `shutdown`, then drain.
    pub async fn run(
        self,
        listener: Option<TcpListener>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (ledger, work) = ledger::open(&self.ledger)
            .await
            .with_context(|| format!("failed to open the ledger {}", self.ledger.place))?;
        // It ends when the last of its users has gone, so that nothing written is lost.
        let mut writer = JoinSet::new();
        writer.spawn(work);
        let mut helpers = JoinSet::new();
        helpers.spawn(prune(ledger.clone(), self.retention));
        let asked = ledger.clone();
        let problem = Arc::new(move || asked.problem());
        let admin = listener.map(|listener| (listener, self.view(problem)));
        // As long as this is held, the writer ends only by a fault.
        let held = ledger.clone();
        let ended = tokio::select! {
            ended = self.run_on(ledger, (admin, helpers), shutdown) => ended,
            Some(writer) = writer.join_next() => {
                writer.context("the ledger's writer ended")?;
                Err(anyhow!("the ledger's writer ended"))
            }
        };
        drop(held);
        if timeout(LEDGER_LIMIT, writer.join_next()).await.is_err() {
            warn!("the ledger is away; what it was not told is found out after the next start");
        }
        info!("stopped");
        ended
    }

    /// The same on a ledger of the caller's, with the tasks that shall run beside it.
    pub async fn run_on<L: Ledger>(
        self,
        ledger: L,
        (admin, mut helpers): (Option<(TcpListener, View)>, JoinSet<()>),
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        helpers.spawn(self.gate.clone().drive());
        if let Some((listener, view)) = admin {
            info!(admin = %listener.local_addr()?, "listening");
            helpers.spawn(admin_port(listener, view, stop.clone()));
        }
        if self.kafka.topics.create {
            create_topics(&self.kafka, &shutdown).await;
        }
        await_topics(&self.kafka, (&self.lease, &self.health), &shutdown).await;
        let producer = self.producer.clone();
        let ended = if shutdown.is_cancelled() {
            // It was stopped while it waited: there is no group to join only to leave it.
            Ok(())
        } else {
            self.consume(ledger, &shutdown, &mut helpers).await
        };
        stop.cancel();
        spawn_blocking(move || producer.flush(Duration::from_secs(1))).await?;
        helpers.shutdown().await;
        ended
    }

    /// Consume until `shutdown`, or until something that everything rests on ends.
    async fn consume<L: Ledger>(
        self,
        ledger: L,
        shutdown: &CancellationToken,
        helpers: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let (inbound, received) = mpsc::channel(INBOUND);
        let handle = kafka::Handle {
            inbound,
            drain: self.intake.drain,
            lease: self.lease.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            stop: shutdown.clone(),
        };
        let (source, thread) = kafka::Consumer::start(&self.kafka, handle)?;
        let context = Context::<Real<L>> {
            desk: self.desk,
            outcomes: self.producer,
            ledger,
            gate: self.gate,
            policy: self.policy,
            clock: Clock::system(),
            rng: Rng::system(),
            lease: self.lease.clone(),
            health: self.health,
            metrics: self.metrics,
        };
        let mut main = JoinSet::new();
        main.spawn(consume(received, source, self.intake, Arc::new(context)));
        let helper = tokio::select! {
            ended = main.join_next() => ended.unwrap_or(Ok(())).context("consuming ended"),
            helper = helpers.join_next() => match helper {
                Some(Err(error)) => Err(error).context("a part of the worker ended"),
                _ => Err(anyhow!("the admin port ended")),
            },
        };
        shutdown.cancel();
        let ended = spawn_blocking(move || thread.join()).await?;
        while main.join_next().await.is_some() {}
        helper?;
        ended.map_err(|_| anyhow!("the consumer's thread panicked"))?
    }

    fn view(&self, ledger: Problem) -> View {
        View {
            health: self.health.clone(),
            gate: self.gate.clone(),
            metrics: self.metrics.clone(),
            ledger,
            clock: Clock::system(),
        }
    }
}

async fn admin_port(listener: TcpListener, view: View, stop: CancellationToken) {
    if let Err(error) = admin::serve(listener, view, stop).await {
        warn!("the admin port ended: {error}");
    }
}

/// Forget, every hour, what was published long ago.
async fn prune(ledger: ledger::Ledger, retention: Duration) {
    loop {
        let before = Clock::system().now().saturating_sub(retention).unwrap_or(Timestamp::MIN);
        let rows = ledger.prune(before).await;
        if rows > 0 {
            info!(rows, "pruned the ledger");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// The real ports, on some ledger.
struct Real<L>(PhantomData<L>);

impl<L: Ledger> Ports for Real<L> {
    type Desk = desk::Client;
    type Outcomes = kafka::Producer;
    type Ledger = L;
}

/// The service, built from the configuration, nothing running yet.
pub struct Service {
    kafka: kafka::Settings,
    producer: kafka::Producer,
    desk: desk::Client,
    gate: Arc<Gate>,
    policy: Policy,
    ledger: ledger::Settings,
    retention: Duration,
    intake: IntakeSettings,
    lease: Arc<Lease>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Service {
    /// Build every part; what fails here is wrong in the configuration.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        config.kafka.verify_consumer()?;
        config.kafka.verify_producer()?;
        let metrics = Arc::new(Metrics::new());
        let quota = config.quota_per_second;
        let gate = Gate::new(config.gate, quota, config.concurrency, metrics.clone());
        // The share of the quota comes with the partitions.
        gate.set_share(&[], &[], 1);
        let lease = Arc::new(Lease::new());
        let health = Arc::new(Health::new(lease.clone(), config.policy.doubt_grace + OVERDUE));
        let rng = Rng::system();
        let owner = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()).into();
        Ok(Self {
            producer: kafka::Producer::start(&config.kafka, lease.clone(), Clock::system())?,
            desk: desk_client(config.desk)?,
            gate,
            policy: config.policy,
            ledger: ledger::Settings { place: config.ledger, owner, clock: Clock::system() },
            retention: config.retention,
            intake: IntakeSettings {
                topic: config.kafka.topics.escalations.as_str().into(),
                rules: config.rules,
                limits: IntakeLimits {
                    max_events: config.intake.max_events,
                    max_bytes: config.intake.max_bytes,
                    max_span: config.intake.max_span,
                },
                drain: config.drain_timeout,
            },
            lease,
            health,
            metrics,
            kafka: config.kafka,
        })
    }
}

/// Nothing begins before there is where to publish: what is missing is told until it is there.
async fn await_topics(
    settings: &kafka::Settings,
    (lease, health): (&Lease, &Health),
    shutdown: &CancellationToken,
) {
    let mut told = None;
    while !shutdown.is_cancelled() {
        let asked = settings.clone();
        let look = spawn_blocking(move || kafka::missing_topics(&asked, LOOK_FOR_TOPICS));
        let missing = tokio::select! {
            missing = look => missing,
            () = shutdown.cancelled() => break,
        };
        let problem = match missing {
            Ok(Ok(missing)) if missing.is_empty() => break,
            Ok(Ok(missing)) => format!(
                "there is no topic {}: make it, or set kafka.create_topics = true",
                missing.join(", ")
            ),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panicked) => panicked.to_string(),
        };
        // A start waits for nobody's patience, but it is no noise either.
        if told.as_ref() != Some(&problem) {
            error!("waiting to start: {problem}");
            told = Some(problem.clone());
        }
        health.set_waiting_for(Some(problem));
        lease.renew();
        health.report_progress();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    health.set_waiting_for(None);
}

/// Create what is missing; an outage of the brokers is waited for.
async fn create_topics(settings: &kafka::Settings, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        match kafka::create_topics(settings, CREATE_TOPICS).await {
            Ok(refused) => return refused.iter().for_each(|text| warn!("{text}")),
            Err(error) => warn!("{error:#}; trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(CREATE_TOPICS) => {}
        }
    }
}
