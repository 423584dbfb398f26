//! Where a partition is read from, as its committed offset and the topic's id say.
//!
//! A topic may have been deleted and created again, or shrunk, since the offset was committed. An
//! offset beyond the end is reset by librdkafka too, but it stays committed: once the partition has
//! grown beyond it, the next owner would skip records. So the new start is committed at once. An
//! offset that is not beyond the end is recognised by the topic's id, which we commit as metadata:
//! see [`CommitMark`]. The requests block; `start_checks` sends them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::partition_start::{DiscardedOffset, PartitionStart, UnknownStart};
use super::rebalance::partition_list;
use super::topic_identity::TopicIdentity;

/// Time limit of each request.
const LIMIT: Duration = Duration::from_secs(3);
/// The same of one whose answer does not matter.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// Where a mark names the topic's id, the client is given this time to learn today's.
const ID_LIMIT: Duration = Duration::from_secs(5);
/// In a mark: the broker gives its topics no ids.
const NO_ID: &str = "-";

/// The metadata of a committed offset.
#[derive(Debug, PartialEq, Eq)]
struct CommitMark {
    /// Groups are mirrored to other clusters with their metadata. The topic has another id there, and
    /// the offset counts.
    cluster_id: Arc<str>,
    /// The topic that the offset belongs to.
    topic_id: Arc<str>,
    /// No record of the partition from this offset on was ever read by the group.
    unread_from: i64,
}

impl fmt::Display for CommitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.cluster_id, self.topic_id, self.unread_from)
    }
}

impl CommitMark {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (cluster_id, topic_id) = (words.next()?.into(), words.next()?.into());
        let unread_from = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { cluster_id, topic_id, unread_from })
    }
}

/// What the brokers say of one partition.
#[derive(Debug)]
struct FoundOffsets {
    due: UnknownStart,
    committed: Option<i64>,
    mark: Option<CommitMark>,
    end: i64,
}

/// Which offset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartRule {
    Committed,
    /// Everything in a new topic is new.
    OtherTopic,
    /// The partition has shrunk; `auto.offset.reset` decides.
    BeyondEnd,
    /// `auto.offset.reset` decides.
    NoOffset,
}

/// The offsets at which this consumer starts to read, and what it commits with them.
pub(super) struct StartingOffsets {
    topic: Arc<str>,
    identity: TopicIdentity,
    cluster_id: OnceLock<Arc<str>>,
    /// `auto.offset.reset`; `None`: it is an error that there is no offset.
    reset: Option<Offset>,
}

impl StartingOffsets {
    pub(super) fn new(topic: Arc<str>, reset: Option<Offset>) -> Self {
        let identity = TopicIdentity::new(&topic);
        Self { topic, identity, cluster_id: OnceLock::new(), reset }
    }

    pub(super) fn identity(&self) -> &TopicIdentity {
        &self.identity
    }

    /// The metadata of an offset of the topic with this id.
    pub(super) fn metadata(&self, topic_id: Option<&Arc<str>>, unread_from: i64) -> Option<String> {
        let cluster_id = self.cluster_id.get()?.clone();
        let topic_id = topic_id.cloned().unwrap_or_else(|| NO_ID.into());
        Some(CommitMark { cluster_id, topic_id, unread_from }.to_string())
    }

