//! Keeps the order of messages with the same key: each waits until its predecessors are acknowledged.
//!
//! librdkafka keeps the order of what it accepts, but a message that timed out and is enqueued again
//! would land behind a successor that was enqueued meanwhile. So a key has one message at a time in
//! the client; other keys are not affected.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The messages that are not acknowledged yet, by key, each with its sequence number.
#[derive(Default)]
pub(super) struct PublishOrder(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    pending: HashMap<Arc<[u8]>, Pending>,
    next_sequence: u64,
}

#[derive(Default)]
struct Pending {
    sequences: BTreeSet<u64>,
    /// Notified when one of them has left.
    changed: Arc<Notify>,
}

/// The place of one message in the order of its key. Dropping it lets the next message proceed, also
/// where the publishing task is cancelled.
pub(super) struct OrderEntry {
    order: Arc<PublishOrder>,
    key: Arc<[u8]>,
    sequence: u64,
    changed: Arc<Notify>,
}

impl PublishOrder {
    /// Add a message behind those of the same key.
    pub(super) fn join(self: &Arc<Self>, key: &[u8]) -> OrderEntry {
        let key: Arc<[u8]> = key.into();
        let mut keys = self.0.lock();
        let sequence = keys.next_sequence;
        keys.next_sequence += 1;
        let pending = keys.pending.entry(key.clone()).or_default();
        pending.sequences.insert(sequence);
        OrderEntry { order: self.clone(), key, sequence, changed: pending.changed.clone() }
    }
}

impl OrderEntry {
    /// Whether no predecessor is pending.
    pub(super) fn is_first(&self) -> bool {
        let keys = self.order.0.lock();
        let pending = keys.pending.get(&self.key);
        pending.is_none_or(|pending| pending.sequences.first() == Some(&self.sequence))
    }

    /// Wait until no predecessor is pending.
    pub(super) async fn wait_for_predecessors(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the check below, so that no change in between is missed.
            changed.as_mut().enable();
            if self.is_first() {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for OrderEntry {
    fn drop(&mut self) {
        let mut keys = self.order.0.lock();
        if let Some(pending) = keys.pending.get_mut(&self.key) {
            pending.sequences.remove(&self.sequence);
            if pending.sequences.is_empty() {
                keys.pending.remove(&self.key);
            }
        }
        drop(keys);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn messages_of_one_key_proceed_one_by_one_in_the_order_of_their_joining() {
        let order = Arc::new(PublishOrder::default());
        let (first, second, third) = (order.join(b"a"), order.join(b"a"), order.join(b"a"));
        assert!(order.join(b"b").is_first(), "another key");
        assert!(first.is_first() && !second.is_first() && !third.is_first());
        assert_eq!(second.wait_for_predecessors().now_or_never(), None);
        let mut third_waits =
            Box::pin(timeout(Duration::from_secs(5), third.wait_for_predecessors()));
        assert!((&mut third_waits).now_or_never().is_none());
        drop(second);
        assert!((&mut third_waits).now_or_never().is_none(), "the first is still pending");
        drop(first);
        third_waits.as_mut().await.expect("the third message may go");
        drop(third_waits);
        drop(third);
        assert!(order.0.lock().pending.is_empty());
        assert!(order.join(b"a").is_first());
    }
}
