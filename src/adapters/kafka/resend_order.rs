//! Keeps the order of messages with the same key when some of them have to be sent again.
//!
//! librdkafka keeps the order of what it accepts, but a message that failed and is enqueued again
//! would land behind its successors. While a message of a key has failed and is not acknowledged,
//! later messages of that key wait for it; other keys are not affected.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The messages to be sent again or held back, by key, each with its sequence number.
#[derive(Default)]
pub(super) struct ResendOrder {
    pending: Mutex<HashMap<Vec<u8>, BTreeSet<u64>>>,
    next_sequence: AtomicU64,
    changed: Notify,
}

/// The place of one message in the resend order. Dropping it lets the next message proceed, also
/// where the publishing task is cancelled.
pub(super) struct ResendEntry {
    order: Arc<ResendOrder>,
    /// Messages without a key have no order.
    key: Option<Vec<u8>>,
    sequence: u64,
}

impl ResendOrder {
    /// A sequence number for a message; they increase in the order of the calls.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a message of this key has failed and is not acknowledged yet.
    pub(super) fn has_pending(&self, key: Option<&[u8]>) -> bool {
        key.is_some_and(|key| self.pending.lock().contains_key(key))
    }

    /// Add a message that failed, or that has to wait for one that failed.
    pub(super) fn join(self: &Arc<Self>, key: Option<&[u8]>, sequence: u64) -> ResendEntry {
        if let Some(key) = key {
            self.pending.lock().entry(key.to_vec()).or_default().insert(sequence);
        }
        ResendEntry { order: self.clone(), key: key.map(<[u8]>::to_vec), sequence }
    }
}

impl ResendEntry {
    /// Wait until no message of the same key with a lower sequence number is pending.
    pub(super) async fn wait_for_predecessors(&self) {
        let Some(key) = &self.key else { return };
        loop {
            let changed = self.order.changed.notified();
            tokio::pin!(changed);
            // Registered before the check below, so that no change in between is missed.
            changed.as_mut().enable();
            let first = self.order.pending.lock().get(key).and_then(|all| all.first().copied());
            if first.is_none_or(|first| first >= self.sequence) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for ResendEntry {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut pending = self.order.pending.lock();
        if let Some(sequences) = pending.get_mut(key) {
            sequences.remove(&self.sequence);
            if sequences.is_empty() {
                pending.remove(key);
            }
        }
        drop(pending);
        self.order.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn failed_messages_of_one_key_are_resent_in_their_original_order() {
        let order = Arc::new(ResendOrder::default());
        let (one, two, three) =
            (order.next_sequence(), order.next_sequence(), order.next_sequence());
        let second = order.join(Some(b"a"), two);
        let first = order.join(Some(b"a"), one);
        assert!(order.has_pending(Some(b"a")));
        assert!(!order.has_pending(Some(b"b")) && !order.has_pending(None));
        let third = order.join(Some(b"a"), three);
        assert_eq!(first.wait_for_predecessors().now_or_never(), Some(()));
        assert_eq!(second.wait_for_predecessors().now_or_never(), None);
        let mut third_waits =
            Box::pin(timeout(Duration::from_secs(5), third.wait_for_predecessors()));
        assert!((&mut third_waits).now_or_never().is_none());
        drop(first);
        assert_eq!(second.wait_for_predecessors().now_or_never(), Some(()));
        drop(second);
        third_waits.as_mut().await.expect("the third message may go");
        drop(third_waits);
        drop(third);
        assert!(!order.has_pending(Some(b"a")));
        assert_eq!(order.join(None, 9).wait_for_predecessors().now_or_never(), Some(()));
    }
}
