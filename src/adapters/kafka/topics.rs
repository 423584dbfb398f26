//! Which topics exist, and the creation of missing ones. Existing topics are never changed.
//!
//! Only [`create_topics`] is async; the other functions block as long as the brokers take.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::client_errors::ThrottledErrors;
use super::metadata::fetch_metadata;
use super::remedy::{TopicUse, remedy};
use super::{KafkaSettings, TopicNames, plain};

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
        Ok(_) | Err((_, Code::TopicAlreadyExists)) => None,
        Err((name, code)) => Some(format!("failed to create topic {name}: {code}")),
    });
    Ok(refused.collect())
}

/// What keeps the service from its topics: those that do not exist, and those of which the broker
/// says no more than an error.
#[derive(Debug, Default)]
pub(crate) struct UnusableTopics {
    /// Topics that do not exist.
    pub missing: Vec<String>,
    /// Each a sentence: the topic, what the broker said, and what to do about it where that is known.
    pub refused: Vec<String>,
}

/// Which of the configured topics cannot be used; an error means that no broker answers.
pub(crate) fn unusable_topics(
    settings: &KafkaSettings,
    limit: Duration,
) -> anyhow::Result<UnusableTopics> {
    let lookup = TopicLookup::new(settings, limit)?;
    let mut unusable = UnusableTopics::default();
    let TopicNames { escalations, outcomes, dead_letters, .. } = &settings.topics;
    for usage in
        [TopicUse::Read(escalations), TopicUse::Write(outcomes), TopicUse::Write(dead_letters)]
    {
        let topic = usage.topic();
        match lookup.partitions(topic)? {
            Ok(partitions) if partitions > 0 => {}
            Ok(_) | Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                unusable.missing.push(topic.to_owned());
            }
            Err(code) => {
                let remedy = remedy(code, &usage).map(|remedy| format!("; {remedy}"));
                let remedy = remedy.unwrap_or_default();
                unusable.refused.push(format!("topic {topic}: {code}{remedy}"));
            }
        }
    }
    Ok(unusable)
}

/// The number of partitions of a topic; `None` where it does not exist.
pub(crate) fn partition_count(
    settings: &KafkaSettings,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<Option<usize>> {
    let partitions = TopicLookup::new(settings, limit)?.partitions(topic)?;
    Ok(partitions.ok().filter(|partitions| *partitions > 0))
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

    /// The number of partitions, or the broker's error.
    fn partitions(&self, topic: &str) -> anyhow::Result<Result<usize, Code>> {
        let metadata = fetch_metadata(&self.client, self.settings, topic, self.limit)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(match found {
            Some(found) => match found.error() {
                None => Ok(found.partitions().len()),
                Some(error) => Err(error.into()),
            },
            None => Err(Code::UnknownTopicOrPartition),
        })
    }
}
