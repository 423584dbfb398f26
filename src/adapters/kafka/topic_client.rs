//! A consumer of one topic that belongs to no group, for [`range_reader`](super::range_reader).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::client_errors::ThrottledErrors;
use super::metadata::fetch_metadata;
use super::records::to_record;
use super::remedy::{TopicUse, remedy_of};
use super::{KafkaSettings, plain};
use crate::domain::record::Record;

const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A consumer of one topic that belongs to no group.
pub(super) struct TopicClient {
    pub(super) consumer: BaseConsumer<ThrottledErrors>,
    pub(super) topic: Arc<str>,
}

/// The partitions of a topic.
pub(super) struct TopicPartitions {
    pub(super) numbers: Vec<i32>,
    pub(super) leaderless: BTreeSet<i32>,
    pub(super) has_replicas: bool,
}

/// The result of one poll.
pub(super) enum Polled {
    Record(Record),
    /// This partition has been read to its current end.
    PartitionEnd(i32),
    /// Nothing came in time, or there was a transient error, which the client's context logs.
    Nothing,
}

impl TopicClient {
    pub(super) fn connect(settings: &KafkaSettings, topic: &str) -> anyhow::Result<Self> {
        let consumer = settings
            .reader_config()
            .create_with_context(ThrottledErrors::default())
            .map_err(plain)
            .context("failed to create a Kafka consumer")?;
        Ok(Self { consumer, topic: topic.into() })
    }

    pub(super) fn partitions(
        &self,
        settings: &KafkaSettings,
        limit: Duration,
    ) -> anyhow::Result<TopicPartitions> {
        let topic = &*self.topic;
        let metadata = fetch_metadata(&self.consumer, settings, topic, limit)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(error) = found.and_then(|found| found.error()) {
            return Err(self.failure(RDKafkaErrorCode::from(error).into()));
        }
        let partitions = found.map_or(&[][..], |found| found.partitions());
        let numbers: Vec<i32> = partitions.iter().map(|partition| partition.id()).collect();
        ensure!(!numbers.is_empty(), "there is no topic {topic}");
        let leaderless = partitions.iter().filter(|partition| partition.leader() < 0);
        let leaderless = leaderless.map(|partition| partition.id()).collect();
        let has_replicas = partitions.iter().any(|partition| partition.replicas().len() > 1);
        Ok(TopicPartitions { numbers, leaderless, has_replicas })
    }

    /// Read these partitions from the beginning of their ranges.
    pub(super) fn assign(&self, ranges: &BTreeMap<i32, Range<i64>>) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::with_capacity(ranges.len());
        for (partition, range) in ranges {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(range.start))?;
        }
        self.consumer.assign(&list).with_context(|| format!("failed to read {}", self.topic))?;
        // A partition that an earlier reading has paused stays paused across assignments.
        self.consumer.resume(&list).map_err(plain)
    }

    pub(super) fn pause(&self, partition: i32) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        self.consumer.pause(&list).map_err(plain)
    }

    /// Behind the last record that was read; `None`: none was.
    pub(super) fn position(&self, partition: i32) -> anyhow::Result<Option<i64>> {
        let positions = self.consumer.position().map_err(plain)?;
        let position = positions.find_partition(&self.topic, partition).map(|found| found.offset());
        Ok(position.and_then(|position| match position {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
    }

    /// The first and the next offset of a partition.
    pub(super) fn watermarks(&self, partition: i32, limit: Duration) -> anyhow::Result<(i64, i64)> {
        let topic = &self.topic;
        let watermarks = || self.consumer.fetch_watermarks(topic, partition, limit);
        patiently(limit, watermarks)
            .map_err(plain)
            .with_context(|| format!("failed to look up the offsets of {topic}"))
    }

    pub(super) fn silent(&self, limit: Duration) -> anyhow::Error {
        let (topic, seconds) = (&self.topic, limit.as_secs());
        anyhow!("nothing came from the brokers for {seconds} s; {topic} is not read")
    }

    /// An error means that no record will come any more.
    pub(super) fn poll(&self, wait: Duration) -> anyhow::Result<Polled> {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => Ok(Polled::Record(to_record(&message, &self.topic))),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Polled::PartitionEnd(partition)),
            Some(Err(error)) if is_permanent(&error) => Err(self.failure(plain(error))),
            None | Some(Err(_)) => Ok(Polled::Nothing),
        }
    }

    /// The same error, with what failed and what to do about it.
    fn failure(&self, error: anyhow::Error) -> anyhow::Error {
        let topic = &*self.topic;
        let remedy = remedy_of(&error, &TopicUse::Read(topic));
        let remedy = remedy.map(|remedy| format!(" ({remedy})")).unwrap_or_default();
        error.context(format!("failed to read {topic}{remedy}"))
    }
}

/// Asks again, at most for this long, where the leader is being elected or has just become one: it
/// does not know the partition, or where that ends, for a moment.
pub(super) fn patiently<T>(limit: Duration, ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode as Code;
    let until = Instant::now() + limit;
    loop {
        let answer = ask();
        let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let is_passing = matches!(
            code,
            Some(
                Code::LeaderNotAvailable
                    | Code::NotLeaderForPartition
                    | Code::ReplicaNotAvailable
                    | Code::OffsetNotAvailable
                    | Code::FencedLeaderEpoch
                    | Code::UnknownLeaderEpoch
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
            )
        );
        if !is_passing || Instant::now() > until {
            return answer;
        }
        thread::sleep(ASK_AGAIN);
    }
}

fn is_permanent(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition,
        ) => true,
        _ => matches!(error, KafkaError::MessageConsumptionFatal(_)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_leader_that_was_just_elected_is_asked_again() {
        let answers = |code, after: u32| {
            let asked = Cell::new(0);
            let answer = patiently(Duration::from_secs(60), || {
                asked.set(asked.get() + 1);
                if asked.get() > after { Ok(()) } else { Err(KafkaError::OffsetFetch(code)) }
            });
            (answer.is_ok(), asked.get())
        };
        assert_eq!(answers(RDKafkaErrorCode::OffsetNotAvailable, 2), (true, 3));
        assert_eq!(answers(RDKafkaErrorCode::TopicAuthorizationFailed, 2), (false, 1));
    }
}
