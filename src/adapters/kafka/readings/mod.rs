//! What is read of each assigned partition, and what is to be committed.
//!
//! A reading begins where `starting_offsets` says, and ends when the partition is revoked or its
//! topic was created again. Everything that belongs to it is forgotten with it, and what somebody
//! still reports for an earlier reading is ignored: so no offset is committed for a topic that it
//! does not belong to. Until a reading has begun, the records of its partition are dropped, if any comes;
//! it begins with a seek, after which they are delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::partition_start::{PartitionStart, UnknownStart};
use super::starting_offsets::StartingOffsets;
use super::topic_look::TopicsRead;
use crate::consume::ReadingStart;

/// A commit waits in the client while the group rebalances. One that is not confirmed after this time has
/// failed: librdkafka reports the failure of an asynchronous commit to nobody.
const CONFIRMED_AFTER: Duration = Duration::from_secs(10);

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Its reading has not begun.
    Dropped,
    Kept,
    /// It is the last one that the partition had when the reading began.
    KeptAtEnd,
}

/// The readings of the assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Readings(Mutex<ReadingsState>);

#[derive(Debug, Default)]
struct ReadingsState {
    partitions: BTreeMap<i32, PartitionReading>,
    last_number: u64,
}

#[derive(Debug)]
struct PartitionReading {
    number: u64,
    has_begun: bool,
    /// When it has begun, or began to wait for its start.
    since: Instant,
    /// The topic that is read; each commit names it.
    topic_id: Option<Arc<str>>,
    /// No record from this offset on was ever read by the group.
    unread_from: i64,
    /// The end of the partition when the reading began.
    end: i64,
    end_reported: bool,
    /// The client has fetched: a record, or that there is none.
    is_fetched: bool,
    /// It is paused since then.
    paused_at: Option<Instant>,
    /// The last offset that was received.
    received: Option<i64>,
    /// Everything below this offset is finished.
    finished: Option<i64>,
    /// What would be committed now is not what was committed last.
    is_uncommitted: bool,
    /// The last commit, until the statistics confirm it.
    sent: Option<SentCommit>,
}

#[derive(Debug)]
struct SentCommit {
    offset: i64,
    at: Instant,
}

impl PartitionReading {
    /// One whose start is unknown.
    fn unknown() -> Self {
        Self {
            number: 0,
            has_begun: false,
            since: Instant::now(),
            topic_id: None,
            unread_from: 0,
            end: 0,
            end_reported: false,
            is_fetched: false,
            paused_at: None,
            received: None,
            finished: None,
            is_uncommitted: false,
            sent: None,
        }
    }
}

impl ReadingsState {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// From when on the next reading of this partition is paused: from its beginning, where the present
    /// one is paused.
    fn still_paused(&self, partition: i32) -> Option<Instant> {
        let reading = self.partitions.get(&partition)?;
        reading.paused_at.map(|_| Instant::now())
    }

    fn begun(&mut self, partition: i32) -> Option<&mut PartitionReading> {
        self.partitions.get_mut(&partition).filter(|reading| reading.has_begun)
    }
}

impl Readings {
    /// Add partitions that are being assigned. One that was assigned and never revoked is paused as before.
    pub(super) fn add(&self, partitions: &[i32]) -> Vec<UnknownStart> {
        let mut state = self.0.lock();
        let mut add = |partition: i32| {
            let number = state.next_number();
            let paused_at = state.still_paused(partition);
            let unknown = PartitionReading { number, paused_at, ..PartitionReading::unknown() };
            state.partitions.insert(partition, unknown);
            UnknownStart::new(partition, number, None)
        };
        partitions.iter().map(|partition| add(*partition)).collect()
    }

    /// Forget partitions that are not assigned any more.
    pub(super) fn remove(&self, partitions: &[i32]) {
        self.0.lock().partitions.retain(|partition, _| !partitions.contains(partition));
    }

    /// Forget all: the client ends, and nothing more is asked for.
    pub(super) fn clear(&self) {
        self.0.lock().partitions.clear();
    }

    /// The client has learned the topic's id, perhaps after readings have begun.
    pub(super) fn set_unknown_topics(&self, topic_id: &Arc<str>) {
        for reading in self.0.lock().partitions.values_mut().filter(|reading| reading.has_begun) {
            reading.topic_id.get_or_insert_with(|| topic_id.clone());
        }
    }

