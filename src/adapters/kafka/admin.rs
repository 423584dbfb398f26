//! Questions to the cluster: which topics there are, and making the ones that are missing.
//!
//! These calls block for as long as the brokers take; they run on a blocking thread.
//! This file never changes or deletes a topic that exists.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use super::quiet::QuietContext;
use super::{Settings, plain};

/// Make the configured topics that are missing, with the broker's default partitions. Returns what
/// the broker refused; an error means that it gave no answer.
pub async fn create_topics(settings: &Settings, limit: Duration) -> anyhow::Result<Vec<String>> {
    let config = settings.client_config();
    let admin: AdminClient<_> =
        AdminClient::from_config_and_context(&config, QuietContext::default())
            .map_err(plain)
            .context("failed to set up the Kafka admin client")?;
    let topics = &settings.topics;
    let names = [&topics.escalations, &topics.outcomes, &topics.dead_letters];
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

/// Which of the configured topics there are not; an error means that no broker answers.
pub fn missing_topics(settings: &Settings, limit: Duration) -> anyhow::Result<Vec<String>> {
    let (topics, client) = (&settings.topics, client(settings)?);
    let mut missing = Vec::new();
    for name in [&topics.escalations, &topics.outcomes, &topics.dead_letters] {
        if count(&client, settings, (name, limit))?.is_none() {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

/// How many partitions a topic has; `None` where there is no such topic.
pub fn partitions(
    settings: &Settings,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<Option<usize>> {
    count(&client(settings)?, settings, (topic, limit))
}

fn client(settings: &Settings) -> anyhow::Result<BaseConsumer<QuietContext>> {
    let config = settings.client_config();
    let client = config.create_with_context(QuietContext::default());
    client.map_err(plain).context("failed to set up a Kafka client")
}

fn count(
    client: &BaseConsumer<QuietContext>,
    settings: &Settings,
    (topic, limit): (&str, Duration),
) -> anyhow::Result<Option<usize>> {
    let metadata = client
        .fetch_metadata(Some(topic), limit)
        .map_err(plain)
        .with_context(|| super::no_answer(settings))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found.filter(|t| t.error().is_none()).map(|t| t.partitions().len()).filter(|n| *n > 0))
}
