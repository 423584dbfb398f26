//! The live checks of Kafka: brokers, topics, ACLs, the group's offsets, the producer.
//!
//! A result names a missing permission as an ACL. The permission to write is verified on request
//! only, by a record that readers skip. The checks do not join the group and do not move its
//! offsets.

use std::time::Duration;

use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::old_messages::old_messages;
use super::report::{Finding, Level};
use super::{Findings, LIMIT};
use crate::adapters::kafka::{
    ClusterProbe, KafkaSettings, OutgoingRecord, ProbeError, RecordPublisher, TopicInfo,
    TopicNames, TopicUse, acl, remedy_of,
};
use crate::clock::Clock;
use crate::commands::CHECK_HEADER;
use crate::config::Config;

/// The time limit of a check with several requests, each of which has [`LIMIT`].
const LONG_LIMIT: Duration = LIMIT.saturating_add(LIMIT);

/// Where the cause is unknown.
const LOGS: &str = "look at the brokers' logs";

/// Creates the clients with the configured properties; an error if librdkafka rejects those.
pub(super) fn client(settings: &KafkaSettings) -> Result<ClusterProbe, Finding> {
    let probe = ClusterProbe::new(settings.clone(), LIMIT).map_err(|error| {
        let remedy = "check [kafka.properties] and [kafka.consumer_properties]";
        Finding::fail("Kafka consumer", format!("{error:#}"), remedy)
    })?;
    // This does not contact a broker yet.
    RecordPublisher::start(settings, LIMIT).map(drop).map_err(|error| {
        let remedy = "check [kafka.properties] and [kafka.producer_properties]";
        Finding::fail("Kafka producer", format!("{error:#}"), remedy)
    })?;
    Ok(probe)
}

/// Runs all checks of Kafka.
pub(super) async fn check(probe: ClusterProbe, config: &Config, write: bool, findings: Findings) {
    let settings = &config.kafka;
    let checker = KafkaChecker { probe, settings, memory: config.retention };
    let brokers = checker.brokers().await;
    let is_reached = brokers.level != Level::Fail;
    findings.add(brokers);
    if !is_reached {
        let detail = "not checked: no broker answers";
        return findings.add(Finding::warn("topics, ACLs, producer", detail, "fix that first"));
    }
    let (topics, group, limits, written, producer) = tokio::join!(
        checker.topics(),
        checker.group(),
        checker.limits(),
        checker.written_topics(),
        checker.producer(write)
    );
    for finding in [topics, group, limits, written, producer].into_iter().flatten() {
        findings.add(finding);
    }
}

struct KafkaChecker<'a> {
    probe: ClusterProbe,
    settings: &'a KafkaSettings,
    /// How long the ledger remembers events.
    memory: Duration,
}

