//! Reads a topic without joining a group and without committing.
//!
//! [`RangeReader`] reads a range that is fixed when it is opened, once or record by record.
//! [`TopicFollower`] reads from a boundary to the end and then goes on with what comes. Both block,
//! so they belong on a blocking thread. Transient errors are logged, throttled, and read over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::topic_client::{Polled, TopicClient, TopicPartitions, patiently};
use super::{KafkaSettings, plain};
use crate::domain::record::Record;

const POLL: Duration = Duration::from_millis(200);
/// How long the brokers may take to send a record below the end of its partition. Behind that time there is
/// none: what the partition ends with has been compacted.
const LAGGING: Duration = Duration::from_secs(2);

/// Where reading begins or ends, in every partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// At the oldest record that is still there.
    Oldest,
    /// This many records before the end of each partition.
    Last(u64),
    /// At the first record with this timestamp or a later one.
    At(Timestamp),
    /// At these offsets, by partition; other partitions keep their boundary.
    Offsets(BTreeMap<i32, i64>),
    /// Where an earlier reading has ended, by partition. A partition that it did not see, or that is
    /// shorter now because the topic was created again, is read from its oldest record.
    After(BTreeMap<i32, i64>),
    /// At the end.
    End,
}

/// The topic has no such partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSuchPartition(pub i32);

/// What is done about partitions that have no leader now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaderless {
    /// Wait for one; without one it is an error.
    Wait,
    /// Read the others.
    Skip,
}

/// Reads a fixed range of a topic.
pub(crate) struct RangeReader {
    client: TopicClient,
    limit: Duration,
    /// The offsets that existed when the topic was opened, by partition.
    available: BTreeMap<i32, Range<i64>>,
    /// The part of these that is read.
    ranges: BTreeMap<i32, Range<i64>>,
    /// The partitions that were left out.
    leaderless: BTreeSet<i32>,
    has_replicas: bool,
}

impl RangeReader {
    /// Look up the topic and its offsets; at first the range is all of it. Each request to the
    /// brokers may take `limit`, and reading fails after that long without an answer.
    pub(crate) fn open(
        settings: &KafkaSettings,
        topic: &str,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        Self::open_with(settings, topic, limit, Leaderless::Wait)
    }

    fn open_with(
        settings: &KafkaSettings,
        topic: &str,
        limit: Duration,
        leaderless: Leaderless,
    ) -> anyhow::Result<Self> {
        let client = TopicClient::connect(settings, topic)?;
        let found = client.partitions(settings, limit)?;
        let TopicPartitions { numbers, leaderless: unled, has_replicas } = found;
        let leaderless = match leaderless {
            Leaderless::Wait => BTreeSet::new(),
            Leaderless::Skip => unled,
        };
        let mut available = BTreeMap::new();
        for partition in numbers.into_iter().filter(|number| !leaderless.contains(number)) {
            let (low, high) = client.watermarks(partition, limit)?;
            available.insert(partition, low..high);
        }
        let ranges = available.clone();
        Ok(Self { client, limit, available, ranges, leaderless, has_replicas })
    }

    /// Begin here.
    pub(crate) fn start_at(&mut self, boundary: &Boundary) -> anyhow::Result<()> {
        self.start_at_first(std::slice::from_ref(boundary))
    }

    /// Begin at the first of these boundaries, in each partition.
    fn start_at_first(&mut self, boundaries: &[Boundary]) -> anyhow::Result<()> {
        let mut offsets = BTreeMap::new();
        for boundary in boundaries {
            for (partition, offset) in self.offsets(boundary)? {
                let first = offsets.entry(partition).or_insert(offset);
                *first = offset.min(*first);
            }
        }
        for (partition, range) in &mut self.ranges {
            if let Some(offset) = offsets.get(partition) {
                range.start = (*offset).clamp(range.start, range.end);
            }
        }
        Ok(())
    }

