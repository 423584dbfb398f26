//! How the consumer's thread begins to read a partition: after an assignment, and again where the
//! topic was created again.
//!
//! First it is found out from where (`start_checks`), then the client is set there, then `consume`
//! learns it. Whatever the client delivers afterwards belongs to that reading (`readings`). Until then the
//! client fetches nothing of the partition, and asks for no offset of it: a question that is open when the
//! client is set somewhere else is asked again by librdkafka, and its answer sets the client there. Records
//! in between would be skipped.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::callbacks::ConsumerCallbacks;
use super::partition_start::{PartitionStart, UnknownStart};
use super::readings::Receipt;
use super::rebalance::{is_incremental, partition_list, partition_numbers};
use super::start_checks::{PAUSE, wake_leaders};
use crate::consume::Inbound;
use crate::domain::record::Record;

/// Time limit of a seek, which no broker has to answer.
const SEEK_LIMIT: Duration = Duration::from_secs(1);
/// A partition of a new topic is fetched within this time: three seconds until its id is believed, and
/// some requests.
const UNREAD_LIMIT: Duration = Duration::from_secs(8);
/// A partition whose reading has begun is fetched within this time, also where it is empty.
const FETCH_AGAIN: Duration = Duration::from_secs(2);

impl ConsumerCallbacks {
    /// Where the topic was created again, find out where to read it from; and begin the readings of
    /// which that is known by now.
    pub(super) fn follow_topic(&self, client: &BaseConsumer<Self>) {
        let identity = self.starting_offsets.identity();
        if let Some(topic_id) = identity.id() {
            self.readings.set_unknown_topics(&topic_id);
        }
        if let Some(topic_id) = identity.settled_id() {
            let due = self.readings.end_of_other_topics(&topic_id);
            if !due.is_empty() {
                let partitions: Vec<_> = due.iter().map(|due| due.partition).collect();
                warn!(
                    kafka.topic = %self.topic,
                    kafka.partitions = ?partitions,
                    "the topic was created again; reading it from its start"
                );
                self.hold(client, &partitions);
                self.find_starts(due, Duration::ZERO);
            }
        }
        let starts = self.start_checks.received();
        if !starts.is_empty() {
            self.seek(client, starts);
        }
    }

    /// Whether only a new client reads the topic that was created again. librdkafka keeps the leader
    /// epochs of the old topic; where its brokers had been restarted, they are higher than those of the
    /// new one: the broker refuses every fetch, and librdkafka takes its metadata for outdated.
    pub(super) fn needs_new_client(&self) -> bool {
        if !self.starting_offsets.identity().has_changed() {
            return false;
        }
        let unread = self.readings.unread_for(UNREAD_LIMIT);
        if unread.is_empty() {
            return false;
        }
        warn!(
            kafka.topic = %self.topic,
            kafka.partitions = ?unread,
            "nothing is read of the topic that was created again, replacing the consumer client"
        );
        true
    }

    fn find_starts(&self, due: Vec<UnknownStart>, delay: Duration) {
        if let Some(client) = self.client.get() {
            self.start_checks.start(client.clone(), due, delay);
        }
    }

    /// Read assigned partitions from there, and tell `consume`.
    fn seek(&self, client: &BaseConsumer<Self>, mut starts: Vec<PartitionStart>) {
        starts.retain(|start| self.readings.is_due(&start.due));
        let mut failed = Vec::new();
        starts.retain(|start| {
            // Without an offset the client reports the error that `auto.offset.reset` asks for.
            let offset = start.offset.map_or(Offset::Invalid, Offset::Offset);
            let sought = client.seek(&self.topic, start.due.partition, offset, SEEK_LIMIT);
            if let Err(error) = &sought {
                debug!(kafka.partition = start.due.partition, %error, "failed to seek");
                failed.push(start.due.clone());
            }
            sought.is_ok()
        });
        self.begin(client, &starts);
        if !failed.is_empty() {
            self.find_starts(failed, PAUSE);
        }
    }

    /// The client reads these partitions from their starts, so `consume` does.
    fn begin(&self, client: &BaseConsumer<Self>, starts: &[PartitionStart]) {
        if starts.is_empty() {
            return;
        }
        let begun = starts.iter().map(|start| self.readings.begin(start)).collect();
        drop(self.inbound.send(Inbound::ReadingStarts(begun)));
        let partitions: Vec<_> = starts.iter().map(|start| start.due.partition).collect();
        if let Err(error) = self.fetch(client, &partitions) {
            debug!(kafka.partitions = ?partitions, %error, "failed to fetch from the start");
        }
        let at_end = |start: &&PartitionStart| start.offset.is_some_and(|at| at >= start.end);
        for start in starts.iter().filter(at_end) {
            self.on_partition_end(start.due.partition);
        }
    }