    /// The topics that were read, of those of these partitions from which records may have come.
    pub(super) fn topics_read(&self, partitions: &[i32]) -> TopicsRead {
        let state = self.0.lock();
        let may_have_records = |(partition, reading): &(&i32, &PartitionReading)| {
            partitions.contains(partition) && (reading.has_begun || reading.topic_id.is_some())
        };
        let read = state.partitions.iter().filter(may_have_records);
        read.map(|(partition, reading)| (*partition, reading.topic_id.clone())).collect()
    }

    /// The assigned partitions.
    pub(super) fn partitions(&self) -> Vec<i32> {
        self.0.lock().partitions.keys().copied().collect()
    }

    /// End the readings of another topic than the one with this id.
    pub(super) fn end_of_other_topics(&self, topic_id: &Arc<str>) -> Vec<UnknownStart> {
        let mut state = self.0.lock();
        let ReadingsState { partitions, last_number } = &mut *state;
        let mut ended = Vec::new();
        for (&partition, reading) in partitions.iter_mut().filter(|(_, reading)| reading.has_begun)
        {
            let Some(read) = reading.topic_id.as_ref().filter(|read| *read != topic_id) else {
                continue;
            };
            *last_number += 1;
            let read_before = Some(read.clone());
            ended.push(UnknownStart::new(partition, *last_number, read_before));
            reading.number = *last_number;
            reading.has_begun = false;
            reading.since = Instant::now();
        }
        ended
    }

    /// Whether it is still unknown where this partition is to be read from.
    pub(super) fn is_due(&self, due: &UnknownStart) -> bool {
        let state = self.0.lock();
        let reading = state.partitions.get(&due.partition);
        reading.is_some_and(|reading| !reading.has_begun && reading.number == due.reading)
    }

    /// The client reads this partition from its start: whatever it delivers now belongs to this
    /// reading.
    pub(super) fn begin(&self, start: &PartitionStart) -> ReadingStart {
        let PartitionStart { due, offset, end, unread_from, topic_id, is_new, .. } = start;
        let reading = PartitionReading {
            number: due.reading,
            has_begun: true,
            topic_id: topic_id.clone(),
            unread_from: *unread_from,
            end: *end,
            finished: *offset,
            is_uncommitted: *is_new,
            ..PartitionReading::unknown()
        };
        let mut state = self.0.lock();
        let paused_at = state.still_paused(due.partition);
        state.partitions.insert(due.partition, PartitionReading { paused_at, ..reading });
        let UnknownStart { partition, reading, .. } = *due;
        ReadingStart { partition, reading, from: *offset, unread_from: *unread_from }
    }

    /// The client has delivered a record.
    pub(super) fn receive(&self, partition: i32, offset: i64) -> Receipt {
        let mut state = self.0.lock();
        let Some(reading) = state.begun(partition) else { return Receipt::Dropped };
        reading.is_fetched = true;
        if reading.received.is_some_and(|received| offset < received) {
            // The partition has shrunk: the client reports its end.
            reading.end_reported = false;
            reading.end = i64::MAX;
        }
        reading.received = Some(offset);
        if offset >= reading.unread_from {
            reading.unread_from = offset + 1;
            reading.is_uncommitted = reading.finished.is_some();
        }
        let is_end = offset + 1 >= reading.end && !reading.end_reported;
        if is_end { Receipt::KeptAtEnd } else { Receipt::Kept }
    }

    /// Every record that the partition had was received. Returns whether that is news.
    pub(super) fn reach_end(&self, partition: i32) -> bool {
        let mut state = self.0.lock();
        let reading = state.begun(partition);
        reading.is_some_and(|reading| !std::mem::replace(&mut reading.end_reported, true))
    }

    /// The client has fetched at the end of a partition.
    pub(super) fn set_fetched(&self, partition: i32) {
        if let Some(reading) = self.0.lock().begun(partition) {
            reading.is_fetched = true;
        }
    }

    /// These partitions are not fetched for now.
    pub(super) fn pause(&self, partitions: &[i32]) {
        for (partition, reading) in &mut self.0.lock().partitions {
            if partitions.contains(partition) {
                reading.paused_at.get_or_insert_with(Instant::now);
            }
        }
    }

