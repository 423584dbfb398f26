//! The section `[kafka]`: the topics and librdkafka's properties.
//!
//! Properties that the service's guarantees depend on (commits, acknowledgement, idempotence),
//! that have a key of their own, or that this build does not support are refused. librdkafka
//! judges all others. A message shows the value of a property only if it is checked here: any
//! other may be a password.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::ValueKind;

use super::origins::{CONSUMER, PRODUCER, SHARED};
use super::raw_config::{RawConfig, wanted_whole};
use crate::adapters::kafka::{DRAIN_OVERHEAD, KafkaSettings, TopicNames, is_kip848};

/// Properties that may not be passed to librdkafka, and why.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `kafka.bootstrap_servers`"),
    ("metadata.broker.list", "use `kafka.bootstrap_servers`"),
    ("group.id", "use `kafka.group_id`"),
    ("enable.auto.commit", "handoff commits offsets itself, below the lowest unfinished record"),
    ("auto.commit.enable", "handoff commits offsets itself, below the lowest unfinished record"),
    (
        "enable.auto.offset.store",
        "handoff commits offsets itself, below the lowest unfinished record",
    ),
    ("offset.store.method", "the broker keeps the offsets"),
    ("enable.idempotence", "it is always on: retries must not write an outcome twice"),
    ("acks", "it is always all: an acknowledged outcome must survive the loss of a broker"),
    (
        "request.required.acks",
        "it is always all: an acknowledged outcome must survive the loss of a broker",
    ),
    ("delivery.report.only.error", "handoff waits for every acknowledgement"),
    ("message.timeout.ms", "handoff sets it, below the session time-out"),
    ("delivery.timeout.ms", "handoff sets it, below the session time-out"),
    ("transactional.id", "handoff uses no transactions"),
    ("statistics.interval.ms", "it is always 1 s: lag and lease depend on it"),
    ("enable.partition.eof", "it is always on: the order of parked events depends on it"),
];

/// The SASL mechanisms that this build supports.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Properties that the broker sets under `group.protocol` = `consumer`.
const SET_BY_BROKER: [&str; 4] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
];

/// Reads the section; `None` after recording a problem.
pub(super) fn read(raw: &mut RawConfig) -> Option<KafkaSettings> {
    let wanted = "host:port pairs separated by commas, as \"kafka-1:9092,kafka-2:9092\"";
    let bootstrap_servers = raw.parsed("kafka.bootstrap_servers", wanted, brokers);
    let group_id = raw.text("kafka.group_id");
    let topics = topics(raw);
    let properties = properties(raw, SHARED);
    let consumer_properties = properties_of(raw, CONSUMER, &properties);
    let producer_properties = properties_of(raw, PRODUCER, &properties);
    check_group(raw, &ClientProperties::new(CONSUMER, &consumer_properties, &properties));
    let settings = KafkaSettings {
        bootstrap_servers: bootstrap_servers?,
        group_id: group_id?,
        topics: topics?,
        properties,
        consumer_properties,
        producer_properties,
    };
    check_poll_interval(raw, &settings);
    Some(settings)
}

/// Checks that a drain ends before Kafka removes the consumer from its group.
pub(super) fn check_drain(raw: &mut RawConfig, kafka: &KafkaSettings, drain: Duration) {
    let key = "drain.timeout_ms";
    let ms = drain.as_millis();
    let remedy = "lower the first, or raise the second under [kafka.consumer_properties]";
    let session = kafka.session_timeout();
    if !kafka.uses_kip848() && drain >= session {
        let text = format!(
            "`{key}` = {ms} must be below the consumer's \"session.timeout.ms\" = {}: {remedy}",
            session.as_millis()
        );
        raw.add_problem(key, text);
        return;
    }
    let poll = kafka.max_poll_interval();
    if drain + DRAIN_OVERHEAD >= poll {
        let text = format!(
            "`{key}` = {ms} and {} more for publishing and committing must be below the \
             consumer's \"max.poll.interval.ms\" = {}: {remedy}",
            DRAIN_OVERHEAD.as_millis(),
            poll.as_millis()
        );
        raw.add_problem(key, text);
    }
}

/// The properties of one client: its own, on top of the shared ones.
struct ClientProperties<'a> {
    section: &'static str,
    own: &'a BTreeMap<String, String>,
    shared: &'a BTreeMap<String, String>,
}

impl<'a> ClientProperties<'a> {
    fn new(
        section: &'static str,
        own: &'a BTreeMap<String, String>,
        shared: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { section, own, shared }
    }

    /// The full configuration key that sets this property, and its value.
    fn get(&self, name: &str) -> Option<(String, &'a str)> {
        let own = self.own.get(name).map(|value| (self.section, value));
        let (section, value) = own.or_else(|| Some((SHARED, self.shared.get(name)?)))?;
        Some((format!("{section}.{name}"), value))
    }

    fn uses_kip848(&self) -> bool {
        self.get("group.protocol").is_some_and(|(_, value)| is_kip848(value))
    }
}

/// The list of brokers, without blanks; `None` unless each is a host and a port. Of a list with a
/// typo librdkafka would use the rest, or wait for ever.
fn brokers(text: &str) -> Option<String> {
    let is_host = |host: &str| {
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !host.is_empty() && (is_ipv6 || host.chars().all(is_legal))
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_broker = |broker: &&str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
    };
    let brokers: Vec<_> = text.split(',').map(str::trim).collect();
    brokers.iter().all(is_broker).then(|| brokers.join(","))
}