    /// End before this boundary.
    pub(crate) fn end_at(&mut self, boundary: &Boundary) -> anyhow::Result<()> {
        let offsets = self.offsets(boundary)?;
        for (partition, range) in &mut self.ranges {
            if let Some(offset) = offsets.get(partition) {
                range.end = (*offset).clamp(range.start, range.end);
            }
        }
        Ok(())
    }

    /// Read these partitions only.
    pub(crate) fn select_partitions(&mut self, partitions: &[i32]) -> Result<(), NoSuchPartition> {
        self.ranges.retain(|partition, _| partitions.contains(partition));
        match partitions.iter().find(|partition| !self.ranges.contains_key(partition)) {
            Some(missing) => Err(NoSuchPartition(*missing)),
            None => Ok(()),
        }
    }

    /// The offsets that are read, by partition.
    pub(crate) fn ranges(&self) -> &BTreeMap<i32, Range<i64>> {
        &self.ranges
    }

    /// A time before which records may have been deleted: the latest of the oldest timestamps of all
    /// partitions that no longer begin at offset 0. `now` where a partition has lost all its records,
    /// `None` where no partition has lost any.
    pub(crate) fn trimmed_until(&self, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
        let mut until = None;
        for (partition, range) in self.available.iter().filter(|(_, range)| range.start > 0) {
            let oldest = self.record_at(*partition, range.start)?;
            until = until.max(Some(oldest.and_then(|record| record.timestamp).unwrap_or(now)));
        }
        Ok(until)
    }

