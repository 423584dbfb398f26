//! The service's consumer: a thread that polls, hands records to `consume` and serves rebalances.
//!
//! Polling never waits for a delivery. What a rebalance does is in `callbacks`. A client that has
//! failed for good is closed as if all partitions were lost, and after a wait a new one is made, at
//! once where the topic was created again and is not read. Only a configuration that the brokers
//! refuse at the start ends the service.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::RwLock;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::time::Instant;
use tracing::{debug, info};

use super::callbacks::{ConsumerCallbacks, ConsumerDeps};
use super::consumer_failure::{ConsumerFailure, FailureBackoff};
use super::records::to_record;
use super::{KafkaSettings, RefusedConfiguration, plain};
use crate::clock::Rng;
use crate::consume::Source;
use crate::health::FaultKind;
use crate::telemetry::log_throttle::{LogThrottle, warn_throttled};

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(100);
/// The most records that are handed to `consume` in one message.
const BATCH: usize = 32;
/// How often a wait for the next client renews the lease and looks for the stop.
const WAIT_STEP: Duration = Duration::from_millis(100);
/// A call of `consume`, or a request for where a partition is read from, may use the client that is about
/// to be closed for this long: without its last reference the group is not left.
const LAST_USE: Duration = Duration::from_secs(3);

/// The consumer's thread. It returns an error when only another configuration helps.
pub(crate) type ConsumerThread = JoinHandle<Result<(), RefusedConfiguration>>;

type Client = BaseConsumer<ConsumerCallbacks>;

/// The client in use. Weak: the thread owns it and must be the one that closes it.
type CurrentClient = Arc<RwLock<Weak<Client>>>;

/// The consumer as `consume` sees it: stores offsets, pauses and resumes partitions.
pub(crate) struct KafkaSource {
    client: CurrentClient,
}

impl KafkaSource {
    /// Subscribe to the escalations topic and poll until `deps.stop` is cancelled.
    pub(crate) fn start(
        settings: &KafkaSettings,
        deps: ConsumerDeps,
    ) -> anyhow::Result<(Self, ConsumerThread)> {
        let topic: Arc<str> = settings.topics.escalations.as_str().into();
        let client = CurrentClient::default();
        let source = Self { client: client.clone() };
        let clients = Clients {
            settings: settings.clone(),
            topic,
            current: client,
            client_errors: Arc::default(),
            deps,
        };
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || clients.run())
            .context("failed to start the consumer's thread")?;
        Ok((source, thread))
    }

    fn client(&self) -> Option<Arc<Client>> {
        self.client.read().upgrade()
    }

    fn with_partitions(
        &self,
        partitions: &[i32],
        act: impl FnOnce(&ConsumerCallbacks, &Client, &[i32]) -> KafkaResult<()>,
    ) {
        let Some(client) = self.client() else { return };
        // An error here means that a partition is no longer assigned: nothing to do.
        if let Err(error) = act(client.context(), &client, partitions) {
            debug!(kafka.partitions = ?partitions, %error, "failed to pause or resume");
        }
    }
}

impl Source for KafkaSource {
    fn store(&self, partition: i32, reading: u64, offset: i64) {
        if let Some(client) = self.client() {
            client.context().readings.finish(partition, reading, offset);
        }
    }

    fn pause(&self, partitions: &[i32]) {
        self.with_partitions(partitions, ConsumerCallbacks::pause);
    }

    fn resume(&self, partitions: &[i32]) {
        self.with_partitions(partitions, ConsumerCallbacks::resume);
    }
}

/// The clients of the consumer's thread, one after the other.
struct Clients {
    settings: KafkaSettings,
    topic: Arc<str>,
    current: CurrentClient,
    /// Shared by all clients, so that a new one does not log at once what the last one did.
    client_errors: Arc<LogThrottle>,
    deps: ConsumerDeps,
}

/// How the life of one client has ended.
enum ClientEnd {
    /// The service stops, or `consume` has ended.
    Stopped,
    /// It does not read the topic that was created again.
    Outdated,
    Failed(ConsumerFailure),
}

impl Clients {
    /// Poll with one client after the other until the stop.
    fn run(self) -> Result<(), RefusedConfiguration> {
        let (mut backoff, rng) = (FailureBackoff::default(), Rng::system());
        let throttle = LogThrottle::default();
        loop {
            let made = Instant::now();
            let failure = match self.run_client() {
                ClientEnd::Stopped => return Ok(()),
                ClientEnd::Outdated => continue,
                ClientEnd::Failed(failure) => failure,
            };
            let problem = failure.problem(&self.settings.group_id);
            if failure.is_configuration() && !self.deps.health.has_joined() {
                return Err(RefusedConfiguration(problem));
            }
            self.report(&failure);
            let wait = backoff.after(&failure, made.elapsed(), rng.jitter());
            warn_throttled!(
                throttle,
                error = problem,
                retry_ms = wait.as_millis(),
                "Kafka consumer failed for good, replacing it"
            );
            if !self.wait(wait) {
                return Ok(());
            }
        }
    }