fn topics(raw: &mut RawConfig) -> Option<TopicNames> {
    let escalations = topic(raw, "kafka.escalations_topic");
    let outcomes = topic(raw, "kafka.outcomes_topic");
    let dead_letters = topic(raw, "kafka.dead_letters_topic");
    let create = raw.flag("kafka.create_topics");
    let named = [
        ("kafka.escalations_topic", &escalations),
        ("kafka.outcomes_topic", &outcomes),
        ("kafka.dead_letters_topic", &dead_letters),
    ];
    // An outcome in the escalations topic would be read back as an escalation.
    for (i, (key, name)) in named.iter().enumerate() {
        let same = named[..i].iter().find(|(_, earlier)| name.is_some() && earlier == name);
        if let (Some((earlier, _)), Some(name)) = (same, name) {
            let text = format!("`{key}` = {name:?} must not be the topic of `{earlier}`");
            raw.add_problem(key, text);
        }
    }
    Some(TopicNames {
        escalations: escalations?,
        outcomes: outcomes?,
        dead_letters: dead_letters?,
        create: create?,
    })
}

fn topic(raw: &mut RawConfig, key: &'static str) -> Option<String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    raw.parsed(key, "a topic's name: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'", |name| {
        let is_name = (1..=249).contains(&name.len()) && name != "." && name != "..";
        (is_name && name.chars().all(is_legal)).then(|| name.to_owned())
    })
}

fn properties_of(
    raw: &mut RawConfig,
    section: &'static str,
    shared: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let own = properties(raw, section);
    check_sasl(raw, &ClientProperties::new(section, &own, shared));
    own
}

fn properties(raw: &mut RawConfig, section: &'static str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, value) in raw.section(section) {
        let key = format!("{section}.{name}");
        let origin = raw.place(value.origin, &key);
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            raw.add_problem(
                &key,
                format!("`{key}` {origin} cannot be passed to librdkafka: {why}"),
            );
            continue;
        }
        let value = match value.kind {
            ValueKind::Array(_) | ValueKind::Table(_) | ValueKind::Nil => {
                raw.add_problem(
                    &key,
                    format!("`{key}` {origin}: must be text, a number, true or false"),
                );
                continue;
            }
            kind => kind.to_string(),
        };
        properties.insert(name, value);
    }
    properties
}

fn check_sasl(raw: &mut RawConfig, client: &ClientProperties<'_>) {
    // librdkafka accepts both names.
    let mechanism = client.get("sasl.mechanism").or_else(|| client.get("sasl.mechanisms"));
    let all = MECHANISMS.join(", ");
    if let Some((key, value)) = &mechanism
        && !MECHANISMS.contains(value)
    {
        raw.add_problem(
            key,
            format!("`{key}` = {value:?}: must be one of {all}; this build supports no others"),
        );
    }
    let uses_sasl = client
        .get("security.protocol")
        .is_some_and(|(_, protocol)| protocol.to_lowercase().starts_with("sasl"));
    if !uses_sasl {
        return;
    }
    // Without these checks librdkafka would start, and only fail to connect, again and again.
    if mechanism.is_none() {
        let key = format!("{SHARED}.sasl.mechanism");
        let text = format!("`{key}` is missing: \"security.protocol\" needs one of {all}");
        raw.add_problem(&key, text);
    }
    for name in ["sasl.username", "sasl.password"] {
        if client.get(name).is_none_or(|(_, value)| value.is_empty()) {
            let key = format!("{SHARED}.{name}");
            let variable = name.to_uppercase().replace('.', "_");
            let text = format!(
                "`{key}` is missing: set HANDOFF__KAFKA__PROPERTIES__{variable}, or {name:?} under \
                 [{SHARED}]"
            );
            raw.add_problem(&key, text);
        }
    }
}

fn check_group(raw: &mut RawConfig, consumer: &ClientProperties<'_>) {
    if let Some((key, value)) = consumer.get("group.protocol")
        && !["classic", "consumer"].contains(&value.to_lowercase().as_str())
    {
        raw.add_problem(&key, format!("`{key}` = {value:?}: must be classic or consumer"));
    }
    check_whole(raw, consumer.get("max.poll.interval.ms"), 1..=86_400_000);
    if consumer.uses_kip848() {
        let set = SET_BY_BROKER.iter().filter_map(|name| consumer.get(name));
        for (key, _) in set {
            let text = format!(
                "`{key}` cannot be set together with \"group.protocol\" = \"consumer\": \
                 the broker sets it, remove it here"
            );
            raw.add_problem(&key, text);
        }
        return;
    }
    // In the classic protocol the consumer sets its own timeout.
    check_whole(raw, consumer.get("session.timeout.ms"), 1..=3_600_000);
}

/// Checks what librdkafka demands of a consumer of the classic protocol, whose message would name
/// neither the section nor the remedy.
fn check_poll_interval(raw: &mut RawConfig, kafka: &KafkaSettings) {
    let (poll, session) = (kafka.max_poll_interval(), kafka.session_timeout());
    if kafka.uses_kip848() || poll >= session {
        return;
    }
    let key = format!("{CONSUMER}.max.poll.interval.ms");
    let text = format!(
        "`{key}` = {} must be at least the consumer's \"session.timeout.ms\" = {}: raise the \
         first, or lower the second under [{CONSUMER}]",
        poll.as_millis(),
        session.as_millis()
    );
    raw.add_problem(&key, text);
}

fn check_whole(raw: &mut RawConfig, property: Option<(String, &str)>, range: RangeInclusive<u64>) {
    let Some((key, value)) = property else { return };
    if !value.parse().is_ok_and(|number| range.contains(&number)) {
        raw.add_problem(&key, format!("`{key}` = {value:?}: must be {}", wanted_whole(&range)));
    }
}