impl KafkaChecker<'_> {
    /// Runs a blocking request of the probe on its own thread.
    async fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(&ClusterProbe) -> Result<T, ProbeError> + Send + 'static,
    ) -> Result<T, ProbeError> {
        let probe = self.probe.clone();
        match timeout(LONG_LIMIT, spawn_blocking(move || request(&probe))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panicked)) => Err(ProbeError::Other(panicked.to_string())),
            Err(_) => Err(ProbeError::NoAnswer(String::new())),
        }
    }

    async fn brokers(&self) -> Finding {
        let what = format!("brokers {}", self.settings.bootstrap_servers);
        let remedy = "check kafka.bootstrap_servers, the network, and security.protocol and sasl.* \
                      under [kafka.properties]";
        match self.request(ClusterProbe::brokers).await {
            Ok(1) => Finding::ok(what, "1 broker"),
            Ok(brokers) => Finding::ok(what, format!("{brokers} brokers")),
            Err(ProbeError::Denied) => Finding::ok(what, "reached"),
            Err(fault) => Finding::fail(what, describe(&fault), remedy),
        }
    }

    async fn topics(&self) -> Vec<Finding> {
        let topics = &self.settings.topics;
        let TopicNames { escalations, outcomes, dead_letters, .. } = topics;
        let mut findings = vec![];
        for name in [escalations, outcomes, dead_letters] {
            let asked = name.clone();
            let found = self.request(move |probe| probe.topic(&asked)).await;
            let is_single = found.as_ref().is_ok_and(|found| found.partitions == 1);
            let mut finding = topic(name, found, topics);
            if is_single && name == escalations {
                finding.detail.push_str(": only one instance can work at a time");
            }
            findings.push(finding);
        }
        // A look-up after a crash reads the other two.
        for (index, name) in [escalations, outcomes, dead_letters].into_iter().enumerate() {
            if findings[index].level == Level::Ok {
                findings.extend(self.reading(name).await);
            }
        }
        findings
    }

    /// `None` where the topic does not exist, which another result says.
    async fn reading(&self, topic: &str) -> Option<Finding> {
        let (what, name) = (format!("reading {topic}"), topic.to_owned());
        Some(match self.request(move |probe| probe.can_read(&name)).await {
            Ok(()) => Finding::ok(what, "allowed"),
            Err(ProbeError::NotFound) => return None,
            Err(ProbeError::Denied) if topic == self.settings.topics.escalations => {
                Finding::fail(what, "refused", acl("Read", "Topic", topic))
            }
            Err(ProbeError::Denied) => {
                let why = "after a crash the service looks there for what it has published";
                let remedy = format!("{}: {why}", acl("Read", "Topic", topic));
                Finding::fail(what, "refused", remedy)
            }
            Err(fault) => Finding::fail(what, describe(&fault), LOGS),
        })
    }

    async fn group(&self) -> Vec<Finding> {
        let group = &self.settings.group_id;
        let escalations = self.settings.topics.escalations.clone();
        let asked = self.request(move |probe| {
            let partitions = probe.topic(&escalations)?.partitions;
            let standing = probe.group_offsets(partitions)?;
            probe.can_commit(partitions)?;
            Ok((partitions, standing))
        });
        let what = format!("group {group}");
        vec![match asked.await {
            Ok((_, standing)) if standing.committed == 0 => Finding::ok(
                what,
                "has no committed offsets yet: it will start at the oldest record",
            ),
            Ok((partitions, standing)) => {
                let (committed, lag) = (standing.committed, standing.lag);
                let detail = format!(
                    "has committed offsets in {committed} of {partitions} partitions, {lag} records behind"
                );
                Finding::ok(what, detail)
            }
            Err(ProbeError::Denied) => Finding::fail(what, "refused", acl("Read", "Group", group)),
            // The result for the topic has reported this.
            Err(ProbeError::NotFound) => return vec![],
            Err(fault) => Finding::fail(what, describe(&fault), LOGS),
        }]
    }

    async fn limits(&self) -> Vec<Finding> {
        let TopicNames { escalations, dead_letters, .. } = &self.settings.topics;
        let what = format!("size limit of {dead_letters}");
        for topic in [escalations, dead_letters] {
            let asked = topic.clone();
            let found = self.request(move |probe| probe.topic(&asked)).await;
            // The result for the topic has reported this.
            if found.is_err() {
                return vec![];
            }
        }
        let limits = match self.probe.topic_limits(&[escalations, dead_letters]).await {
            Ok(limits) => limits,
            Err(ProbeError::NotFound) => return vec![],
            Err(fault) => {
                let detail = format!("unknown: {}", describe(&fault));
                let mut remedy = format!(
                    "make sure that its max.message.bytes is not below that of {escalations}"
                );
                if fault == ProbeError::Denied {
                    let acls = [escalations, dead_letters]
                        .map(|topic| acl("DescribeConfigs", "Topic", topic));
                    remedy = format!("{remedy}; to have it checked, {}", acls.join(", "));
                }
                return vec![Finding::warn(what, detail, remedy)];
            }
        };
        let (from, to) = (&limits[escalations], &limits[dead_letters]);
        let (from_bytes, to_bytes) = (from.max_message_bytes, to.max_message_bytes);
        let mut findings = vec![];
        findings.push(if to_bytes < from_bytes {
            let detail = format!(
                "{to_bytes} bytes, but {escalations} takes {from_bytes}: a larger record that \
                 cannot be read would lose its value"
            );
            let remedy = format!("set max.message.bytes of {dead_letters} to {from_bytes} or more");
            Finding::warn(what, detail, remedy)
        } else {
            Finding::ok(what, format!("{to_bytes} bytes; {escalations} takes {from_bytes}"))
        });
        if let Some(detail) = from.outlives(self.memory) {
            let remedy = "raise ledger.retention_days, or lower retention.ms of the topic: if the \
                          group loses its offsets, older events are skipped";
            findings.push(Finding::warn(format!("topic {escalations}"), detail, remedy));
        }
        if to.is_compacted {
            let detail = "is compacted: it refuses records without a key, which would block \
                          their partition forever";
            let remedy = "set its cleanup.policy to delete";
            findings.push(Finding::fail(format!("topic {dead_letters}"), detail, remedy));
        }
        findings
    }

    /// Whether the topics that are written to have as many replicas in sync as they demand, and refuse
    /// old messages. A topic whose settings may not be seen is left out: another result says that.
    async fn written_topics(&self) -> Vec<Finding> {
        let TopicNames { outcomes, dead_letters, .. } = &self.settings.topics;
        let mut findings = vec![];
        for topic in [outcomes, dead_letters] {
            let asked = topic.clone();
            let found = self.request(move |probe| probe.topic(&asked)).await;
            let limits = self.probe.topic_limits(&[topic]).await;
            let Some(limits) = limits.ok().and_then(|mut limits| limits.remove(topic)) else {
                continue;
            };
            if let (Ok(found), Some(minimum)) = (found, limits.min_in_sync) {
                findings.push(in_sync(topic, &found, minimum));
            }
            findings.extend(old_messages(topic, &limits, self.settings.session_timeout()));
        }
        findings
    }

    async fn producer(&self, write: bool) -> Vec<Finding> {
        let TopicNames { outcomes, dead_letters, .. } = &self.settings.topics;
        let what = "producer";
        let mut findings = vec![match self.probe.can_create_producer().await {
            Ok(()) if write => Finding::ok(what, "is ready"),
            Ok(()) => {
                Finding::ok(what, "is ready; to verify that it may write: handoff check --write")
            }
            Err(ProbeError::Denied) => {
                let write = acl("Write", "Topic", outcomes);
                let detail = "an idempotent producer is refused";
                let old = "brokers before Kafka 2.8 ask for IdempotentWrite on the cluster, too";
                Finding::fail(what, detail, format!("{write}; {old}"))
            }
            Err(fault) => {
                Finding::fail(what, describe(&fault), "check [kafka.producer_properties]")
            }
        }];
        if write {
            for topic in [outcomes, dead_letters] {
                findings.push(self.write(topic).await);
            }
        }
        findings
    }

    async fn write(&self, topic: &str) -> Finding {
        let what = format!("writing {topic}");
        let about = json!({"type": "check", "by": "handoff check", "at": Clock::system().now()});
        let record = OutgoingRecord {
            topic: topic.to_owned(),
            key: Some(b"handoff-check".to_vec()),
            value: about.to_string().into_bytes(),
            headers: vec![(CHECK_HEADER.0.to_owned(), Some(CHECK_HEADER.1.to_vec()))],
        };
        let written = async {
            let publisher = RecordPublisher::start(self.settings, LIMIT)?;
            publisher.enqueue(&record).await?.acknowledged().await
        };
        match timeout(LONG_LIMIT, written).await {
            Ok(Ok(position)) => Finding::ok(what, format!("record {position} is published")),
            Ok(Err(error)) => match remedy_of(&error, &TopicUse::Write(topic)) {
                // The whole error names the remedy, too.
                Some(remedy) => Finding::fail(what, error.root_cause().to_string(), remedy),
                None => Finding::fail(what, format!("{error:#}"), LOGS),
            },
            Err(_) => {
                let detail = format!("no acknowledgement within {} s", LONG_LIMIT.as_secs());
                Finding::fail(what, detail, LOGS)
            }
        }
    }
}

