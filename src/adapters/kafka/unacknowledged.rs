//! The messages that are to be published and not acknowledged yet: how many, since when, and why.
//!
//! librdkafka sends a message again and again where an error may pass, and does not say which error
//! that is. So the topic is looked at when a message waits for too long without one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cluster_probe::{ClusterProbe, ProbeError};
use super::remedy::{TopicUse, remedy};
use super::{KafkaSettings, plain};
use crate::domain::wire::Channel;
use crate::health::{Fault, FaultKind, Health};
use crate::telemetry::Metrics;

/// A message that waits for longer is a fault. `/ready` has to say so within 30 s.
const LIMIT: Duration = Duration::from_secs(25);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// From one look at the topic to the next, while the fault lasts.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long one request to the brokers may take, for such a look.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// The messages, by their order.
pub(super) struct Unacknowledged {
    pending: Mutex<BTreeMap<u64, PendingSince>>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct PendingSince {
    channel: Channel,
    at: Timestamp,
    since: Instant,
    /// The last error that the brokers gave.
    error: Option<Code>,
}

/// A message on its way; dropped when it is acknowledged, or when its publication is cancelled.
pub(super) struct PendingMessage<'a> {
    all: &'a Unacknowledged,
    sequence: u64,
}

impl Unacknowledged {
    pub(super) fn new(health: Arc<Health>, metrics: Arc<Metrics>) -> Self {
        Self { pending: Mutex::default(), health, metrics }
    }

    /// A message of this channel is to be published from now on.
    pub(super) fn add(&self, channel: Channel, at: Timestamp) -> PendingMessage<'_> {
        let mut pending = self.pending.lock();
        // The highest number in use is not given twice, so the oldest message stays the first.
        let sequence = pending.last_key_value().map_or(0, |(last, _)| last + 1);
        pending.insert(sequence, PendingSince { channel, at, since: Instant::now(), error: None });
        self.metrics.unacknowledged.inc();
        PendingMessage { all: self, sequence }
    }

    fn oldest(&self) -> Option<PendingSince> {
        self.pending.lock().first_key_value().map(|(_, oldest)| oldest.clone())
    }

    /// Report a message that waits for too long, for as long as this future is polled.
    pub(super) async fn watch(&self, settings: &KafkaSettings) {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look: Option<(Instant, Channel, Fault)> = None;
        loop {
            ticks.tick().await;
            let oldest = self.oldest();
            let at = oldest.as_ref().map_or(0.0, |oldest| oldest.at.as_duration().as_secs_f64());
            self.metrics.oldest_unacknowledged.set(at);
            let faults = self.health.faults();
            let Some(oldest) = oldest.filter(|oldest| oldest.since.elapsed() > LIMIT) else {
                faults.clear(FaultKind::Unacknowledged);
                look = None;
                continue;
            };
            let topic = settings.topics.of(oldest.channel);
            let fault = match oldest.error {
                Some(code) => refused(topic, code),
                None => {
                    let channel = oldest.channel;
                    let last = look
                        .take()
                        .filter(|(at, of, _)| at.elapsed() < LOOK_INTERVAL && *of == channel);
                    let last = match last {
                        Some(last) => last,
                        None => (Instant::now(), channel, look_at(settings, topic).await),
                    };
                    look.insert(last).2.clone()
                }
            };
            faults.report(FaultKind::Unacknowledged, oldest.since, fault);
        }
    }
}

impl PendingMessage<'_> {
    /// The brokers have refused the message. Errors of the client's own, such as a message that has
    /// timed out or was purged, say nothing about the cause.
    pub(super) fn refused(&self, code: Option<Code>) {
        let Some(code) = code.filter(|code| is_of_broker(*code)) else { return };
        if let Some(pending) = self.all.pending.lock().get_mut(&self.sequence) {
            pending.error = Some(code);
        }
    }
}

impl Drop for PendingMessage<'_> {
    fn drop(&mut self) {
        self.all.pending.lock().remove(&self.sequence);
        self.all.metrics.unacknowledged.dec();
    }
}

fn is_of_broker(code: Code) -> bool {
    // librdkafka's own errors are negative numbers, but it invents these instead of asking.
    (code as i32) > 0 || matches!(code, Code::UnknownTopic | Code::UnknownPartition)
}

