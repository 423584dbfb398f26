//! The section `[kafka]`: topics, and what is passed through to librdkafka.
//!
//! Refused is what the promises rest on (commits, acknowledgement, idempotence), what has a key
//! of its own, and what this build cannot do. Everything else is librdkafka's to judge.
//! This file never shows a property's value, save for the few that it checks itself.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::ValueKind;

use super::layers::{CONSUMER, PRODUCER, SHARED};
use super::raw::{Raw, whole_wanted};
use crate::adapters::kafka::{AFTER_DRAIN, Settings, Topics, runs_by_broker};

/// Properties that may not be passed through, and why.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `kafka.bootstrap_servers`"),
    ("metadata.broker.list", "use `kafka.bootstrap_servers`"),
    ("group.id", "use `kafka.group_id`"),
    ("enable.auto.commit", "handoff commits what is finished, nothing else does"),
    ("auto.commit.enable", "handoff commits what is finished, nothing else does"),
    ("enable.auto.offset.store", "handoff commits what is finished, nothing else does"),
    ("offset.store.method", "the broker keeps the offsets"),
    ("enable.idempotence", "it is always on, so that no outcome is written twice"),
    ("acks", "it is always all, so that no outcome is lost"),
    ("request.required.acks", "it is always all, so that no outcome is lost"),
    ("delivery.report.only.error", "handoff waits for every acknowledgement"),
    ("message.timeout.ms", "an outcome is sent until it is acknowledged"),
    ("delivery.timeout.ms", "an outcome is sent until it is acknowledged"),
    ("transactional.id", "handoff uses no transactions"),
    ("statistics.interval.ms", "the worker looks at them each second"),
    ("enable.partition.eof", "handoff has no use for the ends of partitions"),
];

/// The mechanisms that are built in.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What the broker sets when it runs the group.
const SET_BY_BROKER: [&str; 4] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
];

/// The section, or `None` after noting why not.
pub(super) fn read(raw: &mut Raw) -> Option<Settings> {
    let bootstrap_servers = raw.text("kafka.bootstrap_servers");
    let group_id = raw.text("kafka.group_id");
    let topics = topics(raw);
    let properties = properties(raw, SHARED);
    let consumer_properties = properties_of(raw, CONSUMER, &properties);
    let producer_properties = properties_of(raw, PRODUCER, &properties);
    check_group(raw, &Side::new(CONSUMER, &consumer_properties, &properties));
    Some(Settings {
        bootstrap_servers: bootstrap_servers?,
        group_id: group_id?,
        topics: topics?,
        properties,
        consumer_properties,
        producer_properties,
    })
}

/// A drain must end before Kafka gives the consumer up.
pub(super) fn check_drain(raw: &mut Raw, kafka: &Settings, drain: Duration) {
    let key = "drain.timeout_ms";
    let ms = drain.as_millis();
    let remedy = "lower the one, or raise the other under [kafka.consumer_properties]";
    let session = kafka.session_timeout();
    if !kafka.is_run_by_broker() && drain >= session {
        let text = format!(
            "`{key}` = {ms} must be below the consumer's \"session.timeout.ms\" = {}: {remedy}",
            session.as_millis()
        );
        raw.note(key, text);
    }
    let poll = kafka.max_poll_interval();
    if drain + AFTER_DRAIN >= poll {
        let text = format!(
            "`{key}` = {ms} and {} more for publishing and committing must be below the \
             consumer's \"max.poll.interval.ms\" = {}: {remedy}",
            AFTER_DRAIN.as_millis(),
            poll.as_millis()
        );
        raw.note(key, text);
    }
}

/// What one of the two clients gets.
struct Side<'a> {
    section: &'static str,
    own: &'a BTreeMap<String, String>,
    shared: &'a BTreeMap<String, String>,
}

impl<'a> Side<'a> {
    fn new(
        section: &'static str,
        own: &'a BTreeMap<String, String>,
        shared: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { section, own, shared }
    }

    /// The full key under which this property was set, and its value.
    fn get(&self, name: &str) -> Option<(String, &'a str)> {
        let own = self.own.get(name).map(|value| (self.section, value));
        let (section, value) = own.or_else(|| Some((SHARED, self.shared.get(name)?)))?;
        Some((format!("{section}.{name}"), value))
    }

    fn is_run_by_broker(&self) -> bool {
        self.get("group.protocol").is_some_and(|(_, value)| runs_by_broker(value))
    }
}