fn topic(name: &str, found: Result<TopicInfo, ProbeError>, topics: &TopicNames) -> Finding {
    let what = format!("topic {name}");
    let found = match found {
        Ok(found) => found,
        Err(ProbeError::NotFound) if topics.create => {
            let remedy = "kafka.create_topics creates it at the start, with the brokers' defaults";
            return Finding::warn(what, "does not exist yet", remedy);
        }
        Err(ProbeError::NotFound) => {
            let remedy = "create it, or set kafka.create_topics = true, or correct its name under \
                          [kafka]";
            return Finding::fail(what, "does not exist", remedy);
        }
        Err(ProbeError::Denied) => {
            // Read and Write include Describe.
            let operation = if name == topics.escalations { "Read" } else { "Write" };
            return Finding::fail(what, "Describe is refused", acl(operation, "Topic", name));
        }
        Err(fault) => return Finding::fail(what, describe(&fault), LOGS),
    };
    let TopicInfo { partitions, replicas: copies, leaderless, .. } = found;
    if !leaderless.is_empty() {
        let detail = format!("partitions {leaderless:?} have no leader");
        return Finding::fail(what, detail, "start the brokers that have their replicas");
    }
    let partitions =
        if partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
    let copies = if copies == 1 { "1 replica".to_owned() } else { format!("{copies} replicas") };
    Finding::ok(what, format!("{partitions}, {copies}"))
}

/// Whether the topic accepts messages from a producer that waits for all replicas.
fn in_sync(topic: &str, found: &TopicInfo, minimum: usize) -> Finding {
    let TopicInfo { replicas, in_sync, .. } = *found;
    let what = format!("replicas of {topic}");
    let detail = format!("{in_sync} of {replicas} in sync, min.insync.replicas is {minimum}");
    if in_sync < minimum {
        let remedy = "start the brokers that have its other replicas, or lower its \
                      min.insync.replicas: until then nothing can be published";
        return Finding::fail(what, detail, remedy);
    }
    Finding::ok(what, detail)
}

fn describe(fault: &ProbeError) -> String {
    match fault {
        ProbeError::Denied => "refused: a permission is missing".to_owned(),
        ProbeError::NotFound => "does not exist".to_owned(),
        ProbeError::NoAnswer(words) if words.is_empty() => {
            format!("no answer within {} s", LIMIT.as_secs())
        }
        ProbeError::NoAnswer(words) => format!("no answer within {} s: {words}", LIMIT.as_secs()),
        ProbeError::Other(words) => words.clone(),
    }
}