    /// Ask the brokers where these partitions are to be read from. Partitions that they have not
    /// answered for are missing in the result.
    pub(super) fn find<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        due: &[UnknownStart],
    ) -> KafkaResult<Vec<PartitionStart>> {
        if self.cluster_id.get().is_none()
            && let Some(id) = client.client().fetch_cluster_id(LIMIT)
        {
            drop(self.cluster_id.set(id.into()));
        }
        let topic_id = self.identity.id();
        let is_settled = topic_id.is_some() && self.identity.settled_id() == topic_id;
        let mut found = self.ask(client, due)?;
        found.retain(|offsets| {
            if topic_id.is_none() && self.committed_id(offsets).is_some() {
                return offsets.due.since.elapsed() >= ID_LIMIT;
            }
            // A broker whose metadata are outdated must not make us read everything again.
            is_settled || self.rule(offsets, topic_id.as_ref()) != StartRule::OtherTopic
        });
        let with = |rules: &[StartRule]| {
            let of_rule =
                |offsets: &&FoundOffsets| rules.contains(&self.rule(offsets, topic_id.as_ref()));
            found.iter().filter(of_rule).map(|offsets| offsets.due.partition).collect::<Vec<_>>()
        };
        let reset = with(&[StartRule::BeyondEnd, StartRule::NoOffset]);
        let mut starts =
            self.special_offsets(client, &with(&[StartRule::OtherTopic]), Offset::Beginning)?;
        if let Some(to) = self.reset {
            starts.extend(self.special_offsets(client, &reset, to)?);
        }
        let start = |offsets| self.start(offsets, topic_id.clone(), &starts);
        Ok(found.into_iter().filter_map(start).collect())
    }

    fn ask<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        due: &[UnknownStart],
    ) -> KafkaResult<Vec<FoundOffsets>> {
        let partitions: Vec<_> = due.iter().map(|due| due.partition).collect();
        let committed =
            client.committed_offsets(partition_list(&self.topic, &partitions), LIMIT)?;
        let ends = self.special_offsets(client, &partitions, Offset::End)?;
        let found = |due: &UnknownStart| {
            let element = committed.find_partition(&self.topic, due.partition)?;
            element.error().ok()?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let mark = CommitMark::parse(element.metadata());
            let end = offset_of(&ends, due.partition)?;
            Some(FoundOffsets { due: due.clone(), committed, mark, end })
        };
        let found: Vec<_> = due.iter().filter_map(found).collect();
        if found.is_empty() {
            committed.elements().iter().try_for_each(TopicPartitionListElem::error)?;
        }
        Ok(found)
    }

    /// The id of the topic that the committed offset belongs to, as far as this cluster has given it.
    fn committed_id<'f>(&self, found: &'f FoundOffsets) -> Option<&'f Arc<str>> {
        let mark = found.mark.as_ref().filter(|_| found.committed.is_some())?;
        let is_known = *mark.topic_id != *NO_ID && Some(&mark.cluster_id) == self.cluster_id.get();
        is_known.then_some(&mark.topic_id)
    }

    fn rule(&self, found: &FoundOffsets, topic_id: Option<&Arc<str>>) -> StartRule {
        let is_another = |id: &Arc<str>| topic_id.is_some_and(|current| current != id);
        let known = [self.committed_id(found), found.due.read_before.as_ref()];
        if known.into_iter().flatten().any(is_another) {
            return StartRule::OtherTopic;
        }
        match found.committed {
            Some(offset) if offset > found.end => StartRule::BeyondEnd,
            Some(_) => StartRule::Committed,
            None => StartRule::NoOffset,
        }
    }

    fn start(
        &self,
        found: FoundOffsets,
        topic_id: Option<Arc<str>>,
        new_starts: &[(i32, i64)],
    ) -> Option<PartitionStart> {
        let rule = self.rule(&found, topic_id.as_ref());
        let committed_id = self.committed_id(&found).cloned();
        let FoundOffsets { due, committed, mark, end } = found;
        let new_start = offset_of(new_starts, due.partition);
        let is_committed = rule == StartRule::Committed;
        if rule == StartRule::OtherTopic || (!is_committed && self.reset.is_some()) {
            new_start?;
        }
        let is_discarded = matches!(rule, StartRule::OtherTopic | StartRule::BeyondEnd)
            // Where the partition was being read, `reading_starts` has logged that.
            && due.read_before.is_none();
        let discarded = committed.filter(|_| is_discarded);
        let discarded = discarded.map(|committed| DiscardedOffset { committed, end });
        // Only our own mark of this topic proves that nobody has read the records behind the offset:
        // an operator may have set the offset back, and a mirrored one lags behind.
        let known_id = topic_id.as_deref().unwrap_or(NO_ID);
        let is_ours = |mark: &CommitMark| {
            is_committed
                && *mark.topic_id == *known_id
                && Some(&mark.cluster_id) == self.cluster_id.get()
        };
        let unread_from = mark.filter(is_ours).map_or(end, |mark| mark.unread_from);
        // Where the client has not learned the topic's id yet, a later one must not count as this one's.
        let topic_id = topic_id.or(committed_id);
        let offset = if is_committed { committed } else { new_start };
        let is_new = !is_committed && offset.is_some();
        Some(PartitionStart { due, offset, end, unread_from, topic_id, is_new, discarded })
    }

    /// Send the leaders of these partitions a request, whatever they answer.
    pub(super) fn ask_leaders<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        partitions: &[i32],
    ) {
        drop(self.list_offsets(client, partitions, Offset::End, ASK_LIMIT));
    }

    /// One request per broker: the look-up by time takes the special offsets as times.
    fn list_offsets<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        partitions: &[i32],
        which: Offset,
        limit: Duration,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = partition_list(&self.topic, partitions);
        list.set_all_offsets(which)?;
        client.offsets_for_times(list, limit)
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
        let found = self.list_offsets(client, partitions, which, LIMIT)?;
        let offset = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) if element.error().is_ok() => {
                Some((element.partition(), offset))
            }
            _ => None,
        };
        let offsets: Vec<_> = found.elements().iter().filter_map(offset).collect();
        if offsets.is_empty() {
            found.elements().iter().try_for_each(TopicPartitionListElem::error)?;
        }
        Ok(offsets)
    }
}

