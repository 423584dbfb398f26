//! The composition root: builds every part from the configuration and runs the service through its
//! phases.
//!
//! build -> open the ledger -> create and wait for topics -> consume -> drain -> flush -> stop
//!
//! [`Service::run`] holds the phases around the ledger, [`Service::run_with_ledger`] those inside.
//! The system clock and the random source enter here.

mod admin_port;
mod observe;
mod prune;
mod reload;
mod systemd;
mod topics;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::admin_port::listen;

use self::admin_port::serve_admin;
use self::prune::prune;
use self::reload::Reloaded;
use self::systemd::ServiceState;
pub(crate) use self::systemd::SystemdNotify;
use self::topics::topics_problem;
use crate::activity::Activity;
use crate::adapters::admin::{AdminSettings, View};
use crate::adapters::{desk, kafka, ledger};
use crate::clock::{Clock, Rng};
use crate::config::{Config, Reloader};
use crate::consume::{IntakeSettings, consume};
use crate::deliver::{Context, Ports, SharedPolicy, SharedRules};
use crate::gate::{Gate, GateSettings};
use crate::health::Health;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::task::spawn_owned;
use crate::telemetry::{DeadLetterLog, Metrics, Traces, watch_clock};

/// Messages between the consumer's thread and the consuming task, each with many records. Few, so
/// that a pause of the intake takes effect at once.
const INBOUND_MESSAGES: usize = 4;
/// How long past its deadline and grace an event may be unfinished before `/health` fails.
const OVERDUE: Duration = Duration::from_secs(60);
/// The pause between two of these looks.
const TOPIC_LOOKUP_INTERVAL: Duration = Duration::from_secs(2);
/// How long one attempt to create topics waits for the brokers, and the pause between two attempts.
const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the producer may flush after the drain, which has waited for everything that counts.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the last spans may take to be exported, while the ledger closes.
const TRACES_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The service ends this long after its drain budget whatever is down, with a second to spare for the
/// exit itself: docs/operations.md gives orchestrators 5 s.
const STOP_OVERHEAD: Duration = Duration::from_secs(4);
/// How long the ledger may write what it still has at the end.
const LEDGER_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The service, built from its configuration. Nothing runs yet.
pub struct Service {
    kafka: kafka::KafkaSettings,
    producer: kafka::OutcomeProducer,
    desk: desk::DeskClient,
    gate: Arc<Gate>,
    policy: SharedPolicy,
    reloader: Option<Reloader>,
    systemd: Option<SystemdNotify>,
    ledger: ledger::LedgerSettings,
    retention: Duration,
    intake: IntakeSettings,
    lease: Arc<Lease>,
    health: Arc<Health>,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
    traces: Traces,
    admin: AdminSettings,
}

/// What runs beside the service until it stops.
#[derive(Default)]
pub struct Companions {
    /// The admin port.
    admin: Option<(TcpListener, View)>,
    /// Tasks that must not end before the service does.
    tasks: JoinSet<()>,
}

/// Build the service and run it until `shutdown`, then drain.
pub async fn run(
    config: Config,
    listener: Option<TcpListener>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    Service::build(config)?.run(listener, shutdown).await
}

/// A client for Desk's API with the system clock.
pub(crate) fn desk_client(settings: desk::DeskClientSettings) -> anyhow::Result<desk::DeskClient> {
    desk::DeskClient::new(settings, Clock::system(), Rng::system())
}