fn refused(topic: &str, code: Code) -> Fault {
    let remedy = remedy(code, &TopicUse::Write(topic));
    Fault {
        cause: format!("the brokers refuse a message for {topic}: {code}"),
        remedy: remedy.unwrap_or_else(|| "the brokers' logs may say more".into()),
    }
}

/// Why the topic acknowledges nothing although the client has reported no error.
async fn look_at(settings: &KafkaSettings, topic: &str) -> Fault {
    let (settings, name) = (settings.clone(), topic.to_owned());
    let cause = format!("the brokers do not acknowledge a message for {topic}");
    let probe = match ClusterProbe::new(settings, LOOK_LIMIT) {
        Ok(probe) => probe,
        Err(error) => return Fault { cause: format!("{cause}: {error:#}"), remedy: String::new() },
    };
    let asked = probe.clone();
    let found = match spawn_blocking(move || asked.topic(&name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return unknown_topic(cause, topic, &error),
        Err(error) => return Fault { cause: format!("{cause}: {error}"), remedy: String::new() },
    };
    let minimum = match probe.topic_limits(&[topic]).await {
        Ok(limits) => limits.get(topic).and_then(|limits| limits.min_in_sync),
        Err(_) => None,
    };
    let (in_sync, replicas, leaderless) = (found.in_sync, found.replicas, found.leaderless);
    if !leaderless.is_empty() {
        let cause = format!("{cause}: its partitions {leaderless:?} have no leader");
        return Fault { cause, remedy: "start the brokers that have their replicas".into() };
    }
    let start = "start the brokers that have its other replicas";
    match minimum {
        Some(minimum) if in_sync < minimum => Fault {
            cause: format!(
                "{cause}: it has {in_sync} replicas in sync, and its min.insync.replicas is \
                 {minimum}"
            ),
            remedy: format!("{start}, or lower its min.insync.replicas"),
        },
        None if in_sync < replicas => Fault {
            cause: format!("{cause}: only {in_sync} of its {replicas} replicas are in sync"),
            remedy: start.into(),
        },
        _ => Fault {
            cause: format!("{cause}, and report no error"),
            remedy: "the brokers' logs may say more".into(),
        },
    }
}

fn unknown_topic(cause: String, topic: &str, error: &ProbeError) -> Fault {
    match error {
        ProbeError::Denied => Fault {
            cause: format!("{cause}: {}", plain_text(Code::TopicAuthorizationFailed)),
            remedy: remedy(Code::TopicAuthorizationFailed, &TopicUse::Write(topic))
                .unwrap_or_default(),
        },
        ProbeError::NotFound => Fault {
            cause: format!("{cause}: {}", plain_text(Code::UnknownTopicOrPartition)),
            remedy: remedy(Code::UnknownTopicOrPartition, &TopicUse::Write(topic))
                .unwrap_or_default(),
        },
        // The text names what failed, where librdkafka knows it.
        ProbeError::NoAnswer(text) => Fault {
            cause: format!("{cause}: no broker answers: {text}"),
            remedy: "start the brokers, or repair the network to them".into(),
        },
        ProbeError::Other(text) => {
            Fault { cause: format!("{cause}: {text}"), remedy: String::new() }
        }
    }
}

fn plain_text(code: Code) -> String {
    plain(rdkafka::error::KafkaError::Global(code)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Lease;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_message_counts_until_it_is_dropped() {
        let health =
            Arc::new(Health::new(Arc::new(Lease::new(Duration::from_secs(30))), Duration::ZERO));
        let metrics = Arc::new(Metrics::new());
        let all = Unacknowledged::new(health, metrics.clone());
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = all.add(Channel::Outcomes, at(1));
        let second = all.add(Channel::DeadLetters, at(2));
        assert_eq!(all.oldest().unwrap().at, at(1));
        drop(first);
        assert_eq!(all.oldest().unwrap().at, at(2));
        let third = all.add(Channel::Outcomes, at(3));
        assert_eq!(all.oldest().unwrap().at, at(2));
        second.refused(Some(Code::InvalidTimestamp));
        second.refused(Some(Code::MessageTimedOut));
        assert_eq!(all.oldest().unwrap().error, Some(Code::InvalidTimestamp), "the broker's");
        drop((second, third));
        assert!(all.oldest().is_none());
        assert_eq!(metrics.unacknowledged.get(), 0);
    }
}