fn offset_of(offsets: &[(i32, i64)], partition: i32) -> Option<i64> {
    offsets.iter().find(|(found, _)| *found == partition).map(|(_, offset)| *offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets() -> StartingOffsets {
        let offsets = StartingOffsets::new("in".into(), Some(Offset::Beginning));
        drop(offsets.cluster_id.set("c".into()));
        offsets
    }

    fn found(committed: Option<i64>, metadata: &str) -> FoundOffsets {
        let due = UnknownStart::new(0, 1, None);
        FoundOffsets { due, committed, mark: CommitMark::parse(metadata), end: 10 }
    }

    #[test]
    fn only_another_topic_of_the_same_cluster_is_another_one() {
        let rule = |metadata, id: Option<&str>| {
            let id = id.map(Arc::from);
            offsets().rule(&found(Some(5), metadata), id.as_ref())
        };
        assert_eq!(rule("c one 7", Some("two")), StartRule::OtherTopic);
        for (metadata, id) in [
            ("c one 7", Some("one")),
            ("d one 7", Some("two")),
            ("", Some("two")),
            ("c - 7", Some("two")),
            ("c one 7", None),
        ] {
            assert_eq!(rule(metadata, id), StartRule::Committed, "{metadata} {id:?}");
        }
    }

    #[test]
    fn what_was_read_of_the_old_topic_makes_this_one_another() {
        let mut found = found(None, "");
        found.due.read_before = Some("one".into());
        assert_eq!(offsets().rule(&found, Some(&"two".into())), StartRule::OtherTopic);
        assert_eq!(offsets().rule(&found, Some(&"one".into())), StartRule::NoOffset);
    }

    #[test]
    fn a_start_without_the_topics_id_keeps_that_of_its_mark() {
        let of = |metadata| offsets().start(found(Some(5), metadata), None, &[]).unwrap().topic_id;
        assert_eq!(of("c one 7").as_deref(), Some("one"));
        assert_eq!(of("d one 7"), None, "the id of another cluster");
    }

    #[test]
    fn only_an_own_mark_of_this_topic_proves_what_is_unread() {
        let unread_from = |committed, metadata| {
            let start = offsets().start(found(committed, metadata), Some("one".into()), &[(0, 0)]);
            start.unwrap().unread_from
        };
        assert_eq!(unread_from(Some(5), "c one 7"), 7);
        assert_eq!(unread_from(None, ""), 10, "the group has lost its offsets");
        assert_eq!(unread_from(Some(5), ""), 10, "an operator has set it back");
        assert_eq!(unread_from(Some(5), "d one 7"), 10, "it is mirrored");
        assert_eq!(unread_from(Some(5), "c two 7"), 10, "another topic");
        assert_eq!(unread_from(Some(50), "c one 50"), 10, "beyond the end");
    }

    #[test]
    fn a_start_that_was_not_committed_is_committed() {
        let start = |committed, metadata, starts: &[(i32, i64)]| {
            let start = offsets().start(found(committed, metadata), Some("one".into()), starts)?;
            Some((start.offset.unwrap(), start.is_new))
        };
        assert_eq!(start(Some(5), "c one 7", &[]), Some((5, false)));
        assert_eq!(start(Some(5), "c two 7", &[(0, 3)]), Some((3, true)));
        assert_eq!(start(Some(11), "", &[(0, 3)]), Some((3, true)));
        assert_eq!(start(None, "", &[(0, 3)]), Some((3, true)));
        assert_eq!(start(None, "", &[]), None, "not answered");
    }

    #[test]
    fn an_offset_that_does_not_count_is_reported_unless_the_topic_was_being_read() {
        let discarded = |committed, metadata: &str, read_before: Option<&str>| {
            let mut found = found(committed, metadata);
            found.due.read_before = read_before.map(Arc::from);
            let start = offsets().start(found, Some("two".into()), &[(0, 0)]).unwrap();
            start.discarded.map(|offset| (offset.committed, offset.end))
        };
        assert_eq!(discarded(Some(5), "c two 7", None), None);
        assert_eq!(discarded(Some(5), "c one 7", None), Some((5, 10)));
        assert_eq!(discarded(Some(50), "", None), Some((50, 10)));
        assert_eq!(discarded(None, "", None), None);
        assert_eq!(discarded(Some(5), "c one 7", Some("one")), None);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let metadata = offsets().metadata(Some(&"a/b+".into()), 42).unwrap();
        let mark = CommitMark::parse(&metadata).unwrap();
        assert_eq!((&*mark.cluster_id, &*mark.topic_id, mark.unread_from), ("c", "a/b+", 42));
        assert_eq!(CommitMark::parse("c one 7 8"), None);
        assert_eq!(CommitMark::parse("somebody's own"), None);
    }
}