impl Service {
    /// Build every part; an error here is one of the configuration.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        config.kafka.verify_consumer()?;
        config.kafka.verify_producer()?;
        let (metrics, traces) = (Arc::new(observe::metrics(&config)), observe::traces(&config)?);
        let gate = GateSettings {
            breaker: config.gate,
            quota_per_second: config.quota_per_second,
            concurrency: config.concurrency,
            retry_budget: config.retry_budget,
            call_timeout: config.desk.timeout,
        };
        let gate = Gate::new(gate, metrics.clone());
        // No calls before the first assignment: the share of the quota comes with the partitions.
        gate.set_share(&[], &[], 1);
        let lease = Arc::new(Lease::new(config.kafka.max_coordinator_silence()));
        let health = Arc::new(Health::new(lease.clone(), config.policy.doubt_grace + OVERDUE));
        let rng = Rng::system();
        let owner = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()).into();
        Ok(Self {
            producer: kafka::OutcomeProducer::start(
                &config.kafka,
                lease.clone(),
                Clock::system(),
                health.clone(),
                metrics.clone(),
            )?,
            desk: desk_client(config.desk)?.with_expiry_gauge(metrics.signature_expiry.clone()),
            gate,
            policy: SharedPolicy::new(config.policy),
            reloader: None,
            systemd: None,
            ledger: ledger::LedgerSettings {
                url: config.ledger,
                owner,
                clock: Clock::system(),
                write_duration: metrics.ledger_write.clone(),
            },
            retention: config.retention,
            intake: IntakeSettings {
                topic: config.kafka.topics.escalations.as_str().into(),
                rules: SharedRules::new(config.rules),
                limits: config.intake,
                drain: config.drain_timeout,
            },
            lease,
            health,
            activity: Activity::new(Clock::system()),
            metrics,
            traces,
            admin: config.admin,
            kafka: config.kafka,
        })
    }

    /// Take new versions of the configuration file while the service runs.
    #[must_use]
    pub fn reloading(self, reloader: Option<Reloader>) -> Self {
        Self { reloader, ..self }
    }

    /// Tell systemd how the service is.
    #[must_use]
    pub(crate) fn notifying(self, systemd: Option<SystemdNotify>) -> Self {
        Self { systemd, ..self }
    }

    /// Run until `shutdown`, then drain. Ends within the drain budget and [`STOP_OVERHEAD`] after
    /// `shutdown` or a fault: whatever has not stopped by then is left as after a crash.
    pub async fn run(
        self,
        listener: Option<TcpListener>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let limit = self.intake.drain + STOP_OVERHEAD;
        // A child, because a fault stops the service, too, and must not look like a signal.
        let stop = shutdown.child_token();
        let stopping = stop.clone();
        let time_is_up = async {
            stopping.cancelled().await;
            sleep(limit).await;
        };
        tokio::select! {
            ended = self.run_to_end(listener, stop) => ended,
            () = time_is_up => {
                warn!("stop exceeded its time; the next start reconciles what is missing");
                let by_signal = shutdown.is_cancelled();
                by_signal.then_some(()).context("a part of the service ended by a fault")
            }
        }
    }

    async fn run_to_end(
        mut self,
        listener: Option<TcpListener>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (ledger, writer) =
            ledger::open(&self.ledger).await.context("failed to open the ledger")?;
        // The writer ends once every clone of `ledger` is dropped and everything is written. This
        // clone keeps it running, so that it ends before the service only by a fault.
        let keeps_writer_running = ledger.clone();
        let mut writer = spawn_owned(writer);
        let mut companions = Companions::default();
        let kafka = self.kafka.clone();
        companions.tasks.spawn(prune(ledger.clone(), self.retention, kafka));
        let watch = ledger::watch_files(self.ledger.url.clone(), self.metrics.clone());
        companions.tasks.spawn(watch);
        companions.tasks.spawn(watch_clock(Clock::system()));
        if let Some(reloader) = self.reloader.take() {
            let (policy, rules) = (self.policy.clone(), self.intake.rules.clone());
            let reloaded = Reloaded { policy, rules, metrics: self.metrics.clone() };
            companions.tasks.spawn(reloaded.watch(reloader));
        }
        let observed = ledger.clone();
        let outage = Arc::new(move || observed.outage());
        let view = self.view(outage);
        if let Some(systemd) = self.systemd.take() {
            let view = view.clone();
            let state =
                move || ServiceState { stalled: view.stalled(), not_ready: view.not_ready() };
            companions.tasks.spawn(systemd.report(state, shutdown.clone()));
        }
        companions.admin = listener.map(|listener| (listener, view));
        let traces = self.traces.clone();
        let metrics = self.metrics.clone();
        let sample = self.activity.clone().sample(move || metrics.unfinished_events());
        companions.tasks.spawn(sample);
        let ended = tokio::select! {
            ended = self.run_with_ledger(ledger, companions, shutdown) => ended,
            finished = &mut writer => {
                finished.context("the ledger's writer ended")?;
                return Err(anyhow!("the ledger's writer ended"));
            }
        };
        drop(keeps_writer_running);
        let flushed = spawn_blocking(move || traces.shutdown(TRACES_FLUSH_TIMEOUT));
        let (closed, flushed) = tokio::join!(timeout(LEDGER_CLOSE_TIMEOUT, writer), flushed);
        flushed.context("the export of traces ended")?;
        if closed.is_err() {
            warn!("ledger unavailable at shutdown; the next start reconciles what is missing");
        }
        info!("stopped");
        ended
    }

    /// Run on this ledger until `shutdown`, then drain.
    pub async fn run_with_ledger<L: Ledger>(
        self,
        ledger: L,
        companions: Companions,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let Companions { admin, mut tasks } = companions;
        let stop = CancellationToken::new();
        tasks.spawn(self.gate.clone().drive());
        tasks.spawn(self.producer.clone().watch());
        if let Some((listener, view)) = admin {
            info!(admin = %listener.local_addr()?, "listening");
            tasks.spawn(serve_admin(listener, view, stop.clone()));
        }
        if self.kafka.topics.create {
            self.create_topics(&shutdown).await;
        }
        self.wait_for_topics(&shutdown).await;
        let producer = self.producer.clone();
        // Stopped while it waited for topics: it need not join a group only to leave it.
        let ended = if shutdown.is_cancelled() {
            Ok(())
        } else {
            self.consume(ledger, &shutdown, &mut tasks).await
        };
        stop.cancel();
        spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await?;
        tasks.shutdown().await;
        ended
    }

    /// Wait until all topics exist: nothing is called before its outcome can be published.
    async fn wait_for_topics(&self, shutdown: &CancellationToken) {
        let mut reported = None;
        while !shutdown.is_cancelled() {
            let problem = tokio::select! {
                problem = topics_problem(self.kafka.clone()) => problem,
                () = shutdown.cancelled() => break,
            };
            let Some(problem) = problem else { break };
            // It may wait for days: log each problem once.
            if reported.as_ref() != Some(&problem.what) {
                error!(error = problem.text, "waiting to start");
                reported = Some(problem.what);
            }
            self.report_waiting_for(problem.text);
            pause(TOPIC_LOOKUP_INTERVAL, shutdown).await;
        }
        self.health.set_waiting_for(None);
    }

    /// Create the missing topics; while no broker answers, try again.
    async fn create_topics(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match kafka::create_topics(&self.kafka, TOPIC_CREATION_TIMEOUT).await {
                // A topic that was refused is then missing, and waited for.
                Ok(refused) => {
                    return refused.iter().for_each(|problem| warn!(problem, "topic not created"));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    warn!(error, "failed to create topics; will retry");
                    self.report_waiting_for(error);
                }
            }
            pause(TOPIC_CREATION_TIMEOUT, shutdown).await;
        }
    }

    /// Nobody polls before the start, and waiting for it is not stalling: a restart would not help.
    fn report_waiting_for(&self, problem: String) {
        self.health.set_waiting_for(Some(problem));
        self.lease.renew();
        self.health.report_progress();
    }

    /// Consume and deliver until `shutdown` and the drain after it, or until a part ends by a
    /// fault.
    async fn consume<L: Ledger>(
        self,
        ledger: L,
        shutdown: &CancellationToken,
        companions: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let (inbound, received) = mpsc::channel(INBOUND_MESSAGES);
        let deps = kafka::ConsumerDeps {
            inbound,
            drain: self.intake.drain,
            lease: self.lease.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            stop: shutdown.clone(),
        };
        // The topics were just found.
        self.health.report_broker_contact(Duration::ZERO);
        companions.spawn(kafka::watch_reading(self.kafka.clone(), self.health.clone()));
        let (source, thread) = kafka::KafkaSource::start(&self.kafka, deps)?;
        let context = Context::<RealPorts<L>> {
            desk: self.desk,
            outcomes: self.producer,
            ledger,
            gate: self.gate,
            policy: self.policy,
            clock: Clock::system(),
            rng: Rng::system(),
            lease: self.lease,
            health: self.health,
            activity: self.activity,
            metrics: self.metrics,
            dead_letter_log: DeadLetterLog::default(),
            traces: self.traces,
        };
        let mut consuming = spawn_owned(consume(received, source, self.intake, Arc::new(context)));
        // Which part ended first, and whether by a fault.
        let first_end = tokio::select! {
            ended = &mut consuming => ended.context("consuming ended"),
            companion = companions.join_next() => match companion {
                Some(Err(error)) => Err(error).context("a part of the service ended"),
                _ => Err(anyhow!("the admin port ended")),
            },
        };
        // Drain: the thread leaves the group, for which `consuming` finishes the partitions first.
        shutdown.cancel();
        let left_group = spawn_blocking(move || thread.join()).await?;
        // A task that has ended must not be awaited a second time.
        let drained = if consuming.is_finished() { Ok(()) } else { consuming.await };
        first_end?;
        drained.context("consuming ended")?;
        left_group.map_err(|_| anyhow!("the consumer's thread panicked"))??;
        Ok(())
    }
}

/// The ports of the service, on any ledger.
struct RealPorts<L>(PhantomData<L>);

impl<L: Ledger> Ports for RealPorts<L> {
    type Desk = desk::DeskClient;
    type Outcomes = kafka::OutcomeProducer;
    type Ledger = L;
}

/// Sleep for `duration`, at most until `shutdown`.
async fn pause(duration: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sleep(duration) => {}
    }
}