    /// Assign partitions. They are read as soon as it is known from where: no broker has to answer
    /// before that, so nothing is waited for here.
    pub(super) fn assign(
        &self,
        client: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        self.fetch_partition_count(client);
        let partitions = partition_numbers(list);
        let due = self.readings.add(&partitions);
        for &partition in &partitions {
            // Any number does, because there will be a seek. If the client had to ask for the committed
            // offset and were refused once, it would never read the partition.
            list.set_partition_offset(&self.topic, partition, Offset::Offset(0))?;
        }
        let is_held = self.hold(client, &partitions);
        if is_incremental(client) {
            client.incremental_assign(list)?;
        } else {
            client.assign(list)?;
        }
        // The client did not know all of them.
        if !is_held {
            self.hold(client, &partitions);
        }
        drop(self.inbound.send(Inbound::Assigned(partitions)));
        if !due.is_empty() {
            self.find_starts(due, Duration::ZERO);
        }
        Ok(())
    }

    /// Fetch nothing of these partitions until their readings begin. Returns whether the client knows all
    /// of them.
    fn hold(&self, client: &BaseConsumer<Self>, partitions: &[i32]) -> bool {
        let _changing = self.fetching.lock();
        self.stalled.set_paused(partitions, true);
        let list = partition_list(&self.topic, partitions);
        let held = client.pause(&list);
        held.is_ok() && list.elements().iter().all(|element| element.error().is_ok())
    }

    /// Fetch what should be fetched and may not be: librdkafka drops a request to go on that meets one of
    /// its own for the same partition, and reports success. Where it was not dropped this does nothing.
    pub(super) fn fetch_again(&self, client: &BaseConsumer<Self>) {
        let _changing = self.fetching.lock();
        let unread = self.readings.fetched(&self.readings.unread_for(FETCH_AGAIN));
        if !unread.is_empty()
            && let Err(error) = client.resume(&partition_list(&self.topic, &unread))
        {
            debug!(kafka.partitions = ?unread, %error, "failed to fetch again");
        }
    }

    /// Fetch those of these partitions whose readings have begun, and that `consume` has not paused.
    fn fetch(&self, client: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        let _changing = self.fetching.lock();
        let fetched = self.readings.fetched(partitions);
        if fetched.is_empty() {
            return Ok(());
        }
        self.stalled.set_paused(&fetched, false);
        client.resume(&partition_list(&self.topic, &fetched))?;
        if let Some(client) = self.client.get() {
            wake_leaders(client.clone(), fetched);
        }
        Ok(())
    }

    /// `consume` wants no records of these partitions.
    pub(super) fn pause(&self, client: &BaseConsumer<Self>, partitions: &[i32]) -> KafkaResult<()> {
        let _changing = self.fetching.lock();
        self.readings.pause(partitions);
        self.stalled.set_paused(partitions, true);
        client.pause(&partition_list(&self.topic, partitions))
    }

    /// `consume` wants the records of these partitions again.
    pub(super) fn resume(
        &self,
        client: &BaseConsumer<Self>,
        partitions: &[i32],
    ) -> KafkaResult<()> {
        self.readings.resume(partitions);
        self.fetch(client, partitions)
    }

    /// Buffer a record for `consume`, if its partition is read.
    pub(super) fn buffer(&self, record: Record) {
        let (partition, offset) = (record.position.partition, record.position.offset);
        let receipt = self.readings.receive(partition, offset);
        if receipt != Receipt::Dropped {
            self.removed.on_record(partition, offset);
            self.inbound.buffer(record);
        }
        if receipt == Receipt::KeptAtEnd {
            self.on_partition_end(partition);
        }
    }

    /// The client has fetched at the end of a partition.
    pub(super) fn on_fetched_end(&self, partition: i32) {
        self.readings.set_fetched(partition);
        self.on_partition_end(partition);
    }

    /// Every record of a partition was polled. librdkafka says so at each fetch that reaches another
    /// end; `consume` needs it once per reading.
    pub(super) fn on_partition_end(&self, partition: i32) {
        if self.readings.reach_end(partition) {
            drop(self.inbound.send(Inbound::EndReached(partition)));
        }
    }
}
