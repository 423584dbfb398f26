//! Apache Kafka: the service's consumer on a thread of its own and its producer; for the other
//! commands a reader, an excerpt, a publisher that reports, and questions to the cluster.
//!
//! Client properties are put together here from the settings; what the team passes through
//! goes last, except where `handoff` depends on a value (offsets are stored by us).
//! This folder never decides what to consume, publish or commit.

mod admin;
mod consumer;
mod excerpt;
mod line;
mod lookup;
mod probe;
mod producer;
mod publisher;
mod quiet;
mod reader;
mod rebalance;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::domain::wire::outcome::Channel;

pub use admin::{create_topics, missing_topics, partitions};
pub use consumer::{Consumer, Thread};
pub use excerpt::{Edge, Excerpt};
pub use probe::{Fault, Limits, Probe, Standing, Topic};
pub use producer::Producer;
pub use publisher::{Outgoing, Publisher, Receipt};
pub use reader::{Reader, Start};
pub use rebalance::Handle;

/// So long a drain may take beyond its budget: to signal its end, to publish and to commit.
pub const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// librdkafka's default, and Kafka's for groups that the broker runs.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// librdkafka's default.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// What the clients need to know.
#[derive(Clone)]
pub struct Settings {
    /// Where the brokers are.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// The topics.
    pub topics: Topics,
    /// Passed through to both clients.
    pub properties: BTreeMap<String, String>,
    /// Passed through to the consumer only.
    pub consumer_properties: BTreeMap<String, String>,
    /// Passed through to the producers only.
    pub producer_properties: BTreeMap<String, String>,
}

/// The topics.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Escalations are read from here.
    pub escalations: String,
    /// Outcomes go here.
    pub outcomes: String,
    /// Dead letters go here.
    pub dead_letters: String,
    /// Make the ones that are missing at start.
    pub create: bool,
}

impl Topics {
    /// Where messages of this channel go.
    pub fn of(&self, channel: Channel) -> &str {
        match channel {
            Channel::Outcomes => &self.outcomes,
            Channel::DeadLetters => &self.dead_letters,
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the properties: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Properties of any client.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", "handoff");
        config.extend(self.properties.clone());
        let tls = config.get("security.protocol").is_some_and(|p| p.to_lowercase().contains("ssl"));
        if tls && config.get("ssl.ca.location").is_none() {
            // The built-in OpenSSL looks in no usual place for the system's certificates.
            config.set("ssl.ca.location", "probe");
        }
        config
    }

    /// The consumer knows every property and takes its value; asks no broker.
    pub fn verify_consumer(&self) -> anyhow::Result<()> {
        verify(&self.consumer_config(), "consumer")
    }

    /// The same of the producer.
    pub fn verify_producer(&self) -> anyhow::Result<()> {
        verify(&self.producer_config(), "producer")
    }

    /// Properties of the service's consumer.
    pub fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        let own = |name: &str| self.property(name).is_some();
        config.set("auto.offset.reset", "earliest");
        config.set("auto.commit.interval.ms", "1000");
        // librdkafka's own 64 MiB and 100,000 records would come on top of our bounds. A little of
        // each partition at a time, so that none waits behind all that another one has.
        config.set("queued.max.messages.kbytes", "4096").set("queued.min.messages", "2000");
        config.set("fetch.message.max.bytes", "131072");
        // A full queue is looked at again soon: by default it stays empty for up to a second.
        config.set("fetch.queue.backoff.ms", "10");
        config.set("fetch.wait.max.ms", "100");
        if !self.is_run_by_broker() {
            // That somebody comes or goes is heard of with a heartbeat.
            config.set("heartbeat.interval.ms", "1000");
            if !own("partition.assignment.strategy") {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
        }
        config.extend(self.properties.clone());
        config.extend(self.consumer_properties.clone());
        config.set("group.id", &self.group_id);
        // The sign that the group is heard of.
        config.set("statistics.interval.ms", "1000");
        // Offsets are stored by us, below the watermark only, and committed by librdkafka.
        config.set("enable.auto.commit", "true").set("enable.auto.offset.store", "false");
        config
    }

    /// Properties of a consumer that belongs to no group: it neither joins nor commits.
    ///
    /// librdkafka wants a group's name all the same; the configured one is the likeliest to be
    /// allowed.
    pub fn reader_config(&self) -> ClientConfig {
        let mut config = self.consumer_config();
        config.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.remove("group.instance.id");
        config.remove("statistics.interval.ms");
        config
    }

    /// Properties of the producers.
    pub fn producer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.set("linger.ms", "1");
        // Above any record that could be consumed: a dead letter is the record and its headers.
        config.set("message.max.bytes", "67108864");
        config.set("queue.buffering.max.kbytes", "65536");
        config.extend(self.properties.clone());
        config.extend(self.producer_properties.clone());
        config.set("enable.idempotence", "true").set("acks", "all");
        // Never given up: a message that timed out might be there all the same.
        config.set("message.timeout.ms", "0");
        config
    }

    /// Whether the broker runs the group (KIP-848); then it also sets what clients would set.
    pub fn is_run_by_broker(&self) -> bool {
        self.property("group.protocol").is_some_and(runs_by_broker)
    }

    /// After so long without a heartbeat the broker thinks the consumer dead. Where the broker
    /// runs the group it may have been given another value.
    pub fn session_timeout(&self) -> Duration {
        self.time("session.timeout.ms").unwrap_or(SESSION_TIMEOUT)
    }

    /// The consumer loses its partitions when it has not polled for so long.
    pub fn max_poll_interval(&self) -> Duration {
        self.time("max.poll.interval.ms").unwrap_or(MAX_POLL_INTERVAL)
    }

    fn time(&self, name: &str) -> Option<Duration> {
        self.property(name)?.parse().ok().map(Duration::from_millis)
    }

    /// A property as the consumer gets it from the team.
    fn property(&self, name: &str) -> Option<&str> {
        self.consumer_properties.get(name).or(self.properties.get(name)).map(String::as_str)
    }
}

/// Whether this value of `group.protocol` leaves the group to the broker; librdkafka reads it in
/// any case.
pub fn runs_by_broker(group_protocol: &str) -> bool {
    group_protocol.eq_ignore_ascii_case("consumer")
}

fn verify(config: &ClientConfig, own: &str) -> anyhow::Result<()> {
    config
        .create_native_config()
        .map(drop)
        .map_err(plain)
        .with_context(|| format!("check [kafka.properties] and [kafka.{own}_properties]"))
}

/// What is said where no broker answers.
fn no_answer(settings: &Settings) -> String {
    format!(
        "no answer from {}: see that kafka.bootstrap_servers names the brokers, that they run, and \
         that security.protocol and its kin are theirs",
        settings.bootstrap_servers
    )
}

/// An error as it may be shown: not the value of a property, which may be a password, and not the
/// code twice.
fn plain(error: KafkaError) -> anyhow::Error {
    match (&error, error.rdkafka_error_code()) {
        (KafkaError::ClientConfig(_, text, ..), _) => anyhow!("{text}"),
        (_, Some(code)) => code.into(),
        (_, None) => error.into(),
    }
}
