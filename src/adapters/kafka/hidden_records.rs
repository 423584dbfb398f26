//! When "not found" in a topic means that a message is not there.
//!
//! A consumer sees a partition up to its high watermark. Where a replica has stopped answering, the
//! leader may have appended a message behind it: such a record is hidden until the replica is dropped
//! from the in-sync set, or, under `min.insync.replicas`, until enough replicas are back. A message
//! that timed out is therefore in doubt, and sending it again could publish it twice. It is certainly
//! not in its partition if a lookup does not find it that begins after a *later* message of the same
//! client was acknowledged there: the acknowledgement raises the high watermark above everything
//! appended before, and the broker appends no message of a client behind a later one, because their
//! sequence numbers have gone on or their epoch is a newer one.
//!
//! A message of another client (the one without batches, or a successor) proves the first half only:
//! a request of ours that was on its way all the time may be appended after it. It counts if it was
//! enqueued [`HIDDEN_AT_MOST`] after the failure.
//!
//! Without other messages one in doubt per partition is sent again after [`HIDDEN_AT_MOST`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::replaceable_producer::ProducerClientId;
use crate::domain::wire::Channel;

/// With `replica.lag.time.max.ms` = 30 s, its default, a leader drops a silent replica after 45 s at
/// the latest.
const HIDDEN_AT_MOST: Duration = Duration::from_secs(45);
/// Without other replicas a record is visible once it is appended; a leader that was paused, or has too
/// much to do, appends what it had received within seconds of running again.
const APPENDED_AFTER: Duration = Duration::from_secs(5);

/// A partition of one of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TopicPartition {
    pub(super) channel: Channel,
    pub(super) partition: i32,
}

/// What is known of each partition.
#[derive(Default)]
pub(super) struct HiddenRecords(Mutex<HashMap<TopicPartition, Known>>);

#[derive(Default)]
struct Known {
    /// When the latest acknowledged message of each client was enqueued.
    acknowledged: HashMap<ProducerClientId, Instant>,
    /// A message in doubt is sent again for want of others.
    has_trial: bool,
}

/// A message may have been appended without being visible.
pub(super) struct PossiblyAppended {
    at: TopicPartition,
    client: ProducerClientId,
    since: Instant,
    hidden: Arc<HiddenRecords>,
    has_replicas: bool,
    is_trial: bool,
}

impl HiddenRecords {
    /// A message that was enqueued at this client at this time has been acknowledged.
    pub(super) fn acknowledged(
        &self,
        at: TopicPartition,
        client: ProducerClientId,
        enqueued: Instant,
    ) {
        let mut partitions = self.0.lock();
        let latest = partitions.entry(at).or_default().acknowledged.entry(client);
        latest.and_modify(|latest| *latest = enqueued.max(*latest)).or_insert(enqueued);
    }

    /// A message of this partition has just failed in this client, and may have been appended.
    pub(super) fn doubt(
        self: &Arc<Self>,
        at: TopicPartition,
        client: ProducerClientId,
    ) -> PossiblyAppended {
        PossiblyAppended {
            at,
            client,
            since: Instant::now(),
            hidden: self.clone(),
            has_replicas: true,
            is_trial: false,
        }
    }
}

impl PossiblyAppended {
    /// A lookup has found out whether the topic has more than one replica.
    pub(super) fn set_has_replicas(&mut self, has_replicas: bool) {
        self.has_replicas = has_replicas;
    }

    /// Whether the message is sent again for want of others, without a proof. Its next failure leaves
    /// this one in doubt.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Whether the message may be sent again after a lookup that begins now and does not find it.
    pub(super) fn is_resolved_by_lookup(&mut self) -> bool {
        let mut partitions = self.hidden.0.lock();
        let known = partitions.entry(self.at).or_default();
        let at_most = if self.has_replicas { HIDDEN_AT_MOST } else { APPENDED_AFTER };
        let is_proof = |client: &ProducerClientId, enqueued: &Instant| match *client == self.client
        {
            true => *enqueued > self.since,
            false => *enqueued >= self.since + at_most,
        };
        if known.acknowledged.iter().any(|(client, enqueued)| is_proof(client, enqueued)) {
            known.has_trial &= !std::mem::take(&mut self.is_trial);
            return true;
        }
        let is_next = self.is_trial || !known.has_trial;
        if is_next && self.since.elapsed() >= at_most {
            (known.has_trial, self.is_trial) = (true, true);
        }
        self.is_trial
    }
}

impl Drop for PossiblyAppended {
    fn drop(&mut self) {
        if self.is_trial
            && let Some(known) = self.hidden.0.lock().get_mut(&self.at)
        {
            known.has_trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HERE: TopicPartition = TopicPartition { channel: Channel::Outcomes, partition: 0 };
    const THERE: TopicPartition = TopicPartition { channel: Channel::Outcomes, partition: 1 };
    const US: ProducerClientId = ProducerClientId(0);
    const OTHER: ProducerClientId = ProducerClientId(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_later_acknowledged_message_of_the_partition_resolves_a_doubt() {
        let hidden = Arc::new(HiddenRecords::default());
        let before = Instant::now();
        advance(SECOND).await;
        let (mut here, mut there) = (hidden.doubt(HERE, US), hidden.doubt(THERE, US));
        hidden.acknowledged(HERE, US, before);
        assert!(!here.is_resolved_by_lookup(), "that one was enqueued before");
        advance(SECOND).await;
        hidden.acknowledged(HERE, US, Instant::now());
        assert!(here.is_resolved_by_lookup());
        assert!(!there.is_resolved_by_lookup());
        hidden.acknowledged(HERE, US, before);
        assert!(here.is_resolved_by_lookup(), "acknowledgements may come in any order");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_another_client_does_not_keep_ours_from_being_appended_after_it() {
        let hidden = Arc::new(HiddenRecords::default());
        let mut ours = hidden.doubt(HERE, US);
        advance(HIDDEN_AT_MOST - SECOND).await;
        hidden.acknowledged(HERE, OTHER, Instant::now());
        assert!(!ours.is_resolved_by_lookup(), "our request may still be on its way");
        // Another one of ours is sent again meanwhile, so this one is not.
        let mut trial = hidden.doubt(HERE, US);
        advance(HIDDEN_AT_MOST).await;
        assert!(trial.is_resolved_by_lookup() && !ours.is_resolved_by_lookup());
        hidden.acknowledged(HERE, OTHER, Instant::now());
        assert!(ours.is_resolved_by_lookup(), "nothing is on its way for this long");
    }

    #[tokio::test(start_paused = true)]
    async fn without_other_messages_one_message_of_a_partition_is_sent_again() {
        let hidden = Arc::new(HiddenRecords::default());
        let (mut first, mut second) = (hidden.doubt(HERE, US), hidden.doubt(HERE, US));
        advance(HIDDEN_AT_MOST - SECOND).await;
        assert!(!first.is_resolved_by_lookup());
        advance(SECOND).await;
        assert!(first.is_resolved_by_lookup() && first.is_resolved_by_lookup());
        assert!(first.is_trial(), "nothing is proved");
        assert!(!second.is_resolved_by_lookup(), "it waits for the acknowledgement of the first");
        drop(first);
        assert!(second.is_resolved_by_lookup() && second.is_trial());
        hidden.acknowledged(HERE, US, Instant::now());
        assert!(second.is_resolved_by_lookup() && !second.is_trial(), "proved meanwhile");
        let mut alone = hidden.doubt(THERE, US);
        alone.set_has_replicas(false);
        advance(APPENDED_AFTER).await;
        assert!(alone.is_resolved_by_lookup(), "no replica delays what the leader appends");
    }
}