fn topics(raw: &mut Raw) -> Option<Topics> {
    let escalations = topic(raw, "kafka.escalations_topic");
    let outcomes = topic(raw, "kafka.outcomes_topic");
    let dead_letters = topic(raw, "kafka.dead_letters_topic");
    let create = raw.flag("kafka.create_topics");
    let named = [
        ("kafka.escalations_topic", &escalations),
        ("kafka.outcomes_topic", &outcomes),
        ("kafka.dead_letters_topic", &dead_letters),
    ];
    for (i, (key, name)) in named.iter().enumerate() {
        let same = named[..i].iter().find(|(_, earlier)| name.is_some() && earlier == name);
        if let (Some((earlier, _)), Some(name)) = (same, name) {
            let text = format!("`{key}` = {name:?} must not be the topic of `{earlier}`");
            raw.note(key, text);
        }
    }
    Some(Topics {
        escalations: escalations?,
        outcomes: outcomes?,
        dead_letters: dead_letters?,
        create: create?,
    })
}

fn topic(raw: &mut Raw, key: &'static str) -> Option<String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    raw.parsed(key, "a topic's name: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'", |name| {
        let is_name = (1..=249).contains(&name.len()) && name != "." && name != "..";
        (is_name && name.chars().all(is_legal)).then(|| name.to_owned())
    })
}

fn properties_of(
    raw: &mut Raw,
    section: &'static str,
    shared: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let own = properties(raw, section);
    check_sasl(raw, &Side::new(section, &own, shared));
    own
}

fn properties(raw: &mut Raw, section: &'static str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, leaf) in raw.section(section) {
        let key = format!("{section}.{name}");
        let place = raw.place(leaf.layer);
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            raw.note(&key, format!("`{key}` {place} cannot be passed through: {why}"));
            continue;
        }
        let value = match leaf.kind {
            ValueKind::Array(_) | ValueKind::Table(_) | ValueKind::Nil => {
                raw.note(&key, format!("`{key}` {place}: must be text, a number, true or false"));
                continue;
            }
            kind => kind.to_string(),
        };
        properties.insert(name, value);
    }
    properties
}

fn check_sasl(raw: &mut Raw, side: &Side<'_>) {
    let mechanism = side.get("sasl.mechanism").or_else(|| side.get("sasl.mechanisms"));
    let all = MECHANISMS.join(", ");
    if let Some((key, value)) = &mechanism
        && !MECHANISMS.contains(value)
    {
        raw.note(key, format!("`{key}` = {value:?}: must be one of {all}; no others are built in"));
    }
    let uses_sasl = side
        .get("security.protocol")
        .is_some_and(|(_, protocol)| protocol.to_lowercase().starts_with("sasl"));
    if !uses_sasl {
        return;
    }
    if mechanism.is_none() {
        let key = format!("{SHARED}.sasl.mechanism");
        let text = format!("`{key}` is missing: \"security.protocol\" asks for one of {all}");
        raw.note(&key, text);
    }
    for name in ["sasl.username", "sasl.password"] {
        if side.get(name).is_none_or(|(_, value)| value.is_empty()) {
            let key = format!("{SHARED}.{name}");
            let variable = name.to_uppercase().replace('.', "_");
            let text = format!(
                "`{key}` is missing: set HANDOFF__KAFKA__PROPERTIES__{variable}, or {name:?} under \
                 [{SHARED}]"
            );
            raw.note(&key, text);
        }
    }
}

fn check_group(raw: &mut Raw, consumer: &Side<'_>) {
    if let Some((key, value)) = consumer.get("group.protocol")
        && !["classic", "consumer"].contains(&value.to_lowercase().as_str())
    {
        raw.note(&key, format!("`{key}` = {value:?}: must be classic or consumer"));
    }
    check_whole(raw, consumer.get("max.poll.interval.ms"), 1..=86_400_000);
    if consumer.is_run_by_broker() {
        let set = SET_BY_BROKER.iter().filter_map(|name| consumer.get(name));
        for (key, _) in set {
            let text = format!(
                "`{key}` cannot be set together with \"group.protocol\" = \"consumer\": \
                 the broker sets it, remove it here"
            );
            raw.note(&key, text);
        }
        return;
    }
    check_whole(raw, consumer.get("session.timeout.ms"), 1..=3_600_000);
}

fn check_whole(raw: &mut Raw, property: Option<(String, &str)>, range: RangeInclusive<u64>) {
    let Some((key, value)) = property else { return };
    if !value.parse().is_ok_and(|number| range.contains(&number)) {
        raw.note(&key, format!("`{key}` = {value:?}: must be {}", whole_wanted(&range)));
    }
}
