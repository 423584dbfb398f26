//! Which topics exist, and the creation of missing ones. Existing topics are never changed.
//!
//! Only [`create_topics`] is async; the other functions block as long as the brokers take.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;

use super::log_throttle::ThrottledErrors;
use super::metadata::fetch_metadata;
use super::{KafkaSettings, plain};

/// Create the configured topics that are missing, with the broker's default number of partitions
/// and replicas. Returns what the broker refused; an error means that it did not answer.
pub(crate) async fn create_topics(
    settings: &KafkaSettings,
    limit: Duration,
) -> anyhow::Result<Vec<String>> {
    let config = settings.client_config();
    let admin: AdminClient<_> =
        AdminClient::from_config_and_context(&config, ThrottledErrors::default())
            .map_err(plain)
            .context("failed to create the Kafka admin client")?;
    let names = settings.topics.all();
    let new: Vec<_> =
        names.iter().map(|name| NewTopic::new(name, -1, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(limit)).request_timeout(Some(limit));
    let results = admin.create_topics(&new, &options).await.context("failed to create topics")?;
    let refused = results.into_iter().filter_map(|result| match result {
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
        Err((name, code)) => Some(format!("failed to create topic {name}: {code}")),
    });
    Ok(refused.collect())
}

/// The configured topics that do not exist; an error means that no broker answers.
pub(crate) fn missing_topics(
    settings: &KafkaSettings,
    limit: Duration,
) -> anyhow::Result<Vec<String>> {
    let lookup = TopicLookup::new(settings, limit)?;
    let mut missing = Vec::new();
    for name in settings.topics.all() {
        if lookup.partition_count(name)?.is_none() {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

/// The number of partitions of a topic; `None` where it does not exist.
pub(crate) fn partition_count(
    settings: &KafkaSettings,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<Option<usize>> {
    TopicLookup::new(settings, limit)?.partition_count(topic)
}

struct TopicLookup<'a> {
    client: BaseConsumer<ThrottledErrors>,
    settings: &'a KafkaSettings,
    limit: Duration,
}

impl<'a> TopicLookup<'a> {
    fn new(settings: &'a KafkaSettings, limit: Duration) -> anyhow::Result<Self> {
        let client = settings
            .client_config()
            .create_with_context(ThrottledErrors::default())
            .map_err(plain)
            .context("failed to create a Kafka client")?;
        Ok(Self { client, settings, limit })
    }

    fn partition_count(&self, topic: &str) -> anyhow::Result<Option<usize>> {
        let metadata = fetch_metadata(&self.client, self.settings, topic, self.limit)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.filter(|t| t.error().is_none()).map(|t| t.partitions().len()).filter(|n| *n > 0))
    }
}
