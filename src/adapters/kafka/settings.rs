//! Connection settings, topic names, and the librdkafka properties of each kind of client.
//!
//! What the operator passes through overrides our defaults, except for the properties that the
//! service's promises rest on: those are set last. `config` rejects attempts to change them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset};

use super::plain;
use super::topic_identity::log_metadata;
use crate::domain::wire::Channel;
use crate::telemetry::TracedNames;

/// A drain may take this much longer than its budget: to report its end, to publish and to commit.
pub(crate) const DRAIN_OVERHEAD: Duration = Duration::from_secs(10);

/// librdkafka's default, and Kafka's for groups of the KIP-848 protocol.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// A message that was not sent within this time is given up: see [`KafkaSettings::message_timeout`].
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// From one commit of finished offsets to the next.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// librdkafka's default.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Two thirds of the default session time-out of Kafka's brokers.
const KIP848_SILENCE: Duration = Duration::from_secs(30);

/// Settings of all Kafka clients.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` pairs.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// The three topics.
    pub topics: TopicNames,
    /// librdkafka properties of all clients.
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties of consumers; they override `properties`.
    pub consumer_properties: BTreeMap<String, String>,
    /// librdkafka properties of producers; they override `properties`.
    pub producer_properties: BTreeMap<String, String>,
}

/// The topics of the service.
#[derive(Debug, Clone)]
pub struct TopicNames {
    /// Escalations are read from here.
    pub escalations: String,
    /// Outcomes are published here.
    pub outcomes: String,
    /// Malformed records are published here.
    pub dead_letters: String,
    /// Create missing topics at start.
    pub create: bool,
}

impl TopicNames {
    /// The topic of a channel.
    pub fn of(&self, channel: Channel) -> &str {
        match channel {
            Channel::Outcomes => &self.outcomes,
            Channel::DeadLetters => &self.dead_letters,
        }
    }

    /// The topics as an array: escalations, outcomes, dead letters.
    pub(super) fn all(&self) -> [&String; 3] {
        [&self.escalations, &self.outcomes, &self.dead_letters]
    }
}

