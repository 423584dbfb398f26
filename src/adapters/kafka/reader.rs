//! A reader of one topic that belongs to no group: from a chosen start to the end, and on.
//!
//! The end is where the topic ended when reading began. Everything here blocks; it runs on a
//! thread where that hurts nobody. A fault that passes is told at a bearable rate and read over.
//! This file never joins the group and never commits an offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::own;
use super::quiet::QuietContext;
use super::{Settings, plain};
use crate::domain::record::Record;

/// Where reading begins, in every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is there.
    Oldest,
    /// So many records before the end.
    Last(u64),
    /// At the first record that is not older.
    At(Timestamp),
    /// At the end.
    End,
}

/// The reader.
pub struct Reader {
    client: BaseConsumer<QuietContext>,
    topic: Arc<str>,
    /// The partitions that are not read to their end yet, and where that is.
    unread: BTreeMap<i32, i64>,
}

impl Reader {
    /// Look the topic up and begin; each question to the brokers may take as long as `limit`.
    pub fn open(
        settings: &Settings,
        topic: &str,
        start: Start,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let (client, partitions) = connect(settings, topic, limit)?;
        let places = places(&client, (topic, &partitions), start, limit)
            .with_context(|| format!("failed to look up the offsets of {topic}"))?;
        let mut list = TopicPartitionList::with_capacity(places.len());
        for place in &places {
            list.add_partition_offset(topic, place.partition, Offset::Offset(place.start))?;
        }
        client.assign(&list).with_context(|| format!("failed to read {topic}"))?;
        let unread = places.iter().map(|place| (place.partition, place.end)).collect();
        Ok(Self { client, topic: topic.into(), unread })
    }

    /// Everything that was there when reading began has been read.
    pub fn is_at_end(&self) -> bool {
        self.unread.is_empty()
    }

    /// The next record, if one comes in time. An error means that none will come any more.
    pub fn next(&mut self, wait: Duration) -> anyhow::Result<Option<Record>> {
        let error = match self.client.poll(wait) {
            None => return Ok(None),
            Some(Ok(message)) => {
                let record = own(&message, &self.topic);
                let (partition, next) = (message.partition(), message.offset() + 1);
                if self.unread.get(&partition).is_some_and(|end| next >= *end) {
                    self.unread.remove(&partition);
                }
                return Ok(Some(record));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.unread.remove(&partition);
                return Ok(None);
            }
            Some(Err(error)) => error,
        };
        if is_lasting(&error) {
            return Err(plain(error).context(format!("failed to read {}", self.topic)));
        }
        // The client's context has told it.
        Ok(None)
    }
}

/// A consumer that belongs to no group, and the partitions of the topic.
pub(super) fn connect(
    settings: &Settings,
    topic: &str,
    limit: Duration,
) -> anyhow::Result<(BaseConsumer<QuietContext>, Vec<i32>)> {
    let client: BaseConsumer<QuietContext> = settings
        .reader_config()
        .create_with_context(QuietContext::default())
        .map_err(plain)
        .context("failed to set up a Kafka consumer")?;
    let metadata = client
        .fetch_metadata(Some(topic), limit)
        .map_err(plain)
        .with_context(|| super::no_answer(settings))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    if let Some(error) = found.and_then(|found| found.error()) {
        let error = anyhow::Error::new(RDKafkaErrorCode::from(error));
        return Err(error.context(format!("failed to read {topic}")));
    }
    let partitions: Vec<i32> =
        found.map_or(&[][..], |found| found.partitions()).iter().map(|p| p.id()).collect();
    anyhow::ensure!(!partitions.is_empty(), "there is no topic {topic}");
    Ok((client, partitions))
}

/// No record will come any more.
pub(super) fn is_lasting(error: &KafkaError) -> bool {
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

/// Where reading a partition begins and ends.
struct Place {
    partition: i32,
    start: i64,
    end: i64,
}

fn places(
    client: &BaseConsumer<QuietContext>,
    (topic, partitions): (&str, &[i32]),
    start: Start,
    limit: Duration,
) -> anyhow::Result<Vec<Place>> {
    let mut places = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        let (low, high) = client.fetch_watermarks(topic, partition, limit).map_err(plain)?;
        let start = match start {
            Start::Oldest => low,
            Start::Last(count) => high.saturating_sub_unsigned(count).max(low),
            // Where no record is young enough: the end.
            Start::At(_) | Start::End => high,
        };
        places.push(Place { partition, start, end: high });
    }
    if let Start::At(time) = start {
        let mut times = TopicPartitionList::with_capacity(places.len());
        for place in &places {
            let time = Offset::Offset(time.as_millisecond());
            times.add_partition_offset(topic, place.partition, time)?;
        }
        let found = client.offsets_for_times(times, limit).map_err(plain)?;
        for place in &mut places {
            let offset = found.find_partition(topic, place.partition).map(|found| found.offset());
            if let Some(Offset::Offset(offset)) = offset {
                place.start = offset;
            }
        }
    }
    Ok(places)
}