    /// The record at this offset or, where that was deleted, the next one.
    pub(crate) fn record_at(&self, partition: i32, offset: i64) -> anyhow::Result<Option<Record>> {
        let Some(available) = self.available.get(&partition) else { return Ok(None) };
        if offset >= available.end {
            return Ok(None);
        }
        let mut found = None;
        let range = offset.max(available.start)..available.end;
        self.read_ranges([(partition, range)].into(), |record| {
            found = Some(record);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Read every record of the range, in the order of each partition.
    pub(crate) fn read(&self, mut take: impl FnMut(Record)) -> anyhow::Result<()> {
        self.read_ranges(self.ranges.clone(), |record| {
            take(record);
            ControlFlow::Continue(())
        })
    }

    /// The same, until `take` breaks.
    pub(crate) fn read_until(
        &self,
        take: impl FnMut(Record) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        self.read_ranges(self.ranges.clone(), take)
    }

    fn read_ranges(
        &self,
        mut ranges: BTreeMap<i32, Range<i64>>,
        mut take: impl FnMut(Record) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        ranges.retain(|_, range| !range.is_empty());
        self.client.assign(&ranges)?;
        let mut unread = UnreadRanges::new(ranges);
        let mut last_answer = Instant::now();
        while !unread.is_empty() {
            let began = Instant::now();
            let polled = self.client.poll(POLL)?;
            let time = began.elapsed();
            let ended = match polled {
                Polled::Record(record) => {
                    let (partition, offset) = (record.position.partition, record.position.offset);
                    if unread.contains(partition, offset) && take(record).is_break() {
                        break;
                    }
                    last_answer = Instant::now();
                    unread.read(partition, offset + 1)
                }
                Polled::PartitionEnd(partition) => {
                    last_answer = Instant::now();
                    unread.end(&self.client, partition, self.limit)?
                }
                Polled::Nothing if last_answer.elapsed() > self.limit => {
                    return Err(self.client.silent(self.limit));
                }
                Polled::Nothing => None,
            };
            unread.on_polled(time);
            if let Some(partition) = ended {
                self.client.pause(partition)?;
            }
        }
        self.client.consumer.unassign().map_err(plain)
    }

    fn offsets(&self, boundary: &Boundary) -> anyhow::Result<BTreeMap<i32, i64>> {
        let available = self.available.iter();
        let offsets = match boundary {
            Boundary::Oldest => available.map(|(number, range)| (*number, range.start)).collect(),
            Boundary::Last(count) => available
                .map(|(number, range)| (*number, range.end.saturating_sub_unsigned(*count)))
                .collect(),
            Boundary::At(time) => self.offsets_at(*time).with_context(|| {
                format!("failed to look up the offsets of {}", self.client.topic)
            })?,
            Boundary::Offsets(offsets) => offsets.clone(),
            Boundary::After(offsets) => {
                let start = |number: &i32, range: &Range<i64>| {
                    let read_to = offsets.get(number).filter(|read_to| **read_to <= range.end);
                    *read_to.unwrap_or(&range.start)
                };
                available.map(|(number, range)| (*number, start(number, range))).collect()
            }
            Boundary::End => available.map(|(number, range)| (*number, range.end)).collect(),
        };
        Ok(offsets)
    }

    fn offsets_at(&self, time: Timestamp) -> anyhow::Result<BTreeMap<i32, i64>> {
        // Negative numbers stand for "oldest" and "end" in this request.
        let time = Offset::Offset(time.as_millisecond().max(0));
        let mut times = TopicPartitionList::with_capacity(self.available.len());
        for partition in self.available.keys() {
            times.add_partition_offset(&self.client.topic, *partition, time)?;
        }
        let find = || {
            let found = self.client.consumer.offsets_for_times(times.clone(), self.limit)?;
            // A partition whose leader has not answered is not one without such records.
            found.elements().iter().try_for_each(TopicPartitionListElem::error)?;
            Ok(found)
        };
        let found = patiently(self.limit, find).map_err(plain)?;
        let offset = |partition: i32, range: &Range<i64>| {
            match found.find_partition(&self.client.topic, partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // No record has this timestamp or a later one.
                _ => range.end,
            }
        };
        let available = self.available.iter();
        Ok(available.map(|(number, range)| (*number, offset(*number, range))).collect())
    }
}

/// The partitions that are not read to their end yet, which is the one they had at the opening.
struct UnreadRanges {
    ranges: BTreeMap<i32, Range<i64>>,
    /// Those that seem to have ended below that, and for how much longer they are waited for.
    seem_ended: BTreeMap<i32, Duration>,
}

impl UnreadRanges {
    fn new(ranges: BTreeMap<i32, Range<i64>>) -> Self {
        Self { ranges, seem_ended: BTreeMap::new() }
    }

    fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn contains(&self, partition: i32, offset: i64) -> bool {
        self.ranges.get(&partition).is_some_and(|range| range.contains(&offset))
    }

    /// The partition was read up to this offset. Returns it where it has just ended.
    fn read(&mut self, partition: i32, next: i64) -> Option<i32> {
        self.seem_ended.remove(&partition);
        let range = self.ranges.get_mut(&partition)?;
        // Whatever comes again is not read again.
        range.start = next.max(range.start);
        if next < range.end {
            return None;
        }
        self.ranges.remove(&partition).map(|_| partition)
    }

    /// The client has read all that the brokers show it. A leader that was just elected shows less for a
    /// moment than the one before has acknowledged.
    fn end(
        &mut self,
        client: &TopicClient,
        partition: i32,
        limit: Duration,
    ) -> anyhow::Result<Option<i32>> {
        let Some(range) = self.ranges.get(&partition) else { return Ok(None) };
        // Records of transactions count, which are not handed out.
        let position = client.position(partition)?.unwrap_or(range.start);
        let ended = self.read(partition, position);
        if ended.is_none() {
            // Answers once the leader knows what was acknowledged before it was elected.
            client.watermarks(partition, limit)?;
            self.seem_ended.insert(partition, LAGGING);
        }
        Ok(ended)
    }

    /// The client was polled for this long: end those that seem to have ended for long.
    fn on_polled(&mut self, time: Duration) {
        // As nearly always, and there may be a poll for each of a million records.
        if self.seem_ended.is_empty() {
            return;
        }
        for left in self.seem_ended.values_mut() {
            *left = left.saturating_sub(time);
        }
        let is_gap = |left: &Duration| left.is_zero();
        self.ranges.retain(|partition, _| !self.seem_ended.get(partition).is_some_and(is_gap));
    }
}

/// Reads a topic from a boundary on, past the end it had when it was opened.
pub(crate) struct TopicFollower {
    client: TopicClient,
    unread: UnreadRanges,
    end: BTreeMap<i32, i64>,
    leaderless: BTreeSet<i32>,
    has_replicas: bool,
    limit: Duration,
    /// For how long nothing has come.
    silent_for: Duration,
}

impl TopicFollower {
    /// Look up the topic and begin at the first of these boundaries, in each partition. Each request to
    /// the brokers may take `limit`, and reading up to the present end fails after that long without
    /// an answer: a client that was created while a broker came back may never get one.
    pub(crate) fn open(
        settings: &KafkaSettings,
        topic: &str,
        starts: &[Boundary],
        limit: Duration,
        leaderless: Leaderless,
    ) -> anyhow::Result<Self> {
        let mut range = RangeReader::open_with(settings, topic, limit, leaderless)?;
        range.start_at_first(starts)?;
        let RangeReader { client, limit, ranges, leaderless, has_replicas, .. } = range;
        client.assign(&ranges)?;
        let end = ranges.iter().map(|(number, range)| (*number, range.end)).collect();
        // An empty partition, too, is read until the client reports its end: so it may be read.
        let (unread, silent_for) = (UnreadRanges::new(ranges), Duration::ZERO);
        Ok(Self { client, unread, end, leaderless, has_replicas, limit, silent_for })
    }

    /// The partitions that are not read.
    pub(super) fn leaderless(&self) -> &BTreeSet<i32> {
        &self.leaderless
    }

    /// Where each partition ended at the opening.
    pub(crate) fn opened_at_end(&self) -> &BTreeMap<i32, i64> {
        &self.end
    }

    /// Whether a partition of the topic has more than one replica.
    pub(crate) fn has_replicas(&self) -> bool {
        self.has_replicas
    }

    /// Everything that was there at the opening has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.unread.is_empty()
    }

    /// The next record, if one comes within `wait`. An error means that no more will come.
    pub(crate) fn next(&mut self, wait: Duration) -> anyhow::Result<Option<Record>> {
        // What the caller does between two calls is no silence of the brokers.
        let began = Instant::now();
        let polled = self.client.poll(wait)?;
        let time = began.elapsed();
        let silent_for = self.silent_for + time;
        self.silent_for = Duration::ZERO;
        let record = match polled {
            Polled::Record(record) => {
                self.unread.read(record.position.partition, record.position.offset + 1);
                Some(record)
            }
            Polled::PartitionEnd(partition) => {
                self.unread.end(&self.client, partition, self.limit)?;
                None
            }
            Polled::Nothing if !self.is_at_end() && silent_for > self.limit => {
                return Err(self.client.silent(self.limit));
            }
            Polled::Nothing => {
                self.silent_for = silent_for;
                None
            }
        };
        self.unread.on_polled(time);
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_ends_where_it_did_at_the_opening() {
        let mut unread = UnreadRanges::new([(0, 5..9), (1, 3..3), (2, 0..4)].into());
        assert!(unread.contains(0, 8) && !unread.contains(0, 9) && !unread.contains(1, 3));
        assert_eq!(unread.read(1, 3), Some(1), "it was empty");
        assert_eq!(unread.read(0, 8), None);
        // A new leader shows the record at 8 a moment later.
        unread.seem_ended.insert(0, LAGGING);
        unread.on_polled(LAGGING / 2);
        assert!(unread.contains(0, 8) && !unread.contains(0, 7), "nothing is read twice");
        assert_eq!((unread.read(0, 9), unread.read(0, 10)), (Some(0), None));
        unread.seem_ended.insert(2, LAGGING);
        unread.on_polled(LAGGING);
        assert!(unread.is_empty(), "what it ended with was compacted");
    }
}