    /// These partitions are fetched again: the pause does not count.
    pub(super) fn resume(&self, partitions: &[i32]) {
        for (partition, reading) in &mut self.0.lock().partitions {
            if partitions.contains(partition)
                && let Some(paused_at) = reading.paused_at.take()
            {
                reading.since += paused_at.elapsed();
            }
        }
    }

    /// Those of these partitions whose readings have begun, and that are not paused.
    pub(super) fn fetched(&self, partitions: &[i32]) -> Vec<i32> {
        let state = self.0.lock();
        let is_fetched = |partition: &&i32| {
            let reading = state.partitions.get(partition);
            reading.is_some_and(|reading| reading.has_begun && reading.paused_at.is_none())
        };
        partitions.iter().filter(is_fetched).copied().collect()
    }

    /// The partitions whose start is unknown for this long, or of which nothing was fetched since. Those
    /// that are paused are not fetched.
    pub(super) fn unread_for(&self, time: Duration) -> Vec<i32> {
        let state = self.0.lock();
        let is_unread = |(_, reading): &(&i32, &PartitionReading)| {
            let is_fetched = reading.has_begun && reading.is_fetched;
            !is_fetched && reading.paused_at.is_none() && reading.since.elapsed() >= time
        };
        state.partitions.iter().filter(is_unread).map(|(partition, _)| *partition).collect()
    }

    /// Everything below this offset is finished, in the reading with this number.
    pub(super) fn finish(&self, partition: i32, number: u64, offset: i64) {
        let mut state = self.0.lock();
        if let Some(reading) = state.begun(partition).filter(|reading| reading.number == number) {
            reading.finished = Some(offset);
            reading.is_uncommitted = true;
        }
    }

    /// The client's position is here: what is between it and the finished records is no record. Only
    /// for the thread that polls: it has received every record below the position.
    pub(super) fn pass(&self, partition: i32, position: i64) {
        let mut state = self.0.lock();
        let Some(reading) = state.begun(partition) else { return };
        let finished = reading.finished.unwrap_or(-1);
        let all_is_finished = reading.received.is_none_or(|received| received < finished);
        if all_is_finished && position > finished {
            reading.finished = Some(position);
            reading.is_uncommitted = true;
        }
    }

    /// What has to be committed, which counts as committed until [`Self::set_uncommitted`].
    pub(super) fn take_uncommitted(
        &self,
        topic: &str,
        starts: &StartingOffsets,
    ) -> KafkaResult<TopicPartitionList> {
        let mut state = self.0.lock();
        let mut list = TopicPartitionList::new();
        for (partition, reading) in state.partitions.iter_mut().filter(|(_, r)| r.is_uncommitted) {
            let Some(finished) = reading.finished else { continue };
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(finished))?;
            let topic_id = reading.topic_id.as_ref();
            if let Some(metadata) = starts.metadata(topic_id, reading.unread_from) {
                element.set_metadata(metadata);
            }
            reading.is_uncommitted = false;
            reading.sent = Some(SentCommit { offset: finished, at: Instant::now() });
        }
        Ok(list)
    }

    /// The statistics show this offset as committed. Returns whether the last commit has failed: it is
    /// repeated then.
    pub(super) fn is_commit_lost(&self, partition: i32, committed: i64) -> bool {
        let mut state = self.0.lock();
        let Some(reading) = state.begun(partition) else { return false };
        let Some(sent) = &reading.sent else { return false };
        let is_lost = sent.offset != committed && sent.at.elapsed() >= CONFIRMED_AFTER;
        if is_lost || sent.offset == committed {
            reading.sent = None;
        }
        reading.is_uncommitted |= is_lost;
        is_lost
    }

    /// Commit again what is not confirmed yet: there will be no later time for it.
    pub(super) fn repeat_unconfirmed(&self) {
        for reading in self.0.lock().partitions.values_mut() {
            reading.is_uncommitted |= reading.sent.take().is_some();
        }
    }

    /// The commit of these partitions has failed: it has to be repeated. Harmless where another has
    /// succeeded since.
    pub(super) fn set_uncommitted(&self, list: &TopicPartitionList) {
        let mut state = self.0.lock();
        for element in list.elements() {
            if let Some(reading) = state.partitions.get_mut(&element.partition()) {
                reading.is_uncommitted = reading.finished.is_some();
            }
        }
    }
}

#[cfg(test)]
mod tests;