impl fmt::Debug for KafkaSettings {
    /// Leaves the properties out: there are passwords among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// The properties that all clients share.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", "handoff");
        // Firewalls and load balancers forget connections that were idle for some minutes (Azure: 4),
        // and drop what is sent on them later. The kernel's keep-alive begins after two hours by
        // default, so idle connections are closed before.
        config.set("connections.max.idle.ms", "180000").set("socket.keepalive.enable", "true");
        // Connect again soon after an outage; librdkafka's defaults are 30 s and 10 s.
        config.set("socket.connection.setup.timeout.ms", "5000");
        config.set("reconnect.backoff.max.ms", "1000");
        config.extend(self.properties.clone());
        let tls = config.get("security.protocol").is_some_and(|p| p.to_lowercase().contains("ssl"));
        if tls && config.get("ssl.ca.location").is_none() {
            // The vendored OpenSSL does not find the system's certificates by itself.
            config.set("ssl.ca.location", "probe");
        }
        config
    }

    /// The names that the spans of traces have.
    pub fn traced_names(&self) -> TracedNames {
        TracedNames {
            escalations: self.topics.escalations.clone(),
            outcomes: self.topics.outcomes.clone(),
            group: self.group_id.clone(),
            client: self.client_config().get("client.id").unwrap_or_default().to_owned(),
        }
    }

    /// Check that librdkafka accepts the properties of the consumer, each and together. Connects to
    /// no broker.
    pub fn verify_consumer(&self) -> anyhow::Result<()> {
        let mut config = self.consumer_config();
        // A client with a group looks for its coordinator at once.
        config.remove("group.id");
        verify(config.create::<BaseConsumer>().map(drop), "consumer")
    }

    /// Check that librdkafka accepts every property of the producer. Connects to no broker.
    pub fn verify_producer(&self) -> anyhow::Result<()> {
        verify(self.producer_config().create_native_config().map(drop), "producer")
    }

    /// The properties of the service's consumer.
    pub fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.set("auto.offset.reset", "earliest");
        // librdkafka's default queue (64 MiB, 100,000 records) would come on top of our own bounds.
        // Small fetches from each partition in turn also keep one backlog from delaying the others.
        config.set("queued.max.messages.kbytes", "4096").set("queued.min.messages", "2000");
        config.set("fetch.message.max.bytes", "131072");
        // With the default, a queue that was full stays empty for up to a second.
        config.set("fetch.queue.backoff.ms", "10");
        config.set("fetch.wait.max.ms", "100");
        // A connection is closed when a request got no answer for this long. The default, 60 s, is
        // longer than a session: a dropped connection to the coordinator would cost the partitions.
        config.set("socket.timeout.ms", "3000");
        // New partitions are found within this time; the default is 5 minutes. A request and its
        // answer are some hundred bytes, and 50 for each partition.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        if !self.uses_kip848() {
            // A member learns of a rebalance from its next heartbeat; the default is 3 s.
            config.set("heartbeat.interval.ms", "1000");
            if self.consumer_property("partition.assignment.strategy").is_none() {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
        }
        let max_poll_interval = self.max_poll_interval().as_millis().to_string();
        config.set("max.poll.interval.ms", max_poll_interval);
        config.extend(self.properties.clone());
        config.extend(self.consumer_properties.clone());
        if self.offset_reset() == Some(Offset::End) {
            // We apply `latest` ourselves, to partitions without a valid committed offset. The client
            // would also apply it where records were removed that it had not read, and skip the others.
            config.set("auto.offset.reset", "earliest");
        }
        config.set("group.id", &self.group_id);
        // The statistics show whether the group coordinator still answers: see `ConsumerCallbacks`.
        config.set("statistics.interval.ms", "1000");
        // Events that the previous owner woke wait until the records ahead of them are read.
        config.set("enable.partition.eof", "true");
        log_metadata(&mut config);
        // We commit only below the watermark, also lower offsets than before, with the topic's id:
        // see `readings`.
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config
    }

    /// The properties of a consumer that reads without joining a group or committing.
    pub fn reader_config(&self) -> ClientConfig {
        // librdkafka demands a `group.id` even here. The configured one stays: where ACLs restrict
        // group names, it is the one most likely to be allowed.
        let mut config = self.consumer_config();
        config.remove("group.instance.id");
        // A follower may not have yet what its leader has acknowledged.
        config.remove("client.rack");
        // A record that was deleted meanwhile is none.
        config.set("auto.offset.reset", "earliest");
        config.remove("statistics.interval.ms");
        config.remove("debug");
        config
    }

    /// The properties of producers.
    pub fn producer_config(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.set("linger.ms", "1");
        // Above the size of any record that can be consumed: a dead letter is that record plus
        // our headers.
        config.set("message.max.bytes", "67108864");
        config.set("queue.buffering.max.kbytes", "65536");
        // A request without an answer for this long fails, its connection is closed, and librdkafka
        // sends it again on a new one, with the same sequence numbers: the broker appends it once.
        // The default, 60 s, is how late outcomes were whose connection a firewall had dropped.
        config.set("socket.timeout.ms", "2000");
        config.extend(self.properties.clone());
        config.extend(self.producer_properties.clone());
        config.set("enable.idempotence", "true").set("acks", "all");
        config.set("message.timeout.ms", self.message_timeout().as_millis().to_string());
        config
    }

    /// Whether the group uses the KIP-848 protocol, where the broker computes the assignment and
    /// sets the session time-out.
    pub fn uses_kip848(&self) -> bool {
        self.consumer_property("group.protocol").is_some_and(is_kip848)
    }

    /// Without a heartbeat for this long the broker removes the consumer from the group. Under
    /// KIP-848 the broker's own setting applies, which may differ.
    pub fn session_timeout(&self) -> Duration {
        self.millis("session.timeout.ms").unwrap_or(SESSION_TIMEOUT)
    }

    /// How long the client may keep a message before it fails. After a process pause librdkafka fails
    /// expired messages before it sends anything, so with a time-out below the session time-out no
    /// message is sent that was enqueued before the pause and that the successor has published since.
    pub fn message_timeout(&self) -> Duration {
        if self.uses_kip848() {
            MESSAGE_TIMEOUT
        } else {
            MESSAGE_TIMEOUT.min(self.session_timeout() * 2 / 3)
        }
    }

    /// Without a poll for this long the consumer loses its partitions. With the classic protocols the
    /// client also waits this long for the answer to a JoinGroup request, without heartbeats, so that a
    /// connection that was dropped meanwhile is noticed no sooner. Their default is above any drain that
    /// is allowed with the session time-out.
    pub fn max_poll_interval(&self) -> Duration {
        let default = || match self.uses_kip848() {
            true => MAX_POLL_INTERVAL,
            false => self.session_timeout() + DRAIN_OVERHEAD,
        };
        self.millis("max.poll.interval.ms").unwrap_or_else(default)
    }

    /// A group coordinator that was silent for this long may have given the partitions away. Nobody gets
    /// them sooner: a session lasts from the last request that the coordinator received. Under KIP-848
    /// the broker sets the session time-out, so this is two thirds of its default.
    pub fn max_coordinator_silence(&self) -> Duration {
        if self.uses_kip848() { KIP848_SILENCE } else { self.session_timeout() }
    }

    /// Where a partition without a valid committed offset is read from, as `auto.offset.reset` says;
    /// `None`: that is an error.
    pub(super) fn offset_reset(&self) -> Option<Offset> {
        let value = self.consumer_property("auto.offset.reset").unwrap_or("earliest");
        match value.to_lowercase().as_str() {
            "latest" | "largest" | "end" => Some(Offset::End),
            "error" => None,
            _ => Some(Offset::Beginning),
        }
    }

    /// From one commit of finished offsets to the next.
    pub(super) fn commit_interval(&self) -> Duration {
        self.millis("auto.commit.interval.ms").unwrap_or(COMMIT_INTERVAL)
    }

    fn millis(&self, name: &str) -> Option<Duration> {
        self.consumer_property(name)?.parse().ok().map(Duration::from_millis)
    }

    /// A property that the operator has set for the consumer.
    fn consumer_property(&self, name: &str) -> Option<&str> {
        self.consumer_properties.get(name).or(self.properties.get(name)).map(String::as_str)
    }
}

/// Whether this value of `group.protocol` selects KIP-848. librdkafka ignores case here.
pub(crate) fn is_kip848(group_protocol: &str) -> bool {
    group_protocol.eq_ignore_ascii_case("consumer")
}

fn verify(result: KafkaResult<()>, client: &str) -> anyhow::Result<()> {
    result
        .map_err(plain)
        .with_context(|| format!("check [kafka.properties] and [kafka.{client}_properties]"))
}
