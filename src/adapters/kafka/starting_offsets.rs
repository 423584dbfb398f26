//! Where a partition is read from when its committed offset belongs to another topic than today's.
//!
//! A topic may have been deleted and created again, or shrunk, since the offset was committed. An
//! offset beyond the end is reset by librdkafka too, but it stays committed: once the partition has
//! grown beyond it, the next owner would skip records. So the new start is committed at once. An
//! offset that is not beyond the end is recognised by the topic's id, which we commit as metadata.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::rebalance::{is_incremental, partition_list, partition_numbers};
use super::topic_identity::TopicIdentity;

/// Time limit of each request.
const LIMIT: Duration = Duration::from_secs(3);

/// The offsets at which this consumer starts to read, and what it commits with them.
pub(super) struct StartingOffsets {
    topic: Arc<str>,
    identity: TopicIdentity,
    cluster_id: OnceLock<String>,
    /// `auto.offset.reset`; `None`: it is an error that there is no offset.
    reset: Option<Offset>,
    /// The topic was created again, and its partitions are not read from their start yet.
    must_restart: AtomicBool,
}

impl StartingOffsets {
    pub(super) fn new(topic: Arc<str>, auto_offset_reset: Option<&str>) -> Self {
        let reset = match auto_offset_reset {
            Some("latest" | "largest" | "end") => Some(Offset::End),
            Some("error") => None,
            _ => Some(Offset::Beginning),
        };
        let identity = TopicIdentity::new(&topic);
        let must_restart = AtomicBool::new(false);
        Self { topic, identity, cluster_id: OnceLock::new(), reset, must_restart }
    }

    pub(super) fn identity(&self) -> &TopicIdentity {
        &self.identity
    }

    /// Correct the offsets of partitions that are about to be assigned. Returns those to be committed
    /// after that.
    fn correct<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        assigned: &mut TopicPartitionList,
    ) -> KafkaResult<Vec<(i32, i64)>> {
        if self.cluster_id.get().is_none()
            && let Some(id) = client.client().fetch_cluster_id(LIMIT)
        {
            drop(self.cluster_id.set(id));
        }
        let partitions = partition_numbers(assigned);
        let committed =
            client.committed_offsets(partition_list(&self.topic, &partitions), LIMIT)?;
        let ends = self.special_offsets(client, &partitions, Offset::End)?;
        let current = self.metadata();
        let (mut of_old_topic, mut beyond_end) = (Vec::new(), Vec::new());
        for element in committed.elements() {
            let (partition, Offset::Offset(offset)) = (element.partition(), element.offset())
            else {
                continue;
            };
            let end = ends.iter().find(|(found, _)| *found == partition).map(|(_, end)| *end);
            if is_of_another_topic(element.metadata(), current.as_deref()) {
                of_old_topic.push(partition);
            } else if end.is_some_and(|end| end < offset) {
                beyond_end.push(partition);
            } else {
                continue;
            }
            warn!(
                kafka.partition = partition,
                committed_offset = offset,
                end_offset = end,
                "committed offset of an earlier topic or beyond the end; reading from a new start"
            );
        }
        // Everything in a new topic is new; elsewhere the operator's rule decides.
        let mut starts = self.special_offsets(client, &of_old_topic, Offset::Beginning)?;
        if let Some(reset) = self.reset {
            starts.extend(self.special_offsets(client, &beyond_end, reset)?);
        }
        for (partition, start) in &starts {
            assigned.set_partition_offset(&self.topic, *partition, Offset::Offset(*start))?;
        }
        Ok(starts)
    }

    /// Assign partitions at their committed offsets, if those belong to the topic.
    pub(super) fn assign<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        let corrected = self.correct(client, list).unwrap_or_else(|error| {
            debug!(%error, "failed to check the committed offsets");
            Vec::new()
        });
        if is_incremental(client) {
            client.incremental_assign(list)?;
        } else {
            client.assign(list)?;
        }
        if let Err(error) = self.commit(client, &corrected) {
            warn!(%error, "failed to commit offsets");
        }
        Ok(())
    }

    /// Whether the topic was created again since the last call: it is to be read from its start.
    pub(super) fn take_change(&self) -> bool {
        let is_changed = self.identity.take_change();
        if is_changed {
            warn!(kafka.topic = %self.topic, "the topic was created again; reading it from its start");
            self.must_restart.store(true, Ordering::Relaxed);
        }
        is_changed
    }

    /// Read the assigned partitions from their start, if the topic was created again.
    pub(super) fn restart<C: ConsumerContext>(&self, client: &BaseConsumer<C>) {
        if self.must_restart.load(Ordering::Relaxed) {
            match self.seek_to_start(client) {
                Ok(()) => self.must_restart.store(false, Ordering::Relaxed),
                // The new topic may have no leader yet: the next poll tries again.
                Err(error) => debug!(%error, "failed to read the topic from its start"),
            }
        }
    }

    fn seek_to_start<C: ConsumerContext>(&self, client: &BaseConsumer<C>) -> KafkaResult<()> {
        let partitions = partition_numbers(&client.assignment()?);
        let starts = self.special_offsets(client, &partitions, Offset::Beginning)?;
        for (partition, start) in &starts {
            client.seek(&self.topic, *partition, Offset::Offset(*start), LIMIT)?;
        }
        self.commit(client, &starts)
    }

    /// Commit these offsets, also below those that are committed. Does not wait for the broker.
    pub(super) fn commit<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        offsets: &[(i32, i64)],
    ) -> KafkaResult<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        client.commit(&self.offset_list(offsets)?, CommitMode::Async)
    }

    /// Offsets with their metadata, to be stored or committed.
    pub(super) fn offset_list(&self, offsets: &[(i32, i64)]) -> KafkaResult<TopicPartitionList> {
        let metadata = self.metadata();
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let mut element = list.add_partition(&self.topic, *partition);
            element.set_offset(Offset::Offset(*offset))?;
            if let Some(metadata) = &metadata {
                element.set_metadata(metadata);
            }
        }
        Ok(list)
    }

    /// The metadata of a committed offset: which topic it belongs to. Groups are mirrored to other
    /// clusters with their metadata; the topic has another id there, and the offset counts.
    fn metadata(&self) -> Option<String> {
        Some(format!("{}/{}", self.cluster_id.get()?, self.identity.id()?))
    }

    /// The first or the end offset of each partition.
    fn special_offsets<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        partitions: &[i32],
        which: Offset,
    ) -> KafkaResult<Vec<(i32, i64)>> {
        if partitions.is_empty() {
            return Ok(vec![]);
        }
        // One request per broker: the look-up by time takes the special offsets as times.
        let mut list = partition_list(&self.topic, partitions);
        list.set_all_offsets(which)?;
        let found = client.offsets_for_times(list, LIMIT)?;
        let offset = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) if element.error().is_ok() => {
                Some((element.partition(), offset))
            }
            _ => None,
        };
        Ok(found.elements().iter().filter_map(offset).collect())
    }
}

fn is_of_another_topic(committed: &str, current: Option<&str>) -> bool {
    let ids = |metadata: &str| metadata.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let (Some(committed), Some(current)) = (ids(committed), current.and_then(ids)) else {
        return false;
    };
    committed.0 == current.0 && committed.1 != current.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_topic_of_the_same_cluster_is_another_one() {
        assert!(is_of_another_topic("c/one", Some("c/two")));
        for (committed, current) in [
            ("c/one", Some("c/one")),
            ("d/one", Some("c/two")),
            ("", Some("c/two")),
            ("c/one", None),
        ] {
            assert!(!is_of_another_topic(committed, current), "{committed} {current:?}");
        }
    }
}