    /// Make a client, poll with it until the stop or its failure, and close it.
    fn run_client(&self) -> ClientEnd {
        let client = match self.create() {
            Ok(client) => client,
            Err(error) => return ClientEnd::Failed(ConsumerFailure::creation(&error)),
        };
        *self.current.write() = Arc::downgrade(&client);
        // After a panic too the consumer has to be closed in order: without `close`, dropping it
        // would wait for ever for a revocation that nobody serves.
        let ended = catch_unwind(AssertUnwindSafe(|| self.poll(&client)));
        if let Ok(ClientEnd::Failed(failure)) = &ended {
            self.report(failure);
        }
        let lost = !matches!(ended, Ok(ClientEnd::Stopped | ClientEnd::Outdated));
        // What finishes during the drain is stored in this client and committed with the rest.
        client.context().end(&client, lost);
        *self.current.write() = Weak::new();
        close(client);
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Until a client has joined the group, `/ready` says why this one has failed.
    fn report(&self, failure: &ConsumerFailure) {
        let fault = failure.fault(&self.settings.group_id);
        let faults = self.deps.health.faults();
        faults.report(FaultKind::ConsumerFailed, Instant::now(), fault);
    }

    fn create(&self) -> anyhow::Result<Arc<Client>> {
        let (settings, topic) = (&self.settings, &self.topic);
        let callbacks = ConsumerCallbacks::new(
            settings,
            topic.clone(),
            self.deps.clone(),
            self.client_errors.clone(),
        );
        let client: Client = settings
            .consumer_config()
            .create_with_context(callbacks)
            .map_err(plain)
            .context("failed to create the Kafka consumer")?;
        info!(kafka.group = settings.group_id, kafka.topic = %topic, "joining the group");
        client.subscribe(&[topic]).with_context(|| format!("failed to subscribe to {topic}"))?;
        let client = Arc::new(client);
        client.context().attach(&client);
        Ok(client)
    }

    /// Poll until stopped, until `consume` has ended, or until the client has failed for good.
    fn poll(&self, client: &Client) -> ClientEnd {
        let callbacks = client.context();
        let mut committed = Instant::now();
        while !self.deps.stop.is_cancelled() {
            self.deps.lease.renew();
            callbacks.check_coordinator();
            callbacks.release_drained(client);
            callbacks.follow_topic(client);
            if committed.elapsed() >= self.settings.commit_interval() {
                committed = Instant::now();
                callbacks.commit_soon(client);
                callbacks.fetch_again(client);
            }
            let (mut wait, mut polled_records) = (POLL, 0);
            // After the first record take those that are there already, so that `consume` is woken
            // once for all of them.
            while let Some(polled) = client.poll(wait) {
                match polled {
                    Ok(message) => {
                        callbacks.buffer(to_record(&message, &self.topic));
                        polled_records += 1;
                        if polled_records < BATCH {
                            wait = Duration::ZERO;
                            continue;
                        }
                    }
                    Err(KafkaError::PartitionEOF(partition)) => {
                        callbacks.on_fetched_end(partition);
                        wait = Duration::ZERO;
                        continue;
                    }
                    Err(KafkaError::MessageConsumptionFatal(code)) => {
                        let (code, cause) = client
                            .client()
                            .fatal_error()
                            .unwrap_or_else(|| (code, code.to_string()));
                        return ClientEnd::Failed(ConsumerFailure::fatal(code, cause));
                    }
                    Err(error) => callbacks.on_error(&error),
                }
                break;
            }
            if callbacks.flush().is_err() {
                break;
            }
            // After the poll, which takes what was fetched while this thread was busy elsewhere.
            if callbacks.needs_new_client() {
                return ClientEnd::Outdated;
            }
        }
        ClientEnd::Stopped
    }

    /// Wait before the next client is made; false if the service stops meanwhile.
    fn wait(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            if self.deps.stop.is_cancelled() || self.deps.inbound.is_closed() {
                return false;
            }
            // Nothing is assigned, and waiting here is neither a pause nor a stall.
            self.deps.lease.renew();
            sleep(WAIT_STEP);
        }
        true
    }
}

/// Leave the group.
fn close(mut client: Arc<Client>) {
    // Dropping the last reference closes the consumer, which leaves the group and serves callbacks
    // meanwhile: `consume` must not be the one that drops it.
    let until = Instant::now() + LAST_USE;
    while let Err(shared) = Arc::try_unwrap(client) {
        if Instant::now() >= until {
            // A commit that is blocked for want of a broker has the other reference.
            break;
        }
        client = shared;
        sleep(Duration::from_millis(1));
    }
}
