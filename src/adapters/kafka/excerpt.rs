//! A piece of one topic, read once from edge to edge; and single records of it.
//!
//! The end is where the topic ended when it was opened, or an edge before it. Everything here
//! blocks; it runs on a thread where that hurts nobody. It never goes on when the brokers are
//! silent for too long, and never joins a group.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::consumer::own;
use super::quiet::QuietContext;
use super::reader::{connect, is_lasting};
use super::{Settings, plain};
use crate::domain::record::Record;

const POLL: Duration = Duration::from_millis(200);

/// Where an excerpt begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// At the first record that is not older.
    At(Timestamp),
    /// At these offsets, in these partitions.
    Offsets(BTreeMap<i32, i64>),
}

/// The excerpt.
pub struct Excerpt {
    client: BaseConsumer<QuietContext>,
    topic: Arc<str>,
    limit: Duration,
    /// What is there, by partition.
    there: BTreeMap<i32, Range<i64>>,
    /// What is read of it.
    ranges: BTreeMap<i32, Range<i64>>,
}

impl Excerpt {
    /// Look the topic up; the whole of it. The brokers may be silent for `limit`.
    pub fn open(settings: &Settings, topic: &str, limit: Duration) -> anyhow::Result<Self> {
        let (client, partitions) = connect(settings, topic, limit)?;
        let mut there = BTreeMap::new();
        for partition in partitions {
            let (low, high) = client
                .fetch_watermarks(topic, partition, limit)
                .map_err(plain)
                .with_context(|| format!("failed to look up the offsets of {topic}"))?;
            there.insert(partition, low..high);
        }
        let ranges = there.clone();
        Ok(Self { client, topic: topic.into(), limit, there, ranges })
    }

    /// Begin here and not before.
    pub fn begin(&mut self, edge: &Edge) -> anyhow::Result<()> {
        let offsets = self.offsets(edge)?;
        for (partition, range) in &mut self.ranges {
            if let Some(offset) = offsets.get(partition) {
                range.start = (*offset).clamp(range.start, range.end);
            }
        }
        Ok(())
    }

    /// End before here.
    pub fn end(&mut self, edge: &Edge) -> anyhow::Result<()> {
        let offsets = self.offsets(edge)?;
        for (partition, range) in &mut self.ranges {
            if let Some(offset) = offsets.get(partition) {
                range.end = (*offset).clamp(range.start, range.end);
            }
        }
        Ok(())
    }

    /// Only these partitions; false: one of them is not there.
    pub fn keep(&mut self, partitions: &[i32]) -> bool {
        self.ranges.retain(|partition, _| partitions.contains(partition));
        partitions.iter().all(|partition| self.ranges.contains_key(partition))
    }

    /// The offsets that are read, by partition.
    pub fn ranges(&self) -> &BTreeMap<i32, Range<i64>> {
        &self.ranges
    }

    /// Of the oldest records in partitions that have lost some before, the time of the youngest;
    /// `now`, where a partition has lost all it had.
    pub fn trimmed_until(&self, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
        let mut until = None;
        for (partition, there) in self.there.iter().filter(|(_, there)| there.start > 0) {
            let oldest = self.record_at(*partition, there.start)?;
            until = until.max(Some(oldest.and_then(|record| record.timestamp).unwrap_or(now)));
        }
        Ok(until)
    }

    /// This record, or the next one after it that is still there.
    pub fn record_at(&self, partition: i32, offset: i64) -> anyhow::Result<Option<Record>> {
        let Some(there) = self.there.get(&partition) else { return Ok(None) };
        if offset >= there.end {
            return Ok(None);
        }
        let mut found = None;
        self.walk([(partition, offset.max(there.start)..there.end)].into(), |record| {
            found = Some(record);
            false
        })?;
        Ok(found)
    }

    /// Every record of the excerpt, as long as `take` wants more.
    pub fn read(&self, take: impl FnMut(Record) -> bool) -> anyhow::Result<()> {
        self.walk(self.ranges.clone(), take)
    }

    fn walk(
        &self,
        mut unread: BTreeMap<i32, Range<i64>>,
        mut take: impl FnMut(Record) -> bool,
    ) -> anyhow::Result<()> {
        unread.retain(|_, range| !range.is_empty());
        let mut list = TopicPartitionList::with_capacity(unread.len());
        for (partition, range) in &unread {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(range.start))?;
        }
        self.client.assign(&list).with_context(|| format!("failed to read {}", self.topic))?;
        // What an earlier reading has paused stays so until it is told otherwise.
        self.client.resume(&list).map_err(plain)?;
        let mut heard = Instant::now();
        while !unread.is_empty() {
            let (partition, next) = match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    let place = (message.partition(), message.offset());
                    let is_wanted =
                        unread.get(&place.0).is_some_and(|range| range.contains(&place.1));
                    if is_wanted && !take(own(&message, &self.topic)) {
                        break;
                    }
                    (place.0, place.1 + 1)
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => (partition, i64::MAX),
                Some(Err(error)) if is_lasting(&error) => {
                    return Err(plain(error).context(format!("failed to read {}", self.topic)));
                }
                // The client's context has told what passes; it counts as silence.
                None | Some(Err(_)) if heard.elapsed() <= self.limit => continue,
                None | Some(Err(_)) => {
                    let (topic, seconds) = (&self.topic, self.limit.as_secs());
                    bail!("nothing came from the brokers for {seconds} s; {topic} is not read");
                }
            };
            heard = Instant::now();
            if unread.get(&partition).is_some_and(|range| next >= range.end) {
                unread.remove(&partition);
                let mut done = TopicPartitionList::new();
                done.add_partition(&self.topic, partition);
                self.client.pause(&done).map_err(plain)?;
            }
        }
        self.client.unassign().map_err(plain)
    }

    fn offsets(&self, edge: &Edge) -> anyhow::Result<BTreeMap<i32, i64>> {
        let time = match edge {
            // Below zero Kafka means something else.
            Edge::At(time) => Offset::Offset(time.as_millisecond().max(0)),
            Edge::Offsets(offsets) => return Ok(offsets.clone()),
        };
        let mut times = TopicPartitionList::with_capacity(self.there.len());
        for partition in self.there.keys() {
            times.add_partition_offset(&self.topic, *partition, time)?;
        }
        let found = self.client.offsets_for_times(times, self.limit).map_err(plain)?;
        let offset = |partition: &i32, range: &Range<i64>| {
            match found.find_partition(&self.topic, *partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // No record is young enough.
                _ => range.end,
            }
        };
        let offsets = self.there.iter();
        Ok(offsets.map(|(partition, range)| (*partition, offset(partition, range))).collect())
    }
}
