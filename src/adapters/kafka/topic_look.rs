//! Which topic has a name now, asked by a client of its own.
//!
//! The consumer learns a topic's id from its log ([`TopicIdentity`]), which it hands out while it is
//! polled; in a rebalance it is not polled.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::{ClientConfig, ClientContext};
use tokio::time::Instant;

use super::rebalance::wait_for;
use super::topic_identity::{DEBUG_CONTEXT, TopicIdentity};
use crate::lease::Lease;

/// How long the brokers may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How long all of it may take.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// For this many milliseconds the client is polled for its log.
const LOG_POLLS: usize = 50;

/// A topic, as the brokers know it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PresentTopic {
    Missing,
    Id(Arc<str>),
}

struct IdentityLog(TopicIdentity);

impl ClientContext for IdentityLog {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.0.on_log(message);
    }
}

impl ConsumerContext for IdentityLog {}

/// Ask for a topic, and renew the lease meanwhile. `None`: no broker answers, or they name no ids.
pub(super) fn look_at(
    config: ClientConfig,
    topic: Arc<str>,
    lease: &Lease,
) -> Option<PresentTopic> {
    let (sender, found) = channel();
    // On a thread of its own, because closing a client may block without a broker.
    let look = move || sender.send(ask(config, &topic)).unwrap_or_default();
    thread::Builder::new().name("kafka-topic".into()).spawn(look).ok()?;
    wait_for(&found, Instant::now() + LOOK_LIMIT, lease, || {}).ok().flatten()
}

fn ask(mut config: ClientConfig, topic: &str) -> Option<PresentTopic> {
    config.set("debug", DEBUG_CONTEXT).set_log_level(RDKafkaLogLevel::Debug);
    let context = IdentityLog(TopicIdentity::new(topic));
    let client: BaseConsumer<IdentityLog> = config.create_with_context(context).ok()?;
    let found = client.fetch_metadata(Some(topic), ANSWER_LIMIT).ok()?;
    if found.topics().first().is_none_or(|topic| topic.partitions().is_empty()) {
        return Some(PresentTopic::Missing);
    }
    for _ in 0..LOG_POLLS {
        if let Some(id) = client.context().0.id() {
            return Some(PresentTopic::Id(id));
        }
        // Nothing is assigned, so no records come.
        drop(client.poll(Duration::from_millis(1)));
    }
    None
}
